"""Sums that saturate after every addend, without a loop over the addends."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def saturating_sums(addends: NDArray[np.float64], lengths: NDArray[np.intp], limit: float) -> NDArray[np.float64]:
    """Returns, per run, where `s = clip(s + addend, -limit, limit)` ends that starts from 0 and takes every addend.

    A step is a map `s -> clip(s + shift, low, high)`, and two of them in a row are such a map again. So neighbours are
    put together pairwise, all runs at once, until one map is left of each run: log2 of the longest run's length passes,
    each over half as many maps as the one before.

    Args:
        addends: The runs, one after the other, float64 `[N]`.
        lengths: Length of every run, at least 1, `[R]`; their sum is N.
        limit: Where the sums saturate, positive.

    Returns:
        float64 `[R]`.
    """
    shift = addends.copy()
    low, high = np.full(shift.shape, -limit), np.full(shift.shape, limit)
    while lengths.size < shift.size:
        starts = np.cumsum(lengths) - lengths
        rank = np.arange(shift.size) - np.repeat(starts, lengths)
        left = rank % 2 == 0
        kept = np.flatnonzero(left)
        # The last map of a run of odd length has no partner: the next one in the array starts another run.
        has_partner = np.append(~left[1:], False)[kept]
        first = kept[has_partner]
        second = first + 1
        then = shift[second], low[second], high[second]
        shift[first] += then[0]
        low[first] = np.clip(low[first] + then[0], then[1], then[2])
        high[first] = np.clip(high[first] + then[0], then[1], then[2])
        shift, low, high = shift[kept], low[kept], high[kept]
        lengths = (lengths + 1) // 2
    return np.clip(shift, low, high)
