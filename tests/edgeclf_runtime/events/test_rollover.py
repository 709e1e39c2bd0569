from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.events.rollover import RollOverCounter


def unroll_plainly(values, period):
    last, rolled, unrolled = None, 0, []
    for value in values:
        if last is not None and value - last < -(period // 2):
            rolled += 1
        elif last is not None and value - last > period - period // 16:
            rolled = max(rolled - 1, 0)
        last = value
        unrolled.append(rolled * period + value)
    return unrolled


@pytest.mark.parametrize(
    ("values", "unrolled"),
    [
        ([4094, 4095, 0, 1], [4094, 4095, 4096, 4097]),
        ([4000, 1900], [4000, 4096 + 1900]),  # falls by more than half the period
        ([100, 97, 101], [100, 97, 101]),  # a glitch
        ([3000, 1000], [3000, 1000]),  # falls by less than half
        ([4095, 0, 4095, 0, 1], [4095, 4096, 4095, 4096, 4097]),  # a glitch over the roll-over
        ([0, 4095, 0], [0, 4095, 4096]),  # a silence without words, not a step back before the start
        ([5, 2100, 4000, 3, 2500, 4090, 1], [5, 2100, 4000, 4099, 6596, 8186, 8193]),
    ],
)
def test_roll_overs_and_glitches(values, unrolled):
    assert RollOverCounter(4096).unroll(np.array(values)).tolist() == unrolled
    one_by_one = RollOverCounter(4096)
    assert [one_by_one.unroll(np.array([v])).item() for v in values] == unrolled


def test_equals_plain_loop_on_random_walks():
    rng = np.random.default_rng(0)
    for _ in range(50):
        steps = rng.choice([0, 1, 5, 2000, -1, -3, -1900, 4000, -4000], 500)
        values = np.abs(np.cumsum(steps)) % 4096
        counter = RollOverCounter(4096)
        parts = [counter.unroll(part) for part in np.split(values, np.sort(rng.integers(0, 500, 9)))]
        assert np.concatenate(parts).tolist() == unroll_plainly(values.tolist(), 4096)
