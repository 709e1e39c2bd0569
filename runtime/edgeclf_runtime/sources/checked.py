"""What sources of events have in common: those outside of the sensor go, and what was wrong is counted and said."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping

from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.events import Events
from edgeclf_runtime.events.decoder import Decoder
from edgeclf_runtime.events.recording import OUTSIDE, STEPS_BACK, TimeOrder
from edgeclf_runtime.events.steady import SteadyTime
from edgeclf_runtime.sources.base import EventSource


class CheckedSource(EventSource):
    """A source of events that checks what its class decodes.

    Args:
        name: What predictions call it.
        sensor_size: Width and height of the sensor.
        time: What follows the time of its events.
        what: What sentences call it; '': its name.
    """

    def __init__(self, name: str, sensor_size: tuple[int, int], time: Decoder | SteadyTime, what: str = "") -> None:
        self.name = name
        self.sensor_size = sensor_size
        self._what = what or name
        self._time = time
        self._order = TimeOrder()
        self._outside = 0
        self._closed = threading.Event()

    @abstractmethod
    def _decoded(self) -> Iterator[Events]:
        """Yields the events, wherever they lie; `_closed` is set once nobody wants more."""

    def __iter__(self) -> Iterator[Events]:
        """Yields the batches, without events that lie outside of the sensor; empty ones only where it is live."""
        self._order, self._outside = TimeOrder(), 0
        failure: EdgeclfError | None = None
        try:
            for batch in self._decoded():
                if self._closed.is_set():
                    return
                yield from self._checked(batch)
        except EdgeclfError as error:
            failure = error  # what waited to be borne out comes first
        if self._closed.is_set():
            return
        yield from self._checked(self._time.finish())
        if failure is not None:
            raise failure

    @property
    def damage(self) -> Mapping[str, int]:
        """What was wrong until now, counted by kind."""
        counts = {OUTSIDE: self._outside, STEPS_BACK: self._order.steps_back, **self._time.damage}
        return {kind: count for kind, count in counts.items() if count}

    @property
    def problems(self) -> list[str]:
        """What was wrong, a sentence each."""
        width, height = self.sensor_size
        problems = []
        if self._outside:
            problems.append(
                f"{self._outside} event(s) of {self._what} outside the sensor ({width}x{height}) were dropped."
            )
        if steps := self._order.steps_back:
            problems.append(
                f"The time-stamps of {self._what} step back {steps} time(s), by up to {self._order.farthest} µs."
            )
        return problems + self._time.problems_of(self._what)

    def close(self) -> None:
        """Makes the iteration end soon, from whatever thread."""
        self._closed.set()

    def _checked(self, events: Events) -> Iterator[Events]:
        """Yields the events on the sensor, which are nearly always all."""
        width, height = self.sensor_size
        inside = events
        if len(events) and (events.x.max() >= width or events.y.max() >= height):
            inside = events[(events.x < width) & (events.y < height)]
            self._outside += len(events) - len(inside)
        if len(inside):
            self._order.add(inside)
        if len(inside) or self.is_live:
            yield inside


class GivenEvents(CheckedSource):
    """A source whose events something else has decoded: a camera's driver, another package, the user's program.

    Args:
        name: What predictions call it.
        sensor_size: Width and height of the sensor.
    """

    def __init__(self, name: str, sensor_size: tuple[int, int]) -> None:
        super().__init__(name, sensor_size, SteadyTime())
        self._said_us: int | None = None
        """What the sensor's time was with the batch that came last, where its giver says so."""
        self._reached_us: int | None = None

    @property
    def time_us(self) -> int | None:
        """How far the sensor's time has come by its own word."""
        return self._reached_us

    @abstractmethod
    def _batches(self) -> Iterator[Events]:
        """Yields the batches as they are given."""

    def _decoded(self) -> Iterator[Events]:
        self._time = time = SteadyTime()
        self._said_us = self._reached_us = None
        for batch in self._batches():
            events = time.add(batch)
            if self._said_us is not None:
                self._reached_us = time.reached(self._said_us)
            yield events
