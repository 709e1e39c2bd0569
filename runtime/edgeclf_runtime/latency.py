"""Latencies, summed up."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_LOWEST_US = 0.1
_RATIO = 1.02  # of the borders of a bin; its middle is less than 1 % from all that is in it
_BINS = math.ceil(math.log(1e10 / _LOWEST_US, _RATIO))  # to almost three hours, after which all share the last one
_SCALE = 1 / math.log(_RATIO)
_OFFSET = -math.log(_LOWEST_US) * _SCALE


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


class LatencyHistogram:
    """Latencies of which only the number in each bin is kept: its memory stays the same however many there are.

    The bins grow by 2 % each, so that percentiles come out less than 1 % off; the number and the largest are exact.
    One thread adds to it.
    """

    def __init__(self) -> None:
        self._counts = [0] * _BINS
        self._smallest = math.inf
        self._largest = 0.0

    def add(self, latency_us: float) -> None:
        """Counts one latency."""
        place = int(math.log(max(latency_us, _LOWEST_US)) * _SCALE + _OFFSET)
        self._counts[min(place, _BINS - 1)] += 1
        self._smallest = min(self._smallest, latency_us)
        self._largest = max(self._largest, latency_us)

    @classmethod
    def joined(cls, histograms: Iterable[LatencyHistogram]) -> LatencyHistogram:
        """Returns one that holds the latencies of all."""
        whole = cls()
        for one in histograms:
            whole._counts = [a + b for a, b in zip(whole._counts, one._counts, strict=True)]
            whole._smallest = min(whole._smallest, one._smallest)
            whole._largest = max(whole._largest, one._largest)
        return whole

    def summary(self) -> LatencySummary | None:
        """Returns percentiles (linear interpolation) of all latencies; None where there are none."""
        up_to = np.cumsum(self._counts)
        count = int(up_to[-1])
        if not count:
            return None

        def at_rank(rank: int) -> float:
            place = int(np.searchsorted(up_to, rank, side="right"))
            middle: float = _LOWEST_US * _RATIO ** (place + 0.5)
            return min(max(middle, self._smallest), self._largest)

        def percentile(percent: float) -> float:
            position = percent / 100 * (count - 1)
            below = math.floor(position)
            lower, upper = at_rank(below), at_rank(min(below + 1, count - 1))
            return lower + (position - below) * (upper - lower)

        return LatencySummary(count, percentile(50), percentile(95), percentile(99), self._largest)
