from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.events import Events
from edgeclf_runtime.events.clock import MOST_WAITING
from edgeclf_runtime.events.steady import SteadyTime


def batch(t, first=0):
    """Events at these times; x counts on, so that each can be told from the others."""
    t = np.asarray(t, np.int64)
    x = np.arange(first, first + t.size).astype(np.uint16)
    return Events(t, x, x, np.zeros(t.size, np.uint8))


def test_batches_give_the_same_as_the_whole():
    t = np.arange(0, 100_000, 100)
    t[500] = 1 << 60
    t[700:] -= 40_000
    whole = SteadyTime()
    expected = Events.concatenate([whole.add(batch(t)), whole.finish()])
    parts = SteadyTime()
    found = [parts.add(batch(t[k : k + 7], k)) for k in range(0, t.size, 7)]
    found = Events.concatenate([*found, parts.finish()])
    assert found.t.tolist() == expected.t.tolist()
    assert found.x.tolist() == list(range(t.size))
    assert parts.damage == whole.damage == {"time words damaged": 1, "times the clock was set anew": 1}
    assert len(parts.problems_of("camera")) == 2


def test_events_wait_for_no_more_than_an_empty_batch():
    time = SteadyTime()
    assert len(time.add(batch([5]))) == 0
    assert time.reached(1000) is None
    assert time.add(Events.empty()).t.tolist() == [5]
    assert len(time.add(batch([3_000_000]))) == 0
    assert time.reached(3_000_000) == 5, "the event that waits comes first"
    assert time.add(Events.empty()).t.tolist() == [3_000_000]


def test_times_at_the_ends_of_their_type():
    ends = [-(1 << 63), (1 << 63) - 1]
    time = SteadyTime()
    found = Events.concatenate([time.add(batch([*range(0, 20_000, 100), *ends * 9, *ends])), time.finish()])
    assert len(found) == 220
    assert found.t.max() < 20_000


def test_sensors_time_without_events():
    time = SteadyTime()
    time.add(batch(range(1000, 11_000, 100)))
    said = [time.reached(t) for t in (11_000, 12_000, 13_000, 14_000, 1 << 40, 15_000, 16_000)]
    assert said == [11_000, 11_000, 11_000, 11_000, 12_000, 13_000, 14_000], "one bad word does not count"


def test_sensors_time_follows_a_clock_that_was_set_back():
    time = SteadyTime()
    time.add(batch(range(1_000_000, 1_011_000, 100)))
    time.add(batch(range(0, 11_000, 100)))
    assert [time.reached(t) for t in (12_000, 12_000, 12_000, 12_000)][-1] == 1_010_900 + 12_000


# Pauses: a live source gives empty batches where nothing comes.


def given(time, times):
    """Gives events one at a time, each with empty batches after it; returns the times that each made known."""
    found = []
    for t in times:
        found.append([*time.add(batch([t])).t.tolist()])
        for _ in range(2):
            found[-1] += time.add(Events.empty()).t.tolist()
    return found


def test_time_recovers_after_a_pause_of_any_length():
    time = SteadyTime()
    time.add(batch(range(0, 1_000_000, 1000)))
    times = list(range(12_000_000, 20_000_000, 100_000))
    found = given(time, times)
    assert found[:7] == [[]] * 7
    assert found[7:9] == [times[:8], [times[8]]], "eight events bear each other out, and those after them are close"
    assert [t for known in found for t in known] == times
    assert time.damage == {}


def test_pause_that_is_not_long_delays_nothing():
    time = SteadyTime()
    times = list(range(0, 90_000_000, 9_000_000))
    assert given(time, times) == [[t] for t in times]


def test_few_events_that_share_their_damage_do_not_bear_each_other_out_in_a_pause():
    time = SteadyTime()
    time.add(batch(range(0, 20_000, 100)))
    found = [time.add(batch([1 << 40] * 9)), time.add(Events.empty()), time.add(batch([20_000])), time.finish()]
    assert Events.concatenate(found).t.tolist() == [19_900] * 9 + [20_000]
    assert time.damage == {"time words damaged": 9}


@pytest.mark.parametrize("bad", [1 << 40, 15_000_000, -(1 << 40), -50_000])
def test_bad_time_before_a_pause_does_not_move_time(bad):
    time = SteadyTime()
    time.add(batch(range(0, 20_000, 100)))
    times = list(range(100_000, 5_000_000, 100_000))
    assert given(time, [bad, *times]) == [[], [19_900, times[0]], *[[t] for t in times[1:]]]
    assert time.damage == {"time words damaged": 1}


def test_what_waits_in_a_pause_is_bounded():
    time = SteadyTime()
    time.add(batch(range(0, 20_000, 100)))
    for _ in range(9):
        time.add(batch(np.full(MOST_WAITING // 8, 1 << 40)))
        found = time.add(Events.empty())
    assert len(found) + len(time.finish()) < MOST_WAITING // 8


def test_sensors_time_bears_out_an_event_after_a_long_pause():
    time = SteadyTime()
    time.add(batch(range(0, 1_000_000, 1000)))
    for said in range(1_000_000, 13_000_000, 10_000):
        time.add(Events.empty())
        assert time.reached(said) is not None
    assert len(time.add(batch([13_005_000]))) == 0
    assert time.reached(13_010_000) == 999_000, "the event that waits comes first"
    found = []
    for said in range(13_020_000, 13_060_000, 10_000):
        found += time.add(Events.empty()).t.tolist()
        time.reached(said)
    assert found == [13_005_000]
    assert time.damage == {}


def test_sensors_time_goes_on_while_a_bad_event_waits():
    time = SteadyTime()
    time.add(batch(range(0, 20_000, 100)))
    time.add(batch([1 << 40]))
    said = []
    for t in range(20_000, 100_000, 10_000):
        time.add(Events.empty())
        said.append(time.reached(t))
    assert said[-1] == 60_000
    assert time.add(batch([100_000])).t.tolist() == [19_900]
    assert time.add(Events.empty()).t.tolist() == [100_000]
