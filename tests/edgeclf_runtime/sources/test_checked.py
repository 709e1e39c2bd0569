from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.errors import DamagedInputError
from edgeclf_runtime.events import Events
from edgeclf_runtime.slicing import slices
from edgeclf_runtime.sources.checked import GivenEvents


def events(*rows):
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    return Events(columns[0], columns[1].astype("u2"), columns[2].astype("u2"), columns[3].astype("u1"))


class Given(GivenEvents):
    def __init__(self, *batches):
        super().__init__("given", (32, 24))
        self.batches = batches

    def _batches(self):
        for batch in self.batches:
            if isinstance(batch, Exception):
                raise batch
            yield batch


@pytest.mark.parametrize("where", [(32, 0), (0, 24), (65_535, 65_535)])
def test_events_outside_the_sensor_are_dropped_and_counted(where):
    source = Given(events((1, 31, 23, 1), (2, *where, 0)), events((3, *where, 1)))
    for _ in range(2):  # counted anew
        assert [batch.t.tolist() for batch in source] == [[1]]
        assert source.damage == {"events outside the sensor": 2}
        assert source.problems == ["2 event(s) of given outside the sensor (32x24) were dropped."]


def test_time_that_steps_back_is_counted():
    source = Given(events((5, 0, 0, 1), (9, 0, 0, 1), (2, 0, 0, 1)), events((1, 0, 0, 1), (1, 0, 0, 1)))
    assert Events.concatenate(source).t.tolist() == [5, 9, 2, 1, 1]
    assert source.damage == {"steps back in time": 2}
    assert source.problems == ["The time-stamps of given step back 2 time(s), by up to 7 µs."]


def test_one_bad_time_does_not_make_time_run_away():
    rows = [(t, 0, 0, 1) for t in range(0, 20_000, 100)]
    rows[100] = (1 << 50, 0, 0, 1)
    source = Given(events(*rows[:101]), events(*rows[101:]))
    found = Events.concatenate(source).t.tolist()
    assert (len(found), found[100], max(found)) == (200, 9_900, 19_900)
    assert source.damage == {"time words damaged": 1}
    assert len(source.problems) == 1
    assert "given" in source.problems[0]


def test_damage_until_now():
    batches = [events(*[(t, x, 0, 1) for t in range(start, start + 100)]) for start, x in ((0, 0), (100, 32), (200, 0))]
    source = Given(*batches)
    source.is_live = True
    assert source.damage == {}
    counts = [source.damage.get("events outside the sensor", 0) for _ in source]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 100)


def test_what_came_before_a_failure_comes_out():
    iterator = iter(Given(events((1, 0, 0, 1)), DamagedInputError("given is damaged")))
    assert next(iterator).t.tolist() == [1]
    with pytest.raises(DamagedInputError, match="given is damaged"):
        next(iterator)


class Live(GivenEvents):
    """Gives batches as a camera does, each along with what its clock says; None where it says nothing."""

    is_live = True

    def __init__(self, *batches):
        super().__init__("live", (32, 24))
        self.batches = batches

    def _batches(self):
        for batch, said_us in self.batches:
            self._said_us = said_us
            yield batch


def second_of_events():
    return [events(*((t + k, 1, 2, 1) for k in range(0, 10_000, 1_000))) for t in range(0, 1_000_000, 10_000)]


def test_slices_go_on_after_a_long_silence():
    silence = (events(), None)
    batches = [(batch, None) for batch in second_of_events()] + [silence] * 220
    for t in range(12_000_000, 14_000_000, 100_000):
        batches += [(events((t, 1, 2, 1)), None), silence]
    source = Live(*batches)
    found = list(slices(source, 50_000))
    assert [piece.index for piece in found] == list(range(279))
    assert [len(piece.events) for piece in found] == [50] * 20 + [0] * 220 + [1, 0] * 19 + [1]
    assert source.damage == {}


def test_events_after_a_long_silence_have_their_time_where_the_source_says_its_own():
    later = range(13_000_000, 15_000_000, 100_000)
    quiet = [(events(), t) for t in range(1_000_000, 13_000_000, 10_000)]
    for t in later:
        quiet += [(events((t, 1, 2, 1)), t + 1), *((events(), t + k) for k in range(10_000, 100_000, 10_000))]
    source = Live(*((batch, int(batch.t[-1])) for batch in second_of_events()), *quiet)
    found = list(slices(source, 50_000))
    assert [piece.start_us for piece in found if len(piece.events) == 1] == list(later)
    assert source.damage == {}
