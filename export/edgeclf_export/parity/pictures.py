"""Pictures of a parity check, both sides in each: confusion, curves, times to prediction, drift of the state.

Each is as wide as a phone shows with its text still readable, and as small, in bytes, for a large split as for a small
one: it holds what can be seen, not every frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, isnan
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from edgeclf.figures import new_figure, short
from edgeclf.utils_metrics import (
    Curve,
    TimeToPrediction,
    calculate_time_to_prediction,
    confusion_matrix,
    precision_recall_curve,
    roc_curve,
)
from edgeclf.utils_metrics.plots import frame_curve, frame_matrix, row_shares, short_count
from edgeclf.utils_metrics.time_to_prediction import time_bins
from edgeclf_export.parity.report import Drift, ParityReport, Side
from edgeclf_export.parity.text import NOTHING, frames_text
from edgeclf_runtime.contract import background_index

WIDTH = 5.2
"""Of a picture, in inches."""
REFERENCE_COLOUR, EXPORTED_COLOUR = "#7fb0dd", "#8c1d40"
CURVES_SHOWN = 12
MARKED_CELLS = 12
"""Classes up to which numbers fit the cells of a confusion matrix."""
_FINEST = 500
"""Steps along an axis that a curve is drawn with; no panel is as many pixels wide."""


class ClassCurves(NamedTuple):
    """The curve of one class on both sides."""

    label: str
    reference: Curve
    exported: Curve

    @property
    def area_difference(self) -> float:
        """How far the areas under the two are apart; 0 where neither has one, infinite where one alone has."""
        areas = self.reference.area, self.exported.area
        undefined = [isnan(area) for area in areas]
        if any(undefined):
            return 0.0 if all(undefined) else float("inf")
        return abs(areas[0] - areas[1])


def side_confusion(side: Side, labels: Sequence[str]) -> NDArray[np.int64]:
    """Returns labelled frames of one side by right class (rows) and named class (columns), `[K, K]`."""
    return confusion_matrix(_all(side, "predictions"), _all(side, "labels"), len(labels))


def confusion_difference(report: ParityReport) -> NDArray[np.int64]:
    """Returns how many frames more the exported file has in each cell of the confusion matrix, `[K, K]`."""
    return side_confusion(report.exported, report.labels) - side_confusion(report.reference, report.labels)


def draw_confusion(side: Side, labels: Sequence[str]) -> Figure:
    """Draws the confusion matrix of one side: numbers are frames, colours shares of the row."""
    counts = side_confusion(side, labels)
    shares = np.ma.masked_invalid(row_shares(counts))
    right = f"{counts.trace() / counts.sum():.2%} of {counts.sum()} labelled frames right"
    return _draw_matrix(shares, counts, labels, ("Blues", 0.0, 1.0), right)


def draw_confusion_difference(report: ParityReport) -> Figure:
    """Draws the difference of the confusion matrices, exported minus reference, in frames."""
    difference = confusion_difference(report)
    largest = max(1, int(abs(difference).max()))
    moved = int(abs(difference).sum()) // 2
    # A frame that is named otherwise leaves one cell and enters another of its row; others may take its place.
    title = f"{frames_text(moved)} in another cell" if moved else "no difference in any cell"
    return _draw_matrix(
        np.ma.masked_array(difference, mask=False), difference, report.labels, ("RdBu_r", -largest, largest), title
    )


def roc_curves(report: ParityReport) -> list[ClassCurves]:
    """Returns the ROC curve of each class against all others on both sides."""
    return _curves(report, roc_curve)


def precision_recall_curves(report: ParityReport) -> list[ClassCurves]:
    """Returns the curve of precision over recall of each class on both sides."""
    return _curves(report, precision_recall_curve)


def draw_roc(report: ParityReport) -> Figure:
    """Draws the ROC curves, the exported file's dashed over the reference's; see `most_different`."""
    return _draw_curves(roc_curves(report), "AUC", ("false positive rate", "true positive rate"))


def draw_precision_recall(report: ParityReport) -> Figure:
    """Draws the curves of precision over recall, the exported file's dashed over the reference's."""
    return _draw_curves(precision_recall_curves(report), "AP", ("recall", "precision"))


def most_different(curves: Sequence[ClassCurves]) -> list[ClassCurves]:
    """Returns the classes that are drawn, in the order of the labels: all, or the 12 whose areas differ most."""
    ranked = sorted(range(len(curves)), key=lambda k: -curves[k].area_difference)
    return [curves[k] for k in sorted(ranked[:CURVES_SHOWN])]


def times_to_prediction(report: ParityReport) -> tuple[TimeToPrediction, TimeToPrediction]:
    """Returns the times to prediction of reference and exported file.

    Where frames have no fixed duration, a time of 1 ms stands for a frame.
    """
    return _times(report, report.reference), _times(report, report.exported)


def draw_times_to_prediction(report: ParityReport) -> Figure:
    """Draws the histograms of the times to prediction of both sides, on a log axis where rare times would vanish."""
    sides = times_to_prediction(report)
    figure = new_figure(WIDTH, 3.4)
    axes = figure.subplots()
    unit = "frames" if report.delta_t is None else "ms"
    axes.set(xlabel=f"time from a gesture's start to its first right prediction in {unit}", ylabel="gestures")
    latencies = [time.latencies_ms.numpy() for time in sides]
    if not sum(map(len, latencies)):
        axes.text(0.5, 0.5, "no gesture was recognised", transform=axes.transAxes, ha="center", va="center")
        axes.set(xticks=[], yticks=[])
        return figure
    bins = time_bins(np.concatenate(latencies))
    counts = [np.histogram(times, bins)[0] for times in latencies]
    names = [f"{short(side.name, 30)}: median {_value(time.median_ms, unit)}, never recognised {time.never_recognised}"
             for side, time in zip((report.reference, report.exported), sides, strict=True)]  # fmt: skip
    axes.stairs(counts[0], bins, fill=True, color=REFERENCE_COLOUR, label=names[0])
    axes.stairs(counts[1], bins, color=EXPORTED_COLOUR, linewidth=1.5, label=names[1])
    found = np.concatenate(counts)
    if found.max() > 100 * found[found > 0].min():
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0, bins[-1] + (bins[1] - bins[0]) / 2)
    figure.legend(loc="outside upper left", frameon=False, fontsize=9)
    return figure


def draw_drift(drift: Drift, delta_t: int | None) -> Figure:
    """Draws how far the states are apart over time: the median recording and the worst, on a log axis.

    Frames in which a recording's error is not finite, as where a model overflows, have a mark at the top.

    Args:
        drift: With an error that is not 0 somewhere.
        delta_t: Duration of a frame in µs; None where frames have no fixed one: the axis counts frames then.
    """
    figure = new_figure(WIDTH, 3.4)
    axes = figure.subplots()
    frames = np.arange(1, len(drift.median) + 1, dtype=np.float64)
    time = frames * (1.0 if delta_t is None else delta_t / 1e6)
    drawn = [_as_drawn(values) for values in (drift.largest, drift.median)]
    names = [("largest", EXPORTED_COLOUR), ("median recording", REFERENCE_COLOUR)]
    for values, (name, colour) in zip(drawn, names, strict=True):
        axes.plot(time, values, label=name, color=colour, linewidth=1.5)
    half = np.flatnonzero(2 * drift.recordings >= drift.recordings[0])[-1]
    if half + 1 < len(time):
        axes.axvline(time[half], color="#999999", linestyle=":", label="fewer than half go on")
    axes.set_yscale("log")
    seen = np.log10([value for values in drawn for value in values if value > 0])
    if len(seen):
        axes.set_ylim(10 ** np.floor(seen.min()), 10 ** np.floor(seen.max() + 1))  # whole decades have names
    else:
        axes.set_yticks([], [])
    _mark_top(axes, time[~np.isfinite(drift.largest)], float(time[-1]), "not finite")
    axes.set_xlim(0, time[-1] * 1.02)
    axes.grid(color="#eeeeee")
    axes.set(
        xlabel="frames from the start" if delta_t is None else "time from the start in s",
        ylabel="relative difference of the state",
    )
    figure.legend(loc="outside upper left", ncols=4, frameon=False, fontsize=9, columnspacing=1.2)
    return figure


def _as_drawn(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns what has a place on a log axis, NaN elsewhere."""
    return np.where(np.isfinite(values) & (values > 0), values, np.nan)


def _mark_top(axes: Axes, places: NDArray[np.float64], end: float, label: str) -> None:
    """Puts marks along the top of a picture that ends at `end`, no more of them than can be told apart."""
    if len(places):
        shown = np.unique((places / end * _FINEST).round()) * end / _FINEST
        top = np.full(len(shown), 0.98)
        axes.plot(shown, top, "|", color="#111111", markersize=5, label=label, transform=axes.get_xaxis_transform())


def _all(side: Side, what: str) -> Tensor:
    """Returns one of the tensors of a side's results, all recordings after one another."""
    return torch.cat([getattr(recording.result(), what) for recording in side.recordings])


def _draw_matrix(
    colours: np.ma.MaskedArray[tuple[int, int], np.dtype[np.float64]],
    counts: NDArray[np.int64],
    labels: Sequence[str],
    scale: tuple[str, float, float],
    title: str,
) -> Figure:
    """Draws a matrix with its counts, or, where these do not fit the cells, with the scale of its colours."""
    size = len(labels)
    figure = new_figure(WIDTH, 5.2 if 6 < size <= MARKED_CELLS else 4.6)
    axes = figure.subplots()
    axes.set_facecolor("#eeeeee")  # seen where a row has no frames
    name, lowest, highest = scale
    image = axes.imshow(colours, cmap=name, vmin=lowest, vmax=highest, interpolation="none")
    cell = (WIDTH - 1.2) / size
    frame_matrix(axes, labels, cell)
    axes.tick_params(labelsize=9)
    axes.set_title(title, fontsize="medium")
    if size > MARKED_CELLS:
        figure.colorbar(image, ax=axes, shrink=0.8)
        axes.tick_params(labelsize=max(5.0, min(9.0, 60 * cell)))
        return figure
    dark = np.ma.filled(abs(colours) > 0.6 * highest, False)
    for row, column in np.argwhere(counts != 0):
        value = int(counts[row, column])
        axes.text(
            column, row, f"{'−' if value < 0 else '+' if lowest < 0 else ''}{short_count(abs(value))}", ha="center",
            va="center", fontsize=10 if size <= 6 else 8.5, color="white" if dark[row, column] else "#222222",
        )  # fmt: skip
    return figure


def _curves(report: ParityReport, curve_of: Callable[[Tensor, Tensor], Curve]) -> list[ClassCurves]:
    labels = _all(report.reference, "labels")
    counted = labels >= 0
    right = labels[counted]
    sides = [_all(side, "probabilities")[counted].double() for side in (report.reference, report.exported)]
    return [
        ClassCurves(label, *(curve_of(scores[:, k], right == k) for scores in sides))
        for k, label in enumerate(report.labels)
    ]


def _draw_curves(curves: Sequence[ClassCurves], area: str, names: tuple[str, str]) -> Figure:
    shown = most_different(curves)
    columns = 2 if len(shown) <= 4 else 3
    rows = ceil(len(shown) / columns)
    side = WIDTH / columns
    figure = new_figure(WIDTH, rows * (side + 0.15) + 0.6)
    for k, curve in enumerate(shown):
        _draw_both(figure.add_subplot(rows, columns, k + 1), curve, area)
    figure.supxlabel(names[0], fontsize=10)
    figure.supylabel(names[1], fontsize=10)
    handles = [
        Line2D([], [], color=REFERENCE_COLOUR, linewidth=3, label="reference"),
        Line2D([], [], color=EXPORTED_COLOUR, linestyle="--", label="exported"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return figure


def _draw_both(axes: Axes, curves: ClassCurves, area: str) -> None:
    """Draws both curves of a class, so that equal ones show as one."""
    reference, exported = (f"{curve.area:.3f}" for curve in (curves.reference, curves.exported))
    missing = curves.reference.missing or curves.exported.missing
    areas = "" if missing else f"\n{area} {reference}" + (f" → {exported}" if exported != reference else "")
    axes.set_title(f"{short(curves.label, 16)}{areas}", fontsize=9)
    frame_curve(axes, missing)
    axes.tick_params(labelsize=9)
    if missing:
        return
    steps = "steps-post" if area == "AP" else "default"
    for curve, colour, line, width in (
        (curves.reference, REFERENCE_COLOUR, "-", 3),
        (curves.exported, EXPORTED_COLOUR, "--", 1.2),
    ):
        x, y = thinned(curve)
        axes.plot(x, y, color=colour, linestyle=line, linewidth=width, drawstyle=steps, clip_on=False)


def thinned(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the points of a curve that can be told apart, ends included: a split has as many points as frames."""
    points = np.stack([curve.x.double().numpy(), curve.y.double().numpy()])
    rounded = (points * _FINEST).round()
    moves = np.any(rounded[:, 1:] != rounded[:, :-1], axis=0)
    kept = np.append(True, moves) | np.append(moves, True)  # both ends of every stretch that is drawn
    return points[0, kept], points[1, kept]


def _times(report: ParityReport, side: Side) -> TimeToPrediction:
    results = [recording.result() for recording in side.recordings]
    return calculate_time_to_prediction(
        [result.predictions for result in results],
        [result.labels for result in results],
        1000 if report.delta_t is None else report.delta_t,
        background_index(report.labels),
    )


def _value(value: float, unit: str) -> str:
    return NOTHING if isnan(value) else f"{value:g} {unit}"
