from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime import slicing
from edgeclf_runtime.events import Events
from edgeclf_runtime.slicing import merged, slices, slices_by_count


def batch(*times):
    """Events at these times; x counts the events within the batch, so that each can be told from the others."""
    t = np.array(times, np.int64)
    return Events(t, np.arange(t.size).astype(np.uint16), np.zeros(t.size, np.uint16), np.zeros(t.size, np.uint8))


def batches_of(t, cuts):
    x = np.arange(t.size)
    parts = zip(np.split(t, cuts), np.split(x, cuts), strict=True)
    return [
        Events(a.astype(np.int64), (b & 0xFFFF).astype(np.uint16), (b >> 16).astype(np.uint16), np.zeros(a.size, "u1"))
        for a, b in parts
    ]


def as_rows(found):
    return [
        (piece.index, piece.start_us, piece.end_us, list(zip(piece.events.t, piece.events.x, strict=True)))
        for piece in found
    ]


def by_plain_loop(t, delta_t, start_ts, max_duration):
    """The same, event by event, for events in time order."""
    start, last, slots = start_ts, -1, {}
    for i, time in enumerate(t.tolist()):
        if start is None:
            start = time - time % delta_t
        if time < start:
            continue
        index = (time - start) // delta_t
        if max_duration is not None and index * delta_t >= max_duration:
            last = (max_duration - 1) // delta_t
            continue
        last = index
        slots.setdefault(index, []).append((time, i & 0xFFFF))
    return [(k, start + k * delta_t, start + (k + 1) * delta_t, slots.get(k, [])) for k in range(last + 1)]


@pytest.mark.parametrize("seed", range(60))
def test_equals_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    delta_t = int(rng.choice([1, 7, 1000, 10_000, 50_000]))
    steps = rng.integers(0, max(2, delta_t // 3), int(rng.integers(1, 400)))
    # Silences, of seconds where slices are long; and events exactly on borders.
    steps[rng.random(steps.size) < 0.03] += delta_t * int(rng.integers(1, 60))
    t = np.cumsum(steps) + int(rng.choice([0, 5, 123_456_789]))
    on_border = rng.random(t.size) < 0.2
    t = np.sort(np.where(on_border, t // delta_t * delta_t, t))
    start_ts = [None, 0, int(t[0]), int(t[0]) - 3 * delta_t - 1, int(rng.choice(t)), int(t[-1]), int(t[-1]) + 1][
        seed % 7
    ]
    if start_ts == 0 and t[0] > 10_000_000:
        start_ts = int(t[0]) // delta_t * delta_t - 4 * delta_t
    max_duration = [None, 1, delta_t, 5 * delta_t, 5 * delta_t + 1, 10**9][seed % 6]
    cuts = np.sort(rng.integers(0, t.size + 1, int(rng.integers(0, 12))))  # also at the ends, and empty batches

    found = as_rows(slices(batches_of(t, cuts), delta_t, start_ts, max_duration))

    assert found == by_plain_loop(t, delta_t, start_ts, max_duration)


def test_silence_of_seconds_is_slices_without_events():
    found = list(slices([batch(12_345), batch(5_000_000)], 10_000))
    assert len(found) == 500
    assert [piece.index for piece in found] == list(range(500))
    assert [len(piece.events) for piece in found] == [1] + [0] * 498 + [1]
    assert (found[0].start_us, found[-1].end_us) == (10_000, 5_010_000)


def test_event_on_a_border_starts_the_later_slice():
    assert as_rows(slices([batch(0, 9), batch(10)], 10)) == [(0, 0, 10, [(0, 0), (9, 1)]), (1, 10, 20, [(10, 0)])]


def test_start_need_not_be_a_multiple_of_delta_t():
    assert as_rows(slices([batch(12, 13, 24)], 10, start_ts=13)) == [(0, 13, 23, [(13, 1)]), (1, 23, 33, [(24, 2)])]


def test_start_before_the_first_event_gives_empty_slices_first():
    assert [len(piece.events) for piece in slices([batch(35)], 10, start_ts=0)] == [0, 0, 0, 1]


@pytest.mark.parametrize("batches", [[], [Events.empty()], [Events.empty(), Events.empty()]])
@pytest.mark.parametrize("start_ts", [None, 0])
def test_no_slice_without_events(batches, start_ts):
    assert list(slices(batches, 10, start_ts)) == []


def test_no_slice_where_all_events_are_before_the_start():
    assert list(slices([batch(1, 2), batch(3)], 10, start_ts=4)) == []


@pytest.mark.parametrize(("max_duration", "frames"), [(1, 1), (10, 1), (11, 2), (20, 2), (1000, 4)])
def test_last_slice_is_as_long_as_the_others(max_duration, frames):
    found = list(slices([batch(0, 5, 15, 25, 35)], 10, max_duration=max_duration))
    assert len(found) == frames
    assert {piece.end_us - piece.start_us for piece in found} == {10}


def test_stops_reading_once_the_duration_is_over():
    def recording():
        yield batch(0)
        yield batch(10)
        pytest.fail("read on after the last slice was complete")

    assert len(list(slices(recording(), 10, max_duration=10))) == 1


def test_slice_goes_out_as_soon_as_a_later_event_is_there():
    def recording():
        yield batch(0)
        yield batch(10)
        pytest.fail("waited for more")

    assert next(slices(recording(), 10)).end_us == 10


def test_late_events_go_into_the_slice_then_current():
    found = as_rows(slices([batch(5), batch(25), batch(7, 26)], 10))
    assert found == [(0, 0, 10, [(5, 0)]), (1, 10, 20, []), (2, 20, 30, [(25, 0), (7, 0), (26, 1)])]


def test_late_events_from_before_a_given_start_are_left_out():
    found = as_rows(slices([batch(25), batch(3, 26), batch(8, 37), batch(9)], 10, start_ts=20))
    assert found == [(0, 20, 30, [(25, 0), (26, 1)]), (1, 30, 40, [(37, 1)])]


def test_events_of_one_time_keep_their_order_in_a_large_batch():
    # Small arrays would be sorted stably by any algorithm.
    t = np.random.default_rng(0).integers(0, 5, 1000)
    (found,) = slices(batches_of(t, []), 10)
    expected = sorted(zip(t.tolist(), range(1000), strict=True), key=lambda event: event[0])
    assert list(zip(found.events.t, found.events.x, strict=True)) == expected


def test_batch_out_of_order_is_sorted_and_equal_times_keep_their_order():
    found = as_rows(slices([batch(12, 3, 12, 1)], 10))
    assert found == [(0, 0, 10, [(1, 3), (3, 1)]), (1, 10, 20, [(12, 0), (12, 2)])]


# --- where the sensor says how far time has come


def test_slices_go_out_as_time_comes_without_events():
    said = iter([None, 9, 10, 35, 35, 12])
    batches = [batch(3), Events.empty(), Events.empty(), Events.empty(), batch(36), batch(37)]
    found = []
    pieces = slices((found.append(-1) or one for one in batches), 10, reached=lambda: next(said))
    for piece in pieces:
        found.append(piece.index)
    assert found == [-1, -1, -1, 0, -1, 1, 2, -1, -1, 3]


def test_time_that_comes_before_the_first_event_starts_nothing():
    assert as_rows(slices([Events.empty(), batch(25)], 10, reached=lambda: 25)) == [(0, 20, 30, [(25, 0)])]


def test_slices_from_a_given_start_need_no_event():
    found = as_rows(slices([Events.empty()], 10, start_ts=5, reached=lambda: 25))
    assert found == [(0, 5, 15, []), (1, 15, 25, [])]


def test_duration_is_over_also_without_events():
    def silence():
        yield batch(1)
        yield Events.empty()
        pytest.fail("read on")

    said = iter([None, 1000])
    assert len(list(slices(silence(), 10, max_duration=30, reached=lambda: next(said)))) == 3


def test_event_after_its_slice_went_out_comes_into_the_next():
    said = iter([None, 10, None])
    found = as_rows(slices([batch(1), Events.empty(), batch(9)], 10, reached=lambda: next(said)))
    assert found == [(0, 0, 10, [(1, 0)]), (1, 10, 20, [(9, 0)])]


# --- how much a slice takes


def test_a_slice_takes_so_many_events_and_says_how_many_more_there_were(monkeypatch):
    monkeypatch.setattr(slicing, "MOST_EVENTS", 3)
    found = list(slices([batch(1, 2), batch(3, 4, 5, 11), batch(6, 12, 13)], 10))
    assert [(piece.events.t.tolist(), piece.dropped) for piece in found] == [([1, 2, 3], 2), ([11, 6, 12], 1)]
    (one,) = slices([batch(*range(3))], 10)
    assert one.dropped == 0


def test_merged_slices_take_no_more(monkeypatch):
    monkeypatch.setattr(slicing, "MOST_EVENTS", 4)
    older, newer = slices([batch(1, 2, 3, 4, 5, 11, 12)], 10)
    both = merged(older, newer)
    assert (both.index, both.events.t.tolist(), both.dropped) == (1, [10, 10, 10, 10], 3)
    newer, last = slices([batch(11, 12, 25)], 10)
    assert merged(newer, last).events.t.tolist() == [20, 20, 25]
    assert merged(newer, last).dropped == 0


# --- by number of events


def counted_by_plain_loop(t, n_events, start_ts, max_duration):
    """The same, event by event, for events in time order."""
    found, first = [], start_ts
    for i, time in enumerate(t.tolist()):
        if start_ts is not None and time < start_ts:
            continue
        first = time if first is None else first
        if max_duration is not None and time >= first + max_duration:
            break
        if not found or len(found[-1]) == n_events:
            found.append([])
        found[-1].append((time, i & 0xFFFF))
    return [(k, held[0][0], held[-1][0] + 1, held) for k, held in enumerate(found)]


@pytest.mark.parametrize("seed", range(60))
def test_slices_by_count_equal_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.integers(0, 4, int(rng.integers(1, 400)))) + int(rng.choice([0, 123_456_789]))
    n_events = int(rng.choice([1, 2, 7, 50, 1000]))
    start_ts = [None, 0, int(t[0]), int(rng.choice(t)), int(t[-1]), int(t[-1]) + 1][seed % 6]
    max_duration = [None, 1, 100, 10**10][seed % 4]
    cuts = np.sort(rng.integers(0, t.size + 1, int(rng.integers(0, 12))))  # also at the ends, and empty batches
    found = as_rows(slices_by_count(batches_of(t, cuts), n_events, start_ts, max_duration))
    assert found == counted_by_plain_loop(t, n_events, start_ts, max_duration)


def test_slice_by_count_goes_out_with_its_last_event():
    def recording():
        yield batch(3)
        yield batch(3, 4)
        pytest.fail("waited for more")

    piece = next(slices_by_count(recording(), 2))
    assert (piece.start_us, piece.end_us) == (3, 4)


def test_slices_by_count_do_not_keep_the_empty_batches_of_a_silence(monkeypatch):
    joined, concatenate = [], Events.concatenate
    monkeypatch.setattr(slicing.Events, "concatenate", lambda parts: joined.append(len(parts)) or concatenate(parts))
    silence = [Events.empty()] * 100
    found = as_rows(slices_by_count([batch(1), *silence, batch(2, 3, 4), *silence, batch(5)], 2))
    assert found == [(0, 1, 3, [(1, 0), (2, 0)]), (1, 3, 5, [(3, 1), (4, 2)]), (2, 5, 6, [(5, 0)])]
    assert max(joined) == 2


def test_slices_by_count_stop_reading_once_the_duration_is_over():
    def recording():
        yield batch(100)
        yield batch(109, 110)
        pytest.fail("read on")

    assert as_rows(slices_by_count(recording(), 5, max_duration=10)) == [(0, 100, 110, [(100, 0), (109, 0)])]


def test_late_events_count_where_they_come_and_time_does_not_run_back():
    found = as_rows(slices_by_count([batch(5, 9), batch(2, 3), batch(4)], 2))
    assert found == [(0, 5, 10, [(5, 0), (9, 1)]), (1, 2, 10, [(2, 0), (3, 1)]), (2, 4, 10, [(4, 0)])]


@pytest.mark.parametrize("batches", [[], [Events.empty()], [Events.empty(), Events.empty()]])
@pytest.mark.parametrize("start_ts", [None, 0])
def test_no_slice_by_count_without_events(batches, start_ts):
    assert list(slices_by_count(batches, 10, start_ts, 5)) == []
