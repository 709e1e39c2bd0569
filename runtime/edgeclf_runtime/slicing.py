"""Cutting a stream of events into slices: of equal duration, empty ones included, or of equal numbers of events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from edgeclf_runtime.events import Events

MOST_EVENTS = 1 << 23
"""Events that a slice takes at most: 109 MB of them, and 25 times what an HD sensor sends in 33 ms at its busiest (10
million a second), so that neither a flood of events nor events that all come late can fill the memory."""


@dataclass(frozen=True)
class Slice:
    """The events of one event frame.

    Attributes:
        index: Number of the slice in its stream, from 0.
        start_us: First µs of the slice, in the recording's own time.
        end_us: First µs after it.
        events: Its events, in time order; perhaps none, and at most `MOST_EVENTS`.
        dropped: How many more there were.
    """

    index: int
    start_us: int
    end_us: int
    events: Events
    dropped: int = 0


def slices(
    batches: Iterable[Events],
    delta_t: int,
    start_ts: int | None = None,
    max_duration: int | None = None,
    reached: Callable[[], int | None] = lambda: None,
) -> Iterator[Slice]:
    """Cuts batches of events into slices `[t0 + k·delta_t, t0 + (k+1)·delta_t)`.

    Every slice from the first to that of the last event comes out, also where it is empty, and the last one as soon as
    the stream ends. An event that comes after its slice has gone out is put into the slice then current: nothing is
    lost, and time does not run back.

    Args:
        batches: Events in time order, in batches of any size.
        delta_t: Duration of a slice in µs.
        start_ts: `t0` in µs; events before it are left out. Where None: the first event's time, rounded down to a
            multiple of `delta_t`, and all events are in.
        max_duration: Stop so many µs (1 or more) after `t0`, after a whole slice and without reading on. None: at the
            end.
        reached: Says after each batch, also an empty one, how far the sensor's time has come, so that a slice need not
            wait for the event after it; None where only events tell.

    Yields:
        The slices, in order; none where there are no events.
    """
    count = None if max_duration is None else -(-max_duration // delta_t)
    slot = None if start_ts is None else _Slot(0, start_ts, delta_t)
    for batch in batches:
        batch = in_time_order(batch)
        if start_ts is not None:
            batch = batch[int(np.searchsorted(batch.t, start_ts)) :]
        elif slot is None and len(batch):
            slot = _Slot(0, int(batch.t[0]) // delta_t * delta_t, delta_t)
        time = reached()
        while slot is not None:
            cut = int(np.searchsorted(batch.t, slot.end))
            if cut:
                slot.add(batch[:cut])
                batch = batch[cut:]
            if not len(batch) and (time is None or time < slot.end):
                break
            yield slot.to_slice()
            slot = _Slot(slot.index + 1, slot.end, delta_t)
            if slot.index == count:
                return
    if slot is not None and slot.held:
        yield slot.to_slice()


class _Slot:
    """The slice that is being filled."""

    def __init__(self, index: int, start: int, delta_t: int) -> None:
        self.index = index
        self.end = start + delta_t
        self.held = 0
        self._start = start
        self._dropped = 0
        self._parts: list[Events] = []

    def add(self, events: Events) -> None:
        """Takes events, in so far as there is room."""
        taken = events[: MOST_EVENTS - self.held]
        self._dropped += len(events) - len(taken)
        if len(taken):
            self.held += len(taken)
            self._parts.append(taken)

    def to_slice(self) -> Slice:
        """Returns the slice."""
        return Slice(self.index, self._start, self.end, Events.concatenate(self._parts), self._dropped)


def merged(older: Slice, newer: Slice) -> Slice:
    """Returns the newer of two slices with the events of both; those of the older one are put at its start."""
    events = older.events
    early = Events(np.full_like(events.t, newer.start_us), events.x, events.y, events.p)
    late = newer.events[: MOST_EVENTS - len(early)]
    dropped = older.dropped + newer.dropped + len(newer.events) - len(late)
    return replace(newer, events=Events.concatenate([early, late]), dropped=dropped)


def slices_by_count(
    batches: Iterable[Events],
    n_events: int,
    start_ts: int | None = None,
    max_duration: int | None = None,
) -> Iterator[Slice]:
    """Cuts batches of events into slices of `n_events` events each; what is left at the end is a smaller one.

    A slice goes out as soon as its last event is there. It starts at its earliest event and ends 1 µs after its latest
    one, and where an event comes late, not before the slice before it, so that time does not run back.

    Args:
        batches: Events in time order, in batches of any size.
        n_events: Events of a slice, 1 or more.
        start_ts: Events before this time in µs are left out. None: all are in.
        max_duration: Use only events less than so many µs (1 or more) after `start_ts`, or after the first one where
            that is None, and do not read on. None: all.

    Yields:
        The slices, in order; none where there are no events.
    """
    index, end = 0, 0
    limit = None if start_ts is None or max_duration is None else start_ts + max_duration
    rest: list[Events] = []
    held = 0
    for batch in batches:
        batch = in_time_order(batch)
        if start_ts is not None:
            batch = batch[int(np.searchsorted(batch.t, start_ts)) :]
        if limit is None and max_duration is not None and len(batch):
            limit = int(batch.t[0]) + max_duration
        stop = len(batch) if limit is None else int(np.searchsorted(batch.t, limit))
        is_over = stop < len(batch)
        if stop:
            rest.append(batch[:stop])
            held += stop
        if held >= n_events:
            events = Events.concatenate(rest)
            for at in range(0, held - n_events + 1, n_events):
                piece = _slice_around(index, events[at : at + n_events], end)
                index, end = index + 1, piece.end_us
                yield piece
            held %= n_events
            rest = [events[len(events) - held :]]
        if is_over:
            break
    if held:
        yield _slice_around(index, Events.concatenate(rest), end)


def _slice_around(index: int, events: Events, earliest_end: int) -> Slice:
    """Returns the slice that `events` (one or more) fill."""
    return Slice(index, int(events.t.min()), max(int(events.t.max()) + 1, earliest_end), events)


def in_time_order(events: Events) -> Events:
    """Returns `events` sorted by time; a sensor's stream nearly always is."""
    if np.all(events.t[1:] >= events.t[:-1]):
        return events
    return events[np.argsort(events.t, kind="stable")]
