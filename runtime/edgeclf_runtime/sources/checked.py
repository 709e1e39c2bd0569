"""What sources of events have in common: their events are checked, and they can be closed."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping

from edgeclf_runtime.events import Events
from edgeclf_runtime.events.checks import Checks
from edgeclf_runtime.events.steady import SteadyTime
from edgeclf_runtime.sources.base import EventSource


class CheckedSource(EventSource):
    """A source of events that checks what its class decodes.

    Args:
        name: What predictions call it.
        sensor_size: Width and height of the sensor.
        checks: What checks its events.
    """

    def __init__(self, name: str, sensor_size: tuple[int, int], checks: Checks) -> None:
        self.name = name
        self.sensor_size = sensor_size
        self._checks = checks
        self._closed = threading.Event()

    @property
    def damage(self) -> Mapping[str, int]:
        """What was wrong until now, counted by kind."""
        return self._checks.damage

    @property
    def problems(self) -> list[str]:
        """What was wrong, a sentence each."""
        return self._checks.problems

    def close(self) -> None:
        """Makes the iteration end soon, from whatever thread."""
        self._closed.set()

    def _checked(self, batches: Iterable[Events]) -> Iterator[Events]:
        """Yields the batches, without events that lie outside of the sensor; empty ones only where it is live."""
        for events in self._checks.checked(batches):
            if self._closed.is_set():
                return
            if len(events) or self.is_live:
                yield events


class GivenEvents(CheckedSource):
    """A source whose events something else has decoded: a camera's driver, another package, the user's program.

    Args:
        name: What predictions call it.
        sensor_size: Width and height of the sensor.
    """

    def __init__(self, name: str, sensor_size: tuple[int, int]) -> None:
        super().__init__(name, sensor_size, Checks(name, sensor_size, SteadyTime()))
        self._said_us: int | None = None
        """What the sensor's time was with the batch that came last, where its giver says so."""
        self._reached_us: int | None = None

    @property
    def time_us(self) -> int | None:
        """How far the sensor's time has come by its own word."""
        return self._reached_us

    @abstractmethod
    def _batches(self) -> Iterator[Events]:
        """Yields the batches as they are given, wherever their events lie."""

    def __iter__(self) -> Iterator[Events]:
        """Returns an iterator over the batches; what was wrong is counted anew."""
        time = SteadyTime()
        self._checks = Checks(self.name, self.sensor_size, time)
        self._said_us = self._reached_us = None
        return self._checked(self._timed(time))

    def _timed(self, time: SteadyTime) -> Iterator[Events]:
        for batch in self._batches():
            events = time.add(batch)
            if self._said_us is not None:
                self._reached_us = time.reached(self._said_us)
            yield events
