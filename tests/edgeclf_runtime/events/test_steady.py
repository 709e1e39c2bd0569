from __future__ import annotations

import numpy as np

from edgeclf_runtime.events import Events
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
