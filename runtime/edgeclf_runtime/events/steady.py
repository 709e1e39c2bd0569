"""Events that something else has decoded, with their time held on course as the decoders hold it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.events.clock import Clock

LATEST_US = 1 << 61
"""Times beyond are no times; so far from the ends of int64 that their differences are numbers of it."""

SAYINGS = 4
"""So many times in a row must be said before one is believed that no event bears out: the earliest of them counts."""


class SteadyTime:
    """Takes batches of events as a camera's driver or a user's program gives them, and gives them on with good times.

    Events whose time must be borne out by those after them (see `Clock`) wait for them. An empty batch says that
    nothing comes for now, and lets those go whose time is likely; the others go on waiting, so that time recovers after
    a long pause.

    Examples:
        >>> t = np.arange(0, 20_000, 1000)
        >>> t[18] = 1 << 40
        >>> batch = Events(t, *np.zeros((2, 20), np.uint16), np.zeros(20, np.uint8))
        >>> time = SteadyTime()
        >>> Events.concatenate([time.add(batch), time.finish()]).t[-4:].tolist()
        [16000, 17000, 17000, 19000]
        >>> time.damage
        {'time words damaged': 1}
    """

    def __init__(self) -> None:
        self._clock = Clock()
        self._waiting = Events.empty()
        self._said: deque[int] = deque(maxlen=SAYINGS)

    @property
    def damage(self) -> Mapping[str, int]:
        """What was wrong until now, counted by kind; only what occurred."""
        return self._clock.damage

    def problems_of(self, name: str) -> list[str]:
        """Returns what was wrong with the time until now, a sentence each, which call the source by a name."""
        return self._clock.problems_of(name)

    def add(self, events: Events) -> Events:
        """Returns the events that the next batch makes known, in the order in which they came."""
        self._clock.pauses = len(events) == 0
        self._clock.said_us = min(self._said, default=None)
        held = Events.concatenate([self._waiting, events]) if len(self._waiting) else events
        return self._follow(held, may_wait=True)

    def finish(self) -> Events:
        """Returns the events that wait; there are no more."""
        return self._follow(self._waiting, may_wait=False)

    def reached(self, said_us: int) -> int | None:
        """Returns how far time has come where the sensor says so without an event; None before the first event.

        Args:
            said_us: The sensor's time, on the clock of its events.
        """
        self._said.append(said_us)
        if len(self._waiting) and not self._clock.pauses:
            return self._clock.time_us
        return self._clock.time_of(min(self._said))  # what still waits in a pause must not stop time

    def _follow(self, held: Events, may_wait: bool) -> Events:
        """Returns the events whose time is known, and keeps the others."""
        times = self._clock.follow(np.clip(held.t, -LATEST_US, LATEST_US), may_wait)
        self._waiting = held[times.size :]
        known = held[: times.size]
        return Events(times, known.x, known.y, known.p)
