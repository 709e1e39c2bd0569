"""Unrolling time counters that start again from zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class RollOverCounter:
    """Turns the values of a counter that wraps at `period` into values that go on growing.

    Sensors send the high bits of their time again and again, so from one value to the next the counter moves
    by little. A fall by more than half the period is therefore a roll-over, and any smaller fall a glitch of
    the hardware, which must not move time by a whole period. A glitch may also step back over the roll-over
    itself: a rise by nearly the whole period, once the counter has rolled over, takes that roll-over back.

    Args:
        period: Number of values after which the counter starts again from zero.
    """

    def __init__(self, period: int) -> None:
        self._period = period
        self._fall = -(period // 2)
        self._rise = period - period // 16
        self._last: int | None = None
        self._rolled = 0

    def unroll(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns `values`, a continuation of those of the calls before, with the roll-overs added up.

        Args:
            values: Counter values in order, each in [0, period).
        """
        if not values.size:
            return values
        steps = np.empty_like(values)
        steps[0] = 0 if self._last is None else values[0] - self._last
        np.subtract(values[1:], values[:-1], out=steps[1:])
        self._last = int(values[-1])
        jumps = np.flatnonzero((steps < self._fall) | (steps > self._rise))
        if not jumps.size:
            return values + self._rolled * self._period
        # Jumps are rare (one in 17 s for EVT3, in 4.8 h for EVT2), and what one means depends on those before
        # it.
        rolled_from = [self._rolled]
        for step in steps[jumps].tolist():
            self._rolled = self._rolled + 1 if step < 0 else max(self._rolled - 1, 0)
            rolled_from.append(self._rolled)
        lengths = np.diff(jumps, prepend=0, append=values.size)
        return values + np.repeat(np.array(rolled_from, np.int64) * self._period, lengths)
