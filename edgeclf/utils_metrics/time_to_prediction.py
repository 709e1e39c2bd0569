"""Time from the start of a gesture to the first right prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, nan
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from edgeclf.figures import finished, new_figure
from edgeclf_runtime.errors import EdgeclfError


@dataclass(frozen=True)
class TimeToPrediction:
    """How long gestures took to be recognised.

    Attributes:
        latencies_ms: float64 `[R]`, of the gestures that were recognised, in the order of the data; NaN where the
            duration of a frame is not known.
        median_ms: Their median, the mean of the middle two where R is even; NaN where there are none.
        std_ms: Their standard deviation (of a population: 0 for a single one); NaN where there are none.
        gestures: Number of gestures.
        never_recognised: How many of them had no right prediction until their end.
        latency_seq: For each data sample the times in ms of its gestures, in order; infinite for one that was never
            recognised. What `evaluate_preds_seq` takes under this name.
    """

    latencies_ms: Tensor
    median_ms: float
    std_ms: float
    gestures: int
    never_recognised: int
    latency_seq: tuple[tuple[float, ...], ...] = ()

    @property
    def never_recognised_rate(self) -> float:
        """Share of the gestures that had no right prediction until their end; NaN where there is no gesture."""
        return self.never_recognised / self.gestures if self.gestures else nan

    def plot(self, path: str | Path | None = None) -> Figure:
        """Draws the histogram of the times, with median and standard deviation, and a bar for those never recognised.

        Args:
            path: Image file to save it to, where given.

        Raises:
            UsageError: Where nothing can be written there.
        """
        figure = new_figure(8, 4)
        return finished(_draw_histogram(self, figure), path)


def get_1st_nonzeros(tensor: Tensor) -> Tensor:
    """Returns the index of the first value that is not zero along the last axis.

    Where all are zero, it is the index of the last one, as documented for Metavision's function of this name.

    Args:
        tensor: `[..., N]` of any number type or bool, N at least 1.

    Returns:
        int64 `[...]`.

    Raises:
        EdgeclfError: Where N is 0, or there is no axis.
    """
    tensor = torch.as_tensor(tensor)
    if tensor.ndim == 0 or tensor.shape[-1] == 0:
        raise EdgeclfError("The first nonzero value of an empty axis was asked for; there must be one value at least.")
    nonzero = tensor != 0
    first = nonzero.to(torch.uint8).argmax(-1)  # the first of equal values; bool has no argmax
    return torch.where(nonzero.any(-1), first, tensor.shape[-1] - 1)


def calculate_time_to_prediction(
    pred_seq: Sequence[Tensor],
    label_seq: Sequence[Tensor],
    delta_t: int | None = 10000,
    background: int | None = 0,
) -> TimeToPrediction:
    """Returns the times from the start of each gesture to its first right prediction.

    A gesture is a longest run of frames with one label that is not background. Its time ends with the time slice
    whose prediction was right, so a gesture recognised in its first frame took `delta_t`. Frames labelled -1 are looked
    through: they do not end a gesture that goes on after them, and no prediction in them counts, but their time passes.

    Args:
        pred_seq: Predictions of each data sample, int64 `[N]`.
        label_seq: Labels of each data sample, int64 `[N]`, -1 where a frame is left out.
        delta_t: Duration of a frame in µs; None where frames have no fixed one: all times are NaN then.
        background: The label that is no gesture; None where every label is one.

    Raises:
        EdgeclfError: Where predictions and labels do not match in number, or there is no data sample.
    """
    pred_seq, label_seq = list(map(torch.as_tensor, pred_seq)), list(map(torch.as_tensor, label_seq))
    if len(pred_seq) != len(label_seq) or any(p.shape != t.shape for p, t in zip(pred_seq, label_seq, strict=True)):
        raise EdgeclfError(
            "Times to prediction need as many predictions as labels for each data sample, and these differ."
        )
    if not len(pred_seq):
        raise EdgeclfError("Times to prediction were asked for of no data sample at all; give one at least.")
    frames = [
        [_frames_until_right(predictions.cpu(), labels.cpu(), gesture) for gesture in gestures_of(labels, background)]
        for predictions, labels in zip(pred_seq, label_seq, strict=True)
    ]
    frame_ms = nan if delta_t is None else delta_t / 1000
    recognised = [count for sample in frames for count in sample if count is not None]
    latencies = torch.tensor(recognised, dtype=torch.float64) * frame_ms
    gestures = sum(map(len, frames))
    return TimeToPrediction(
        latencies_ms=latencies,
        median_ms=float(latencies.quantile(0.5)) if recognised else nan,
        std_ms=float(latencies.std(correction=0)) if recognised else nan,
        gestures=gestures,
        never_recognised=gestures - len(recognised),
        latency_seq=tuple(
            tuple(float("inf") if count is None else count * frame_ms for count in sample) for sample in frames
        ),
    )


def gestures_of(labels: Tensor, background: int | None) -> Iterator[Tensor]:
    """Yields the indices of the frames of each gesture, those labelled -1 left out; see the function above."""
    labels = labels.cpu()
    (frames,) = torch.nonzero(labels >= 0, as_tuple=True)
    kept = labels[frames]
    starts = (torch.nonzero(kept[1:] != kept[:-1]).flatten() + 1).tolist()
    for gesture in frames.tensor_split(starts):
        if gesture.numel() and int(labels[gesture[0]]) != background:
            yield gesture


def _frames_until_right(predictions: Tensor, labels: Tensor, gesture: Tensor) -> int | None:
    """Returns how many frames a gesture took to be recognised, the right one included; None where it never was."""
    right = predictions[gesture] == labels[gesture]
    return int(gesture[get_1st_nonzeros(right)] - gesture[0]) + 1 if right.any() else None


def time_bins(latencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the edges of bins in whose middles times lie, as they are multiples of a frame's; about 40 at most.

    Args:
        latencies: Times, `[R]`, all over 0, R at least 1.
    """
    frame = np.diff(np.unique(np.append(latencies, 0))).min()
    width = frame * max(1, ceil(latencies.max() / frame / 40))
    edges: NDArray[np.float64] = (np.arange(round(latencies.max() / width) + 2) - 0.5) * width
    return edges


def _draw_histogram(time: TimeToPrediction, figure: Figure) -> Figure:
    times, missed = figure.subplots(1, 2, width_ratios=[5, 1])
    latencies = time.latencies_ms[time.latencies_ms.isfinite()].numpy()
    recognised = time.gestures - time.never_recognised
    times.set(xlabel="time to the first right prediction in ms", ylabel="gestures")
    times.set_title(f"recognised: {recognised} of {time.gestures}", fontsize="medium")
    if latencies.size:
        bins = time_bins(latencies)
        times.hist(latencies, bins=bins, color="#4477aa", edgecolor="white")
        times.set(xlim=(0, bins[-1]))
        times.yaxis.set_major_locator(MaxNLocator(integer=True))
        times.axvline(time.median_ms, color="#222222", linestyle="--", label=f"median {time.median_ms:.1f} ms")
        times.plot([], [], " ", label=f"standard deviation {time.std_ms:.1f} ms")
        times.legend(frameon=False)
    else:
        why = "no gesture was recognised" if not recognised else "the frames have no fixed duration"
        times.text(0.5, 0.5, f"no times: {why}", transform=times.transAxes, ha="center", va="center")
        times.set(xticks=[], yticks=[])
    rate = time.never_recognised_rate
    bar = missed.bar(["never\nrecognised"], [100 * rate if time.gestures else 0], color="#cc6677", width=0.5)
    missed.bar_label(bar, [str(time.never_recognised)])
    missed.set(ylim=(0, 110), xlim=(-0.6, 0.6), ylabel="share of gestures in %", yticks=range(0, 101, 25))
    return figure
