"""What everything that reads events checks: where they lie, and the order of their time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.events.decoder import Decoder
from edgeclf_runtime.events.steady import SteadyTime

OUTSIDE, STEPS_BACK = "events outside the sensor", "steps back in time"


class Checks:
    """Checks batches of events: those outside of the sensor go, and what was wrong is counted and said.

    Args:
        name: What sentences call the source of the events.
        sensor_size: Width and height of the sensor.
        time: What gives the events their times; what it has met counts too.
    """

    def __init__(self, name: str, sensor_size: tuple[int, int], time: Decoder | SteadyTime) -> None:
        self._name = name
        self._sensor_size = sensor_size
        self._time = time
        self._outside = self._steps_back = self._farthest = 0
        self._last: int | None = None

    @property
    def damage(self) -> Mapping[str, int]:
        """What was wrong until now, counted by kind; only what occurred."""
        counts = {OUTSIDE: self._outside, STEPS_BACK: self._steps_back, **self._time.damage}
        return {kind: count for kind, count in counts.items() if count}

    @property
    def problems(self) -> list[str]:
        """What was wrong until now, a sentence each."""
        width, height = self._sensor_size
        problems = []
        if self._outside:
            problems.append(
                f"{self._outside} event(s) of {self._name} outside the sensor ({width}x{height}) were dropped."
            )
        if self._steps_back:
            problems.append(
                f"The time-stamps of {self._name} step back {self._steps_back} time(s), by up to {self._farthest} µs."
            )
        return problems + self._time.problems_of(self._name)

    def checked(self, batches: Iterable[Events]) -> Iterator[Events]:
        """Yields the events of each batch that lie on the sensor, then those that still wait for what bears them out.

        Where the batches end with an error, that comes last.
        """
        failure: EdgeclfError | None = None
        try:
            for events in batches:
                yield self.inside(events)
        except EdgeclfError as error:
            failure = error
        yield self.inside(self._time.finish())
        if failure is not None:
            raise failure

    def inside(self, events: Events) -> Events:
        """Returns the events of the next batch that lie on the sensor, which are nearly always all."""
        width, height = self._sensor_size
        if len(events) and (events.x.max() >= width or events.y.max() >= height):
            is_inside = (events.x < width) & (events.y < height)
            self._outside += len(events) - int(np.count_nonzero(is_inside))
            events = events[is_inside]
        if len(events):
            self._look_at(events.t)
        return events

    def _look_at(self, t: NDArray[np.int64]) -> None:
        """Counts where time goes backwards."""
        if self._last is not None and t[0] < self._last:
            self._count_back(np.array([t[0] - self._last]))
        self._last = int(t[-1])
        if np.any(t[1:] < t[:-1]):
            self._count_back(np.diff(t))

    def _count_back(self, steps: NDArray[np.int64]) -> None:
        self._steps_back += int(np.count_nonzero(steps < 0))
        self._farthest = max(self._farthest, -int(steps.min()))
