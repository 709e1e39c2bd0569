from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.preprocessing.saturation import saturating_sums


@pytest.mark.parametrize("seed", range(20))
def test_equals_a_loop(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, rng.choice([2, 5, 40, 700]), rng.integers(1, 60))
    addends = rng.normal(rng.choice([-0.4, 0, 0.4]), rng.choice([0.2, 1, 5]), lengths.sum())
    limit = rng.choice([0.3, 1, 3.7])
    expected = []
    for run in np.split(addends, np.cumsum(lengths)[:-1]):
        total = 0.0
        for addend in run:
            total = min(max(total + addend, -limit), limit)
        expected.append(total)
    kept = addends.copy()
    np.testing.assert_allclose(saturating_sums(addends, lengths, limit), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(addends, kept)


def test_no_runs_give_nothing():
    assert saturating_sums(np.empty(0), np.empty(0, np.intp), 1.0).shape == (0,)
