"""Latencies, summed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LatencySummary:
    """Percentiles of latencies, in µs.

    Attributes:
        frames: Number of frames measured.
        p50_us: Median.
        p95_us: 95th percentile.
        p99_us: 99th percentile.
        max_us: The slowest frame.
    """

    frames: int
    p50_us: float
    p95_us: float
    p99_us: float
    max_us: float


def summarise(latencies_us: Sequence[float]) -> LatencySummary | None:
    """Returns percentiles (linear interpolation, no outlier left out) of `latencies_us`; None where there are none."""
    if not len(latencies_us):
        return None
    p50, p95, p99, largest = np.percentile(latencies_us, [50, 95, 99, 100])
    return LatencySummary(len(latencies_us), float(p50), float(p95), float(p99), float(largest))
