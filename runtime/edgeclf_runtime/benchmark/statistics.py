"""Percentiles, histograms and confidence intervals of latencies; nothing is left out of any of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.benchmark.results import Latencies, Ratio

BINS_A_DECADE = 40
"""A bin's upper border is 6 % over its lower one, and all histograms have the same borders."""

RESAMPLES = 1000
_INTERVAL = (2.5, 97.5)
_SHORTEST_US = 1e-3
_MOST_AT_ONCE = 1 << 21
"""Values that are resampled at once: 16 MB of them."""

Array = NDArray[Any]


def summed_up(latencies_us: NDArray[np.float64]) -> Latencies:
    """Returns what the latencies of a setting come to, in µs `[process, round, step]`."""
    p50, p95, p99, p999, largest = np.percentile(latencies_us, (50, 95, 99, 99.9, 100)).tolist()
    counts, edges = logarithmic_histogram(latencies_us)
    medians = np.median(latencies_us, axis=2).tolist()
    return Latencies(latencies_us.size, p50, p95, p99, p999, largest, counts, edges, medians)


def logarithmic_histogram(latencies_us: NDArray[np.float64]) -> tuple[list[int], list[float]]:
    """Returns how many latencies lie in each bin, and the bins' borders, from that of the smallest to the largest."""
    places = np.floor(np.log10(np.maximum(latencies_us.ravel(), _SHORTEST_US)) * BINS_A_DECADE).astype(np.int64)
    first = int(places.min())
    counts = np.bincount(places - first)
    edges = 10.0 ** (np.arange(first, first + len(counts) + 1) / BINS_A_DECADE)
    return counts.tolist(), edges.tolist()


def bootstrap_ratio(baseline: Array, candidate: Array, seed: int = 0, resamples: int = RESAMPLES) -> Ratio:
    """Returns how many times as fast as the baseline a candidate was in the same run, by the medians of all steps.

    The interval is the bootstrap's, by percentiles. Rounds are drawn once for both sides, as what holds the machine up
    in a round holds up both; processes are drawn for each side by itself, as one of them may be slow throughout. A
    process and a round that are drawn bring the steps of the one in the other. With few processes it is somewhat too
    narrow where they differ much among each other. Source: A. B. Owen, The pigeonhole bootstrap, Annals of Applied
    Statistics 1 (2007), for two crossed factors.

    Args:
        baseline: Latencies `[process, round, step]`.
        candidate: Its own, of as many rounds.
        seed: What is drawn depends on it alone.
        resamples: How often everything is drawn.

    Returns:
        The baseline's median over the candidate's: over 1, the candidate is faster.
    """
    rng = np.random.default_rng(seed)
    rounds = rng.integers(0, baseline.shape[1], (resamples, baseline.shape[1]))
    below, above = (
        _medians(values, _drawn(rng, values.shape[0], resamples), rounds) for values in (baseline, candidate)
    )
    low, high = np.percentile(below / above, _INTERVAL).tolist()
    return Ratio(float(np.median(baseline) / np.median(candidate)), low, high)


def change(
    old: Sequence[Sequence[float]], new: Sequence[Sequence[float]], seed: int = 0, resamples: int = RESAMPLES
) -> Ratio:
    """Returns how many times as long as in an older run a step takes in a newer one, by the medians of the bursts.

    The runs share nothing, so that processes and rounds are drawn for each by itself; see `bootstrap_ratio`.

    Args:
        old: Median of each burst of the older run, `[process][round]`.
        new: Of the newer one; of other numbers of processes and rounds perhaps.
        seed: What is drawn depends on it alone.
        resamples: How often everything is drawn.

    Returns:
        The newer median over the older one: over 1, the newer run is slower.
    """
    rng = np.random.default_rng(seed)
    sides = [np.asarray(values, np.float64)[:, :, None] for values in (new, old)]
    newer, older = (
        _medians(values, *(_drawn(rng, count, resamples) for count in values.shape[:2])) for values in sides
    )
    low, high = np.percentile(newer / older, _INTERVAL).tolist()
    return Ratio(float(np.median(sides[0]) / np.median(sides[1])), low, high)


def _drawn(rng: np.random.Generator, count: int, resamples: int) -> NDArray[np.int64]:
    """Returns what each resample draws of `count`, with replacement, `[resamples, count]`."""
    return rng.integers(0, count, (resamples, count))


def _medians(values: Array, processes: NDArray[np.int64], rounds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the median of each resample of values `[process, round, step]`, `[resamples]`."""
    at_once = max(1, _MOST_AT_ONCE // values.size)
    parts = []
    for at in range(0, len(rounds), at_once):
        taken = values[processes[at : at + at_once, :, None], rounds[at : at + at_once, None, :]]
        parts.append(np.median(taken.reshape(len(taken), math.prod(values.shape)), axis=1, overwrite_input=True))
    return np.concatenate(parts)
