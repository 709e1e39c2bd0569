"""Cutting a stream of events into slices: of equal duration, empty ones included, or of equal numbers of events."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from edgeclf_runtime.events import Events


@dataclass(frozen=True)
class Slice:
    """The events of one event frame.

    Attributes:
        index: Number of the slice in its stream, from 0.
        start_us: First µs of the slice, in the recording's own time.
        end_us: First µs after it.
        events: Its events, in time order; perhaps none.
    """

    index: int
    start_us: int
    end_us: int
    events: Events


def slices(
    batches: Iterable[Events],
    delta_t: int,
    start_ts: int | None = None,
    max_duration: int | None = None,
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

    Yields:
        The slices, in order; none where there are no events.
    """
    index, start = 0, start_ts
    count = None if max_duration is None else -(-max_duration // delta_t)
    pending: list[Events] = []
    for batch in batches:
        batch = _in_time_order(batch)
        if start_ts is not None:
            batch = batch[int(np.searchsorted(batch.t, start_ts)) :]
        elif start is None and len(batch):
            start = int(batch.t[0]) // delta_t * delta_t
        while len(batch):
            assert start is not None
            cut = int(np.searchsorted(batch.t, start + delta_t))
            pending.append(batch[:cut])
            batch = batch[cut:]
            if len(batch):
                yield Slice(index, start, start + delta_t, Events.concatenate(pending))
                pending = []
                index, start = index + 1, start + delta_t
                if index == count:
                    return
    if start is not None and pending:
        yield Slice(index, start, start + delta_t, Events.concatenate(pending))


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
    for batch in batches:
        batch = _in_time_order(batch)
        if start_ts is not None:
            batch = batch[int(np.searchsorted(batch.t, start_ts)) :]
        if limit is None and max_duration is not None and len(batch):
            limit = int(batch.t[0]) + max_duration
        stop = len(batch) if limit is None else int(np.searchsorted(batch.t, limit))
        is_over = stop < len(batch)
        rest.append(batch[:stop])
        held = sum(map(len, rest))
        if held >= n_events:
            events = Events.concatenate(rest)
            for at in range(0, held - n_events + 1, n_events):
                piece = _slice_around(index, events[at : at + n_events], end)
                index, end = index + 1, piece.end_us
                yield piece
            rest = [events[held - held % n_events :]]
        if is_over:
            break
    events = Events.concatenate(rest)
    if len(events):
        yield _slice_around(index, events, end)


def _slice_around(index: int, events: Events, earliest_end: int) -> Slice:
    """Returns the slice that `events` (one or more) fill."""
    return Slice(index, int(events.t.min()), max(int(events.t.max()) + 1, earliest_end), events)


def _in_time_order(events: Events) -> Events:
    """Returns `events` sorted by time; a sensor's stream nearly always is."""
    if np.all(events.t[1:] >= events.t[:-1]):
        return events
    return events[np.argsort(events.t, kind="stable")]
