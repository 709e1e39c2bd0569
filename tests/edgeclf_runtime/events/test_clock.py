from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.events import clock
from edgeclf_runtime.events.clock import Clock

EVT3, EVT2, DAT = 1 << 24, 1 << 34, 1 << 32
GOOD = np.arange(0, 200_000, 1000)


def follow(readings, period=None, **arguments):
    followed = Clock(period, **arguments)
    return followed.follow(np.array(readings, np.int64)), followed


def in_portions(followed, readings, rng, largest):
    parts, rest, start = [], readings[:0], 0
    while start < readings.size:
        count = int(rng.integers(1, largest + 1))
        rest = np.concatenate([rest, readings[start : start + count]])
        start += count
        parts.append(followed.follow(rest, may_wait=True))
        rest = rest[parts[-1].size :]
    return np.concatenate([*parts, followed.follow(rest)])


@pytest.mark.parametrize("period", [None, EVT3, DAT, EVT2])
@pytest.mark.parametrize("seed", range(20))
def test_equals_a_plain_loop_in_any_portions(seed, period, plain_judge):
    rng = np.random.default_rng(seed)
    pool = [0, 1, 16, 64, 4096, 9000, 10_001, 50_000, 2_000_000, 30_000_000]
    pool += [-5, -9_999, -10_001, -15_000, -40_000, -3_000_000]
    steps = rng.choice(pool, int(rng.integers(1, 300)), p=rng.dirichlet(np.full(len(pool), 0.15)))
    readings = np.cumsum(steps) + int(rng.integers(0, 1 << 33))
    readings = readings if period is None else readings % period
    is_noise = rng.random(readings.size) < rng.choice([0, 0.02, 0.2, 1])
    readings[is_noise] = rng.integers(0, period or 1 << 40, is_noise.sum())
    expected = plain_judge(readings.tolist(), period)
    for largest in (1 if seed % 5 == 0 else 7, 1000):
        followed = Clock(period)
        assert in_portions(followed, readings, rng, largest).tolist() == expected.times
        counts = followed.damage
        assert counts.get(clock.DAMAGED, 0) == expected.damaged
        assert counts.get(clock.SET_ANEW, 0) == expected.set_anew


@pytest.mark.parametrize("period", [None, EVT3, DAT, EVT2])
def test_good_time_is_left_as_it_is(period):
    times, followed = follow(GOOD, period)
    assert times.tolist() == GOOD.tolist()
    assert followed.damage == {}
    assert followed.time_us == GOOD[-1]
    assert followed.problems_of("a.raw") == []


@pytest.mark.parametrize("burst", [1, 2, 5])
@pytest.mark.parametrize("at", [0, 8, 50, 190])
@pytest.mark.parametrize("seed", range(8))
def test_damaged_readings_have_the_last_good_time_and_all_others_their_own(burst, at, seed):
    readings = GOOD.copy()
    readings[at : at + burst] ^= 1 << np.random.default_rng(seed).integers(17, 32, burst)
    times, followed = follow(readings, EVT2)
    expected = GOOD.copy()
    expected[at : at + burst] = GOOD[at - 1] if at else GOOD[burst]
    assert times.tolist() == expected.tolist()
    assert followed.damage == {clock.DAMAGED: burst}
    assert followed.problems_of("a.raw")[0].startswith(f"{burst} time(s) in a.raw are damaged")


@pytest.mark.parametrize("gap", [20_000, 3_000_000, 3_600_000_000])
def test_gap_is_followed(gap):
    readings = np.where(GOOD < 100_000, GOOD, GOOD + gap)
    times, followed = follow(readings, EVT2, is_steady=True)
    assert times.tolist() == readings.tolist()
    assert followed.damage == ({clock.AHEAD: 1} if gap > 1_000_000 else {})
    assert follow(readings, EVT2)[1].damage == {}, "where only events tell, it may be a pause"


@pytest.mark.parametrize("back", [20_000, 7_000_000, 10_000_000_000])
@pytest.mark.parametrize("period", [None, EVT2])
def test_clock_that_is_set_back_goes_on_from_where_it_was(back, period):
    readings = np.where(GOOD < 100_000, GOOD + back, GOOD)
    times, followed = follow(readings, period)
    assert times.tolist() == [t + back if t < 100_000 else t + back - 1000 for t in GOOD.tolist()]
    assert followed.damage == {clock.SET_ANEW: 1}
    assert followed.problems_of("a.raw") == [
        f"The clock of a.raw was set anew 1 time(s), by up to {back - 1000} µs: time goes on from where it was."
    ]


def test_time_beyond_a_day_ahead_is_another_clock():
    readings = np.where(GOOD < 100_000, GOOD, GOOD + (1 << 50))
    times, followed = follow(readings)
    assert times.tolist() == [t if t < 100_000 else t - 1000 for t in GOOD.tolist()]
    assert followed.damage == {clock.SET_ANEW: 1}


@pytest.mark.parametrize("period", [EVT3, DAT, EVT2])
def test_roll_overs(period):
    times = np.arange(period - 20_000, period + 50_000, 500)
    found, followed = follow(times % period, period)
    assert found.tolist() == times.tolist()
    assert followed.damage == {}


def test_roll_over_with_losses():
    times = np.concatenate(
        [np.arange(EVT3 - 50_000, EVT3 - 10_000, 500), np.arange(EVT3 + 3_000_000, EVT3 + 3_050_000, 500)]
    )
    found, followed = follow(times % EVT3, EVT3, is_steady=True)
    assert found.tolist() == times.tolist()
    assert followed.damage == {clock.AHEAD: 1}


def test_small_step_back_over_a_roll_over():
    readings = [EVT3 - 4096 * k for k in range(10, 0, -1)] + [0, EVT3 - 4096, 0, 4096]
    found, _ = follow(readings, EVT3)
    assert found.tolist()[-4:] == [EVT3, EVT3 - 4096, EVT3, EVT3 + 4096]


def test_pauses_of_a_scene_with_few_events_are_followed():
    readings = np.arange(0, 100) * 3_000_000
    assert follow(readings)[0].tolist() == readings.tolist()


@pytest.mark.parametrize(("jump", "time"), [(5_000_000, 5_199_000), (50_000_000, 198_000), (-60_000, 198_000)])
def test_last_reading_of_all(jump, time):
    """What nothing bears out is followed where that does little harm."""
    readings = GOOD.copy()
    readings[-1] += jump
    assert follow(readings)[0][-1] == time


def test_decision_does_not_wait_for_ever():
    followed = Clock()
    followed.follow(GOOD)
    far = np.full(clock.MOST_WAITING - 1, 10**9)
    assert followed.follow(far, may_wait=True).size == 0
    assert followed.follow(np.append(far, 10**9), may_wait=True).tolist()[-1] == 10**9


def test_noise_does_not_move_time_far():
    rng = np.random.default_rng(0)
    readings = np.concatenate([GOOD, rng.integers(0, EVT2, 30_000)])
    times, followed = follow(readings, EVT2)
    assert times.max() < 3600 * 10**6
    assert followed.damage[clock.DAMAGED] > 29_900
