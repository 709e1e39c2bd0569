"""Plots of a classifier's predictions: confusion, precision and recall, ROC, reliability.

Frames labelled -1 are left out of all of them. Each returns a figure that belongs to nobody else (nothing of pyplot's
is touched) and is saved where a path is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from edgeclf.figures import finished, new_figure, panels, short
from edgeclf.utils_metrics.calibration import BINS, Reliability, reliability
from edgeclf.utils_metrics.curves import Curve, precision_recall_curve, roc_curve
from edgeclf.utils_metrics.results import labelled_predictions, labelled_probabilities

_BLUE, _RED, _GREY = "#4477aa", "#cc6677", "#999999"


def plot_cm(preds_all: Tensor, labels_all: Tensor, labels: Sequence[str], *, path: str | Path | None = None) -> Figure:
    """Draws the confusion matrix and, beside it, the same without its diagonal, so that rare errors can be seen.

    Rows are the right classes, columns the predicted ones. Colours and percentages are shares of the row, the numbers
    are frames; a row without frames is empty.

    Args:
        preds_all: Predicted outputs, whole numbers `[...]`, or probabilities `[..., K]`, of which the largest counts.
        labels_all: Right outputs `[...]`, -1 where a frame is left out.
        labels: Names of the K outputs.
        path: Image file to save it to, where given.

    Raises:
        EdgeclfError: Where the two do not fit together, or no frame is labelled.
        UsageError: Where nothing can be written there.
    """
    counts = confusion_matrix(preds_all, labels_all, len(labels))
    cells = len(labels) * _cell_inches(len(labels))  # what stands around them comes besides
    figure = new_figure(2 * max(cells + 2.2, 4), max(cells, 1.5) + 1.6)
    confusion, errors = figure.subplots(1, 2)
    shares = row_shares(counts)
    diagonal = np.eye(len(labels), dtype=bool)
    _draw_matrix(confusion, np.ma.masked_invalid(shares), counts, labels, "Blues", 1.0)
    confusion.set_title(f"{counts.trace() / counts.sum():.2%} of {counts.sum()} frames right", fontsize="medium")
    off_diagonal = np.ma.masked_where(diagonal | np.isnan(shares), shares)
    largest = float(off_diagonal.max()) if off_diagonal.count() else 0.0
    _draw_matrix(errors, off_diagonal, counts, labels, "Reds", largest)
    errors.set_title(f"the {counts.sum() - counts.trace()} errors alone", fontsize="medium")
    return finished(figure, path)


def plot_precision_recall_curve(
    preds_all: Tensor, labels_all: Tensor, labels: Sequence[str], *, path: str | Path | None = None
) -> Figure:
    """Draws precision over recall of each class against all others, with its average precision (AP).

    The dashed line is what guessing gives: the share of frames that are of the class.

    Args:
        preds_all: Probabilities `[..., K]`.
        labels_all: Right outputs `[...]`, -1 where a frame is left out.
        labels: Names of the K outputs.
        path: Image file to save it to, where given.

    Raises:
        EdgeclfError: Where the two do not fit together, are no probabilities, or no frame is labelled.
        UsageError: Where nothing can be written there.
    """
    probabilities, right = labelled_probabilities(preds_all, labels_all, labels)
    figure, axes = panels(len(labels), 2.7, 2.7)
    for k, panel in enumerate(axes):
        share = float((right == k).double().mean())
        panel.axhline(share, color=_GREY, linestyle="--", linewidth=1)
        curve = precision_recall_curve(probabilities[:, k], right == k)
        _draw_curve(panel, curve, short(labels[k]), f"AP {curve.area:.3f}", steps=True)
    figure.supxlabel("recall")
    figure.supylabel("precision")
    return finished(figure, path)


def plot_roc(preds_all: Tensor, labels_all: Tensor, labels: Sequence[str], *, path: str | Path | None = None) -> Figure:
    """Draws the receiver operating characteristic of each class against all others, with the area under it (AUC).

    The dashed line is what guessing gives.

    Args:
        preds_all: Probabilities `[..., K]`.
        labels_all: Right outputs `[...]`, -1 where a frame is left out.
        labels: Names of the K outputs.
        path: Image file to save it to, where given.

    Raises:
        EdgeclfError: Where the two do not fit together, are no probabilities, or no frame is labelled.
        UsageError: Where nothing can be written there.
    """
    probabilities, right = labelled_probabilities(preds_all, labels_all, labels)
    figure, axes = panels(len(labels), 2.7, 2.7)
    for k, panel in enumerate(axes):
        panel.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1)
        curve = roc_curve(probabilities[:, k], right == k)
        _draw_curve(panel, curve, short(labels[k]), f"AUC {curve.area:.3f}", steps=False)
    figure.supxlabel("false positive rate")
    figure.supylabel("true positive rate")
    return finished(figure, path)


def plot_reliability(
    preds_all: Tensor,
    labels_all: Tensor,
    labels: Sequence[str],
    *,
    bins: int = BINS,
    path: str | Path | None = None,
) -> Figure:
    """Draws the reliability diagram: how often predictions are right at each confidence, and how common that is.

    Args:
        preds_all: Probabilities `[..., K]`; the largest is the confidence and its class the prediction.
        labels_all: Right outputs `[...]`, -1 where a frame is left out.
        labels: Names of the K outputs.
        bins: Number of bins of the confidence; 15 is what the KPI `expected_calibration_error` takes.
        path: Image file to save it to, where given.

    Raises:
        EdgeclfError: Where the two do not fit together, are no probabilities, or no frame is labelled.
        UsageError: Where nothing can be written there.
    """
    probabilities, right = labelled_probabilities(preds_all, labels_all, labels)
    figure = new_figure(5, 6)
    _draw_reliability(figure, reliability(probabilities, probabilities.argmax(1), right, bins))
    return finished(figure, path)


def confusion_matrix(preds_all: Tensor, labels_all: Tensor, outputs: int) -> NDArray[np.int64]:
    """Returns frames by right class (rows) and predicted class (columns), `[K, K]`.

    Args:
        preds_all: Predicted outputs, or probabilities; see `plot_cm`.
        labels_all: Right outputs, -1 where a frame is left out.
        outputs: K.

    Raises:
        EdgeclfError: Where the two do not fit together, or no frame is labelled.
    """
    predictions, right = labelled_predictions(preds_all, labels_all, outputs)
    counts: NDArray[np.int64] = multiclass_confusion_matrix(predictions, right, outputs).numpy()
    return counts


def row_shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns each row divided by its sum; NaN where that is 0."""
    sums = counts.sum(1, keepdims=True)
    shares = np.full(counts.shape, np.nan)
    np.divide(counts, sums, out=shares, where=sums > 0)
    return shares


def _cell_inches(size: int) -> float:
    """Returns the side of a cell of a matrix with `size` rows."""
    return 0.95 if size <= 4 else 0.75 if size <= 10 else 0.5


def _draw_matrix(
    axes: Axes,
    shares: np.ma.MaskedArray[tuple[int, int], np.dtype[np.float64]],
    counts: NDArray[np.int64],
    labels: Sequence[str],
    colours: str,
    largest: float,
) -> None:
    """Draws shares as colours and writes shares and counts into those cells that are not masked and not 0."""
    size = len(labels)
    scale = max(largest, 1e-6)
    axes.set_facecolor("#eeeeee")  # seen where a value is masked
    image = axes.imshow(shares, cmap=colours, vmin=0, vmax=scale)
    figure = axes.get_figure()
    assert figure is not None
    figure.colorbar(
        image, ax=axes, fraction=0.046, format=lambda share, _: f"{100 * share:.3g}%", label="share of the row"
    )
    fontsize, digits = (9, 3) if size <= 10 else (6.5, 2)
    for row, column in np.argwhere((counts > 0) & ~np.ma.getmaskarray(shares)):
        share = float(shares[row, column])
        axes.text(
            column,
            row,
            f"{_percent(share, digits)}\n{short_count(counts[row, column])}",
            ha="center",
            va="center",
            fontsize=fontsize,
            linespacing=1.0,
            color="white" if share > 0.6 * scale else "#222222",
        )
    frame_matrix(axes, labels, _cell_inches(size))


def frame_matrix(axes: Axes, labels: Sequence[str], cell_inches: float) -> None:
    """Names the rows and columns of a confusion matrix that `imshow` drew, and parts its cells by lines.

    Args:
        axes: Where it was drawn.
        labels: Names of the outputs.
        cell_inches: Side of a cell; one inch takes eleven letters.
    """
    size, names = len(labels), [short(label) for label in labels]
    axes.set_xticks(range(size), names, rotation=0 if max(map(len, names)) <= 11 * cell_inches else 90)
    axes.set_yticks(range(size), names)
    axes.set(xlabel="predicted", ylabel="label")
    axes.set_xticks(np.arange(size - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(size - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)


def _percent(share: float, digits: int) -> str:
    """Returns a share as a percentage of so many digits."""
    return f"{100 * share:#.{digits}g}".removesuffix(".") + "%"


def short_count(value: int) -> str:
    """Returns a count that fits a cell, e.g. 12.3k."""
    if value < 10_000:
        return str(value)
    return f"{value / 1000:.3g}k" if value < 999_500 else f"{value / 1e6:.3g}M"


def frame_curve(axes: Axes, missing: str = "") -> None:
    """Gives axes the frame of a curve from 0 to 1 over 0 to 1.

    Args:
        axes: Where the curve will be drawn.
        missing: Why there is none; written in its place.
    """
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")
    axes.grid(color="#eeeeee")
    if missing:
        axes.text(0.5, 0.5, f"no curve:\n{fill(missing, 18)}", ha="center", va="center", fontsize=9)


def _draw_curve(axes: Axes, curve: Curve, title: str, label: str, *, steps: bool) -> None:
    axes.set_title(title, fontsize="medium", pad=18)  # the legend is below it, where it hides no curve
    frame_curve(axes, curve.missing)
    if curve.missing:
        return
    # Clipped at the frame, a curve along an edge would be half as thick.
    axes.plot(
        curve.x.numpy(),
        curve.y.numpy(),
        color=_BLUE,
        label=label,
        drawstyle="steps-post" if steps else "default",
        clip_on=False,
    )
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False, handlelength=1.2, borderaxespad=0.1)


def _draw_reliability(figure: Figure, found: Reliability) -> None:
    diagram, histogram = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    diagram.set(ylim=(0, 1.02), xlim=(0, 1), ylabel="share of frames that are right")
    histogram.set(xlabel="confidence: probability of the predicted class", ylabel="share of frames")
    total = int(found.counts.sum())
    if not total:  # at least one frame was counted, so its confidence has no place on the axis
        for axes in (diagram, histogram):
            axes.text(0.5, 0.5, "no diagram:\na probability is not a number", ha="center", va="center")
        return
    bins = len(found.counts)
    centres = (np.arange(bins) + 0.5) / bins
    filled = (found.counts > 0).numpy()
    accuracy, confidence = found.accuracy.numpy()[filled], found.confidence.numpy()[filled]
    diagram.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="as sure as right")
    diagram.bar(centres[filled], accuracy, 1 / bins, color=_BLUE, edgecolor="white", label="accuracy")
    diagram.vlines(centres[filled], accuracy, confidence, color=_RED, linewidth=1.5)
    diagram.plot(centres[filled], confidence, "_", color=_RED, markersize=14, markeredgewidth=2, label="confidence")
    diagram.set_title(f"expected calibration error {found.error:.4f}", fontsize="medium")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9, columnspacing=1.2)
    histogram.bar(centres, found.counts.numpy() / total, 1 / bins, color=_GREY, edgecolor="white")
    histogram.set_title(f"{total} frames", fontsize="medium")
