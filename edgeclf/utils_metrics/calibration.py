"""Calibration: is a classifier right as often as it says it is?"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

BINS = 15
"""Equal bins of the confidence, as in Guo et al. 2017, section 4.1 (ECE, M = 15)."""


@dataclass(frozen=True)
class Reliability:
    """Confidence beside accuracy, in bins of equal width.

    Source: Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equations 1 to 3.

    Attributes:
        counts: int64 `[M]`, frames whose confidence lies in bin m, which is `(m/M, (m+1)/M]`; 0 lies in the first.
        confidence: float64 `[M]`, mean confidence of these frames; NaN where there are none.
        accuracy: float64 `[M]`, share of these frames whose prediction is right; NaN where there are none.
        error: The expected calibration error: the mean over all frames of the distance between the accuracy and the
            confidence of their bin, 0 to 1. NaN where a probability is not a number.
    """

    counts: Tensor
    confidence: Tensor
    accuracy: Tensor
    error: float


def reliability(probabilities: Tensor, predictions: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """Returns how often predictions are right at each level of confidence.

    Args:
        probabilities: `[N, K]`; a frame's confidence is the largest of them. N at least 1.
        predictions: int64 `[N]`, the outputs chosen.
        labels: int64 `[N]`, the right outputs; all frames count.
        bins: Number of bins.
    """
    # In float64 before it is put into a bin: the edges are.
    confidence = probabilities.double().amax(1).clamp(0, 1)
    right = (predictions == labels).double()
    if confidence.isnan().any():
        empty = torch.full((bins,), nan, dtype=torch.float64)
        return Reliability(torch.zeros(bins, dtype=torch.int64), empty, empty, nan)
    inner_edges = torch.arange(1, bins, dtype=torch.float64) / bins
    bin_of = torch.bucketize(confidence, inner_edges)  # the first edge that is not below it: bins are closed above
    counts = bin_of.bincount(minlength=bins)
    sums = [bin_of.bincount(weights=values, minlength=bins) for values in (confidence, right)]
    error = float((sums[0] - sums[1]).abs().sum() / len(confidence))
    return Reliability(counts, sums[0] / counts, sums[1] / counts, error)
