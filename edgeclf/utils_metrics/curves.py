"""Curves over the threshold of one class's probability: receiver operating characteristic, precision and recall."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_precision_recall_curve,
    binary_roc,
)


@dataclass(frozen=True)
class Curve:
    """A curve of one class against all others.

    Attributes:
        x: float `[P]`: false positive rate (ROC), or recall.
        y: float `[P]`: true positive rate (ROC), or precision.
        area: Area under the ROC curve, or average precision; NaN where there is no curve.
        missing: Why there is no curve; empty where there is one.
    """

    x: Tensor
    y: Tensor
    area: float
    missing: str = ""


def roc_curve(score: Tensor, present: Tensor) -> Curve:
    """Returns the ROC curve of a class and the area under it (AUC).

    Args:
        score: Probability of the class in each frame, `[N]`.
        present: Whether the class is the right one, bool `[N]`.
    """
    missing = _missing(score, present) or ("it is the only class in the labels" if present.all() else "")
    if missing:
        return _no_curve(missing)
    score, target = _for_torchmetrics(score, present)
    x, y, _ = binary_roc(score, target)
    return Curve(x, y, float(binary_auroc(score, target)))


def precision_recall_curve(score: Tensor, present: Tensor) -> Curve:
    """Returns the curve of precision over recall of a class and its average precision.

    Average precision is the sum of the precisions at each threshold, weighted by how much recall it gains, without
    interpolation: the area under the curve drawn in steps.

    Args:
        score: Probability of the class in each frame, `[N]`.
        present: Whether the class is the right one, bool `[N]`.
    """
    missing = _missing(score, present)
    if missing:
        return _no_curve(missing)
    score, target = _for_torchmetrics(score, present)
    precision, recall, _ = binary_precision_recall_curve(score, target)
    return Curve(recall, precision, float(binary_average_precision(score, target)))


def _missing(score: Tensor, present: Tensor) -> str:
    if not score.isfinite().all():
        return "a probability is not a number"
    return "" if present.any() else "it is in no label"


def _no_curve(why: str) -> Curve:
    return Curve(torch.empty(0), torch.empty(0), nan, why)


def _for_torchmetrics(score: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    # Softmax may exceed 1 by a rounding error, which torchmetrics would take for logits.
    return score.clamp(0, 1), present.long()
