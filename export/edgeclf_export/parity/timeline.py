"""A timeline of the recordings on which the two sides of a parity check differ most."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isnan, nan

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from edgeclf.evaluation import RecordingLogits
from edgeclf.figures import LEFT_OUT_COLOUR, Colour, class_colours, new_figure, short
from edgeclf.utils_metrics import RecordingVectors
from edgeclf_export.parity.pictures import EXPORTED_COLOUR, WIDTH
from edgeclf_export.parity.report import ParityReport
from edgeclf_export.parity.text import frames_text

WORST = 6
COLUMNS = 1000
"""Most frames of a recording that are drawn; more than the picture has pixels on a phone, and on most screens."""
_UNSEEN = 3
"""Digits after which a difference of probabilities counts for nothing in the choice of recordings."""


@dataclass(frozen=True)
class Timeline:
    """Both sides of a recording, frame by frame.

    Attributes:
        name: The recording's name.
        edges: Where each frame starts and the last one ends, `[N + 1]`, in `unit`.
        unit: `s`, in the recording's own time, or `frames` where no time is known.
        labels: int64 `[N]`, -1 where a frame is left out.
        reference: What the reference names, int64 `[N]`.
        exported: What the exported file names.
        difference: Largest difference of a probability in each frame, `[N]`; 1 where one is not a number.
    """

    name: str
    edges: NDArray[np.float64]
    unit: str
    labels: NDArray[np.int64]
    reference: NDArray[np.int64]
    exported: NDArray[np.int64]
    difference: NDArray[np.float64]

    @property
    def disagreements(self) -> int:
        """Frames for which the two name different classes."""
        return int((self.reference != self.exported).sum())

    @property
    def accuracy(self) -> float:
        """The share of labelled frames that the exported file names rightly; NaN where none is labelled."""
        counted = self.labels >= 0
        return float((self.exported == self.labels)[counted].mean()) if counted.any() else nan

    def drawn(self, columns: int = COLUMNS) -> Timeline:
        """Returns so many frames at most, evenly over the recording.

        Each stands for the frames up to the next one. It is the one of them that differs most, of those that are named
        differently if there are any, so that no disagreement is lost.
        """
        count = len(self.labels)
        if count <= columns:
            return self
        weight = self.difference + 2 * (self.reference != self.exported)
        parts = np.array_split(np.arange(count), columns)
        kept = np.array([part[weight[part].argmax()] for part in parts])
        starts = np.array([part[0] for part in parts] + [count])
        return Timeline(
            self.name, self.edges[starts], self.unit, self.labels[kept], self.reference[kept], self.exported[kept],
            self.difference[kept],
        )  # fmt: skip


def timelines(report: ParityReport) -> list[Timeline]:
    """Returns both sides of every recording that has frames, in the report's order."""
    pairs = zip(report.reference.recordings, report.exported.recordings, strict=True)
    return [_timeline(reference, exported) for reference, exported in pairs if len(reference.labels)]


def worst_timelines(report: ParityReport, count: int = WORST) -> list[Timeline]:
    """Returns the recordings on which the two sides differ most, the worst first.

    These are those with most disagreements, of equal ones with the largest difference of a probability (to 0.001), of
    equal ones with the lowest accuracy of the exported file.
    """

    def rank(line: Timeline) -> tuple[float, ...]:
        return (
            -line.disagreements,
            -round(float(line.difference.max()), _UNSEEN),
            1.0 if isnan(line.accuracy) else line.accuracy,
        )

    return sorted(timelines(report), key=rank)[:count]


def draw_timeline(timeline: Timeline, labels: tuple[str, ...], highest: float) -> Figure:
    """Draws a recording: a strip each for labels, reference and exported file, and the probabilities' difference.

    Args:
        timeline: The recording.
        labels: Name of each output.
        highest: Where the axis of the difference ends, so that recordings can be compared.
    """
    drawn = timeline.drawn()
    seen = sorted({*drawn.labels.tolist(), *drawn.reference.tolist(), *drawn.exported.tolist()} - {-1})
    legend_columns = min(4, len(seen))
    figure = new_figure(WIDTH, 2.7 + 0.22 * ceil(len(seen) / legend_columns))
    strips, curve = figure.subplots(2, 1, sharex=True, height_ratios=[1.5, 1])
    _draw_strips(strips, drawn, labels)
    apart = timeline.disagreements  # of all frames, not only of those that are drawn
    found = f"{frames_text(apart)} named differently" if apart else "every frame named alike"
    strips.set_title(f"{short(timeline.name, 32)}: {found}", fontsize="medium", loc="left")
    curve.stairs(drawn.difference, drawn.edges, color=EXPORTED_COLOUR, linewidth=0.9, baseline=None)
    top = highest if highest > 0 else 1.0
    curve.set(ylim=(-0.04 * top, 1.06 * top), yticks=[0, top], xlim=(drawn.edges[0], drawn.edges[-1]))
    curve.set_yticklabels(["0", f"{top:.2g}"])
    curve.set_xlabel("frame" if drawn.unit == "frames" else f"time in {drawn.unit}")
    curve.set_ylabel("largest\ndifference", rotation=0, ha="right", va="center", labelpad=2)
    for axes in (strips, curve):
        axes.tick_params(labelsize=9)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    colours = class_colours(labels)
    handles = [Patch(facecolor=colours[k], label=short(labels[k], 14)) for k in seen]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=legend_columns, frameon=False, fontsize=9,
        handlelength=1.2, columnspacing=1.2,
    )  # fmt: skip
    return figure


def _timeline(reference: RecordingLogits, exported: RecordingLogits) -> Timeline:
    sides = reference.result(), exported.result()
    apart = (sides[0].probabilities.double() - sides[1].probabilities.double()).abs().amax(1).numpy()
    labels, named, found = (t.cpu().long().numpy() for t in (reference.labels, *(s.predictions for s in sides)))
    edges, unit = _edges(reference)
    return Timeline(reference.name, edges, unit, labels, named, found, np.nan_to_num(apart, nan=1.0))


def _edges(recording: RecordingLogits) -> tuple[NDArray[np.float64], str]:
    """Returns where each frame starts and the last one ends, and in which unit."""
    if recording.end_us is not None:
        ends = recording.end_us.numpy()
        return RecordingVectors(ends, ends, ends).edges_us / 1e6, "s"
    return np.arange(len(recording.labels) + 1, dtype=np.float64), "frames"


def _draw_strips(axes: Axes, drawn: Timeline, labels: tuple[str, ...]) -> None:
    colours = class_colours(labels)
    rows = {"labels": drawn.labels, "reference": drawn.reference, "exported": drawn.exported}
    for y, values in zip((3, 2, 1), rows.values(), strict=True):
        for value in np.unique(values).tolist():
            outline = _runs_outline(drawn.edges, values == value, y - 0.42, y + 0.42)
            axes.add_patch(PathPatch(outline, linewidth=0, **_look(value, colours)))
    apart = drawn.reference != drawn.exported
    if apart.any():  # a line as wide as can be seen, even where the frame is not
        middles = (drawn.edges[:-1] + drawn.edges[1:])[apart] / 2
        axes.plot(middles, np.full(len(middles), 0.3), "|", color="#111111", markersize=5)
    ticks = [3, 2, 1] + ([0.3] if apart.any() else [])
    axes.set_yticks(ticks, [*rows, "differ"][: len(ticks)])
    axes.set(ylim=(0.0 if apart.any() else 0.5, 3.5))
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=False)
    axes.spines["left"].set_visible(False)


def _look(value: int, colours: list[Colour]) -> dict[str, object]:
    return (
        {"facecolor": LEFT_OUT_COLOUR, "hatch": "////", "edgecolor": "#bbbbbb"}
        if value < 0
        else {"facecolor": colours[value]}
    )


def _runs_outline(edges: NDArray[np.float64], where: NDArray[np.bool_], bottom: float, top: float) -> Outline:
    """Returns one outline around every run of frames, rather than one for each: the page would not be small."""
    turns = np.diff(np.concatenate([[0], where.astype(np.int8), [0]]))
    starts, stops = edges[np.flatnonzero(turns == 1)], edges[np.flatnonzero(turns == -1)]
    x = np.stack([starts, stops, stops, starts, starts], axis=1)
    y = np.broadcast_to([bottom, bottom, top, top, bottom], x.shape)
    codes = [Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY]
    return Outline(np.stack([x, y], axis=-1).reshape(-1, 2), np.tile(codes, len(x)))
