"""A picture of one recording: event frames over time, above its labels and the predictions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from edgeclf.data.frame_store import FrameStore
from edgeclf.figures import LEFT_OUT_COLOUR, class_colours, new_figure, short
from edgeclf.utils_metrics.results import check_range
from edgeclf_runtime.errors import EdgeclfError, InputFileError
from edgeclf_runtime.outputs.event_image import event_image, image_scale

FRAMES_SHOWN = 10
_LEGEND_COLUMNS = 8
_WIDTH, _LEFT, _RIGHT = 12.0, 0.95, 0.25
"""Of the picture, and of its margins, in inches."""


class RecordingVectors(NamedTuple):
    """What was predicted for a recording, an entry for each of its frames.

    Attributes:
        timestamps_us: int64 `[N]`, end of the frame's time slice in µs, in the recording's own time, none before the
            one of the frame before.
        predictions: int64 `[N]`, the outputs chosen.
        labels: int64 `[N]`, the right outputs, -1 where a frame is left out.
    """

    timestamps_us: NDArray[np.int64]
    predictions: NDArray[np.int64]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, path: str, given: Sequence[Any], outputs: int) -> RecordingVectors:
        """Returns three vectors (tensors, arrays or lists) as arrays.

        Args:
            path: The recording, for errors.
            given: Time stamps, predictions and labels.
            outputs: Number of outputs of the model.

        Raises:
            EdgeclfError: Where they are not three vectors of one length, or hold what cannot be.
        """
        if len(given) != 3:
            raise EdgeclfError(
                f"{path}: res_per_recording holds {len(given)} vectors for it; give time stamps, predictions and "
                "labels."
            )
        times, predictions, labels = (torch.as_tensor(values).cpu().long() for values in given)
        if not times.shape == predictions.shape == labels.shape or times.ndim != 1 or not len(times):
            raise EdgeclfError(
                f"{path}: res_per_recording holds time stamps, predictions and labels of the shapes "
                f"{tuple(times.shape)}, {tuple(predictions.shape)} and {tuple(labels.shape)}; give three vectors with "
                "an entry for each frame."
            )
        if (times[1:] < times[:-1]).any():
            raise EdgeclfError(f"{path}: the time stamps in res_per_recording do not ascend; give the frames in order.")
        check_range(path, labels, predictions, outputs)
        return cls(times.numpy(), predictions.numpy(), labels.numpy())

    @property
    def edges_us(self) -> NDArray[np.int64]:
        """Where each frame starts, and where the last one ends, `[N + 1]`.

        The first frame's start is not among the time stamps; it is taken to be as long as the second one, and 1 µs
        long at least, as is a single frame.
        """
        ends = self.timestamps_us
        return np.concatenate([ends[:1] - max(1, int(ends[1] - ends[0]) if len(ends) > 1 else 1), ends])


def draw_recording(path: Path, frames: FrameStore, vectors: RecordingVectors, labels: Sequence[str]) -> Figure:
    """Draws a recording.

    Args:
        path: Its file, for its name.
        frames: Its event frames.
        vectors: What was predicted for it.
        labels: Names of the model's outputs.

    Raises:
        InputFileError: Where the recording has another number of frames.
        DamagedInputError: Where a frame cannot be read.
    """
    edges = vectors.edges_us
    shown = evenly_over_time(edges, FRAMES_SHOWN)
    images = _read_images(path, frames, shown, len(vectors.labels))
    rows, columns = images[0].shape[:2]
    slot = (_WIDTH - _LEFT - _RIGHT) / len(images)
    image_height = min(slot * 0.94 * rows / columns, 2.0)
    seen = sorted({*vectors.labels.tolist(), *vectors.predictions.tolist()})
    bands_height, below = 1.15, 0.65 + 0.2 * ceil(len(seen) / _LEGEND_COLUMNS)
    height = 0.55 + image_height + 0.22 + bands_height + below
    figure = new_figure(_WIDTH, height)
    figure.set_layout_engine("none")  # the images stand exactly above their time

    def place(left: float, bottom: float, width: float, tall: float) -> Axes:
        return figure.add_axes((left / _WIDTH, bottom / height, width / _WIDTH, tall / height))

    scale, unit = (1e6, "s") if edges[-1] - edges[0] >= 1_000_000 else (1e3, "ms")
    for i, (index, image) in enumerate(zip(shown, images, strict=True)):
        axes = place(_LEFT + (i + 0.03) * slot, below + bands_height + 0.22, 0.94 * slot, image_height)
        axes.imshow(image, interpolation="nearest")
        axes.set_title(_time(edges[index + 1] / scale, unit), fontsize=8, pad=3)
        axes.set(xticks=[], yticks=[])
    bands = place(_LEFT, below, _WIDTH - _LEFT - _RIGHT, bands_height)
    _draw_bands(bands, edges / scale, vectors, labels, seen)
    bands.set_xlabel(f"time in {unit}")
    for index in shown:
        bands.axvline(edges[index : index + 2].mean() / scale, ymin=1.0, ymax=1.08, color="#555555", clip_on=False)
    counted = vectors.labels >= 0
    right = f"{(vectors.predictions == vectors.labels)[counted].mean():.1%} right" if counted.any() else "not labelled"
    figure.suptitle(
        f"{short(path.stem, 60)}: {len(counted)} frames, {right}", y=1 - 0.1 / height, va="top", fontsize="medium"
    )
    return figure


def evenly_over_time(edges: NDArray[np.int64], count: int) -> list[int]:
    """Returns the indices of the frames that lie in the middle of `count` equal parts of a recording's time.

    Args:
        edges: Start of each frame and end of the last one, `[N + 1]`.
        count: How many, at most; fewer where there are fewer frames.
    """
    count = min(count, len(edges) - 1)
    middles = edges[0] + (np.arange(count) + 0.5) / count * (edges[-1] - edges[0])
    return [int(index) for index in np.searchsorted(edges, middles, side="right") - 1]


def _read_images(path: Path, frames: FrameStore, shown: Sequence[int], count: int) -> list[NDArray[np.float32]]:
    """Returns some of a recording's `count` frames as images, one scale for all, so that quiet times look quiet."""
    if len(frames.read(count - 1, count + 1)) != 1:  # the last one and, if there is one, the next
        raise InputFileError(
            f"{path}: {count} frames of it were predicted, and it has not as many now; evaluate the data set again as "
            "it is."
        )
    read = [frames.read(index, index + 1)[0] for index in shown]
    scale = image_scale(read)
    return [event_image(frame, scale) for frame in read]


def _time(value: float, unit: str) -> str:
    return f"{value:.2f} {unit}" if unit == "s" else f"{value:.0f} {unit}"


def _draw_bands(
    axes: Axes, edges: NDArray[np.float64], vectors: RecordingVectors, labels: Sequence[str], seen: Sequence[int]
) -> None:
    """Draws labels and predictions as bands of colour over time, a mark where they differ, and what is seen of both."""
    colours = class_colours(labels)
    wrong = (vectors.labels >= 0) & (vectors.labels != vectors.predictions)
    for y, values in ((2, vectors.labels), (1, vectors.predictions)):
        for start, stop, value in _runs(values):
            left, width = edges[start], edges[stop] - edges[start]
            if value < 0:
                axes.broken_barh(
                    [(left, width)], (y - 0.42, 0.84), facecolor=LEFT_OUT_COLOUR, edgecolor="#bbbbbb", hatch="////",
                    linewidth=0,
                )  # fmt: skip
                continue
            axes.broken_barh([(left, width)], (y - 0.42, 0.84), facecolor=colours[value])
            name = short(labels[value], 14)
            if width / (edges[-1] - edges[0]) > 0.007 * len(name) + 0.004:  # it fits
                axes.text(left + width / 2, y, name, ha="center", va="center", fontsize=8, color=_ink(colours[value]))
    for start, stop, value in _runs(wrong.astype(np.int64)):
        if value:
            axes.broken_barh([(edges[start], edges[stop] - edges[start])], (0.15, 0.3), facecolor="#111111")
    axes.set_yticks([2, 1, 0.3], ["label", "predicted", "wrong"])
    axes.set(ylim=(0.05, 2.5), xlim=(edges[0], edges[-1]))
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    patches = [Patch(facecolor=colours[k], label=short(labels[k])) for k in seen if k >= 0]
    if seen[0] < 0:
        patches.append(Patch(facecolor=LEFT_OUT_COLOUR, edgecolor="#bbbbbb", hatch="////", label="left out"))
    axes.legend(
        handles=patches, loc="upper center", bbox_to_anchor=(0.5, -0.38), frameon=False, fontsize=8,
        ncols=min(len(patches), _LEGEND_COLUMNS),
    )  # fmt: skip


def _runs(values: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Returns start, stop (not included) and value of each longest run of equal values."""
    bounds = [0, *(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist(), len(values)]
    return [(start, stop, int(values[start])) for start, stop in pairwise(bounds)]


def _ink(colour: tuple[float, float, float]) -> str:
    """Returns black or white, whichever can be read on a colour (relative luminance of Rec. 709)."""
    red, green, blue = colour
    return "white" if 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.5 else "#111111"
