from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.preprocessing.saturation import saturating_sums


def by_loop(addends, lengths, low, high):
    sums = []
    for run in np.split(addends, np.cumsum(lengths)[:-1]):
        total = 0.0
        for addend in run:
            total = min(max(total + addend, low), high)
        sums.append(total)
    return sums


@pytest.mark.parametrize("seed", range(30))
def test_equals_a_loop(seed):
    rng = np.random.default_rng(seed)
    # Few runs and many, long ones and short ones: they go different ways.
    lengths = rng.integers(1, rng.choice([2, 5, 40, 700]), rng.integers(1, rng.choice([60, 400])))
    addends = rng.normal(rng.choice([-0.4, 0, 0.4]), rng.choice([0.2, 1, 5]), lengths.sum())
    low, high = -rng.choice([0, 0.3, 1, 3.7]), rng.choice([0, 0.3, 1, 3.7])
    kept = addends.copy()
    expected = by_loop(addends, lengths, low, high)
    np.testing.assert_allclose(saturating_sums(addends, lengths, low, high), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(addends, kept)


@pytest.mark.parametrize("longest", [31, 32, 33, 64, 1024, 1025, 40_000, 65_535, 65_536, 70_000])
def test_long_runs_among_many_short_ones(longest):
    rng = np.random.default_rng(longest)
    lengths = rng.integers(1, 9, 300)
    lengths[[3, 77, 299]] = longest, longest - 1, 200
    addends = rng.choice([-1.0, 1.0], lengths.sum())
    expected = by_loop(addends, lengths, -4.0, 3.0)
    np.testing.assert_array_equal(saturating_sums(addends, lengths, -4.0, 3.0), expected)


def test_no_runs_give_nothing():
    assert saturating_sums(np.empty(0), np.empty(0, np.intp), -1.0, 1.0).shape == (0,)
