"""Sums that saturate after every addend, without a loop over the addends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# How many maps of a run are put together in one pass.
_CHUNK = 32

# With fewer runs than this left, NumPy's calls cost more than what they compute, and maps are the better way.
_FEW_RUNS = 128


def saturating_sums(
    addends: NDArray[np.float64], lengths: NDArray[np.intp], low: float, high: float
) -> NDArray[np.float64]:
    """Returns, per run, where `s = clip(s + addend, low, high)` ends that starts from 0 and takes every addend.

    First all runs take a step side by side, and another, as long as many runs have addends left. Then the rest of the
    few long ones is done by maps: a step is a map `s -> clip(s + shift, lowest, highest)`, and two of them in a row are
    such a map again. So every run is cut into chunks, the steps of all chunks are put together side by side, and then
    the chunks' maps in the same way, until one map is left of each run.

    Args:
        addends: The runs, one after the other, float64 `[N]`.
        lengths: Length of every run, at least 1, `[R]`; their sum is N.
        low: Where the sums saturate below, 0 or less.
        high: Where they saturate above, 0 or more.

    Returns:
        float64 `[R]`.
    """
    longest_first = _longest_first(lengths)
    start = (np.cumsum(lengths) - lengths)[longest_first]
    length = lengths[longest_first]
    sums = np.zeros(lengths.size)
    left, nth = lengths.size, 0
    while left >= _FEW_RUNS:
        running = sums[:left]
        running += addends[start[:left] + nth]
        np.maximum(running, low, out=running)
        np.minimum(running, high, out=running)
        nth += 1
        left = _count_longer(length[:left], nth)
    if left:
        rest = length[:left] - nth
        which = np.repeat(start[:left] + nth - (np.cumsum(rest) - rest), rest) + np.arange(rest.sum())
        shift, lowest, highest = _maps(addends[which], rest, low, high)
        sums[:left] = np.clip(sums[:left] + shift, lowest, highest)
    result = np.empty_like(sums)
    result[longest_first] = sums
    return result


def _longest_first(lengths: NDArray[np.intp]) -> NDArray[np.intp]:
    """Returns the order that puts the longest runs first."""
    if lengths.max(initial=0) <= 65_535:
        # 16 bits are sorted by radix, ten times faster.
        return np.argsort((65_535 - lengths).astype(np.uint16), kind="stable")
    return np.argsort(-lengths, kind="stable")


def _count_longer(lengths: NDArray[np.intp], than: int) -> int:
    """Returns how many of the lengths, longest first, are greater than `than`."""
    return int(np.searchsorted(-lengths, -than, side="left"))


def _maps(
    addends: NDArray[np.float64], lengths: NDArray[np.intp], low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns the map `s -> clip(s + shift, lowest, highest)` of every run of steps: shift, lowest and highest."""
    shift, lowest, highest = addends, np.full(addends.shape, low), np.full(addends.shape, high)
    while lengths.size < shift.size:
        shift, lowest, highest, lengths = _put_together(shift, lowest, highest, lengths)
    return shift, lowest, highest


def _put_together(
    shift: NDArray[np.float64],
    lowest: NDArray[np.float64],
    highest: NDArray[np.float64],
    lengths: NDArray[np.intp],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Returns the maps of every run's chunks of up to `_CHUNK` maps, and how many chunks every run has."""
    chunks = -(-lengths // _CHUNK)
    run = np.repeat(np.arange(lengths.size), chunks)
    offset = (np.arange(run.size) - (np.cumsum(chunks) - chunks)[run]) * _CHUNK
    start = (np.cumsum(lengths) - lengths)[run] + offset
    length = np.minimum(lengths[run] - offset, _CHUNK)
    to_shift, to_low, to_high = shift[start], lowest[start], highest[start]
    for nth in range(1, int(length.max())):
        # All but the last chunk of a run are full, so that this is nearly all of them.
        at = np.flatnonzero(length > nth)
        of = start[at] + nth
        by, low, high = shift[of], lowest[of], highest[of]
        to_shift[at] += by
        to_low[at] = np.clip(to_low[at] + by, low, high)
        to_high[at] = np.clip(to_high[at] + by, low, high)
    return to_shift, to_low, to_high, chunks
