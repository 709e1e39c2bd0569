"""A clock that damage cannot mislead: readings of a sensor's time become times that go on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 10_000
"""µs from one reading to the next that need no proof, ahead or back: a slice is seldom shorter, and sensors send their
time at least every 4096 µs."""

WITNESSES = 8
"""Readings close to one another that prove a jump: damaged ones are far apart."""

FAR_WITNESSES = 32
"""Readings that prove it where they are far apart, as in a recording of few events. Damaged ones do not come in order:
not so many, even where four neighbours of a row share their damage, which happens once in 8! = 40,320 times."""

PROOF_US = 5_000
"""µs over which they must go on: longer than any time word holds (4096 µs, EVT3), so that the events after one damaged
word do not prove each other."""

MOST_WAITING = 1 << 16
"""Readings for which a decision may wait: events of 5 ms at 13 million a second."""

LARGE_JUMP = 1_000_000
"""µs ahead that are told, where the sensor sends its time all the time."""

UNPROVEN_JUMP = 10_000_000
"""µs ahead that are followed where the stream ends before there is proof: an event after a pause is likelier than
damage, but frames without events for hours are worse than one event out of its place."""

LONGEST_LOSS = 60_000_000
"""µs that may be lost while the counter rolls over: where it falls so that more would be, it was set back."""

LONGEST_GAP = 24 * 3600 * 1_000_000
"""µs ahead beyond which it is another clock, and not a pause."""

DAMAGED, AHEAD, SET_ANEW = "time words damaged", "time jumps ahead", "times the clock was set anew"


class Clock:
    """Turns the readings of a clock, in the order in which they come, into times in µs that go on.

    A reading close to the one before is the time. Any other is a jump, and is believed once the readings after it go on
    from it in order (see `WITNESSES`, `FAR_WITNESSES` and `PROOF_US`):

    - A jump ahead is a gap in the recording, and is followed.
    - A jump back is a clock that was set anew. Time goes on from where it was.
    - What is not borne out is damage: what was read until the next good reading has the last good time.

    A counter that wraps is unrolled: a fall that is small modulo the period is a roll-over.

    Args:
        period: µs after which the counter starts again from zero; None: it does not.
        is_steady: Whether the sensor sends its time also where it sees nothing, so that a gap is a loss.

    Attributes:
        time_us: The last time that was believed; None before the first.
    """

    def __init__(self, period: int | None = None, is_steady: bool = False) -> None:
        self._period = period
        self._is_steady = is_steady
        self.time_us: int | None = None
        self._offset = 0  # of the times from the readings
        self._damaged = self._ahead = self._set_anew = self._farthest_set = 0

    @property
    def damage(self) -> Mapping[str, int]:
        """What was wrong until now, counted by kind; only what occurred."""
        counts = {DAMAGED: self._damaged, AHEAD: self._ahead, SET_ANEW: self._set_anew}
        return {kind: count for kind, count in counts.items() if count}

    def problems_of(self, name: str) -> list[str]:
        """Returns what was wrong until now, a sentence each.

        Args:
            name: What the sentences call the source.
        """
        problems = []
        if self._damaged:
            problems.append(
                f"{self._damaged} time(s) in {name} are damaged: the events there have the last good time before them."
            )
        if self._ahead:
            problems.append(f"The time of {name} jumps ahead {self._ahead} time(s), so something was lost there.")
        if self._set_anew:
            problems.append(
                f"The clock of {name} was set anew {self._set_anew} time(s), by up to {self._farthest_set} µs: time "
                "goes on from where it was."
            )
        return problems

    def follow(self, readings: NDArray[np.int64], may_wait: bool = False) -> NDArray[np.int64]:
        """Returns the times of the readings, without those at the end that cannot be judged before more have come.

        What waits is not kept: it has to come again, before the readings after it.

        Args:
            readings: The next readings in µs, in order; in [0, period) where there is one.
            may_wait: Whether readings may be left over.
        """
        if not readings.size:
            return readings
        steps = np.empty_like(readings)
        steps[0] = 0 if self.time_us is None else int(readings[0]) - (self.time_us - self._offset)
        np.subtract(readings[1:], readings[:-1], out=steps[1:])
        if self.time_us is not None and steps.min() >= -TOLERANCE and steps.max() <= TOLERANCE:
            self.time_us = int(readings[-1]) + self._offset
            return readings + self._offset if self._offset else readings
        times = np.empty_like(readings)
        jumps = self._jumps(steps)
        unproven = jumps[~self._are_proven(readings, steps, jumps)]
        if self.time_us is None and 0 not in unproven[:1]:
            self.time_us = int(readings[0])
        known, waits = 0, False
        for jump in [*unproven.tolist(), readings.size]:
            if jump < known:
                continue  # it was judged along with one before
            if known < jump:
                times[known:jump] = readings[known:jump] + self._offset
                self.time_us = int(times[jump - 1])
                self._ahead += self._is_steady * int(np.count_nonzero(steps[known:jump] > LARGE_JUMP))
                known = jump
            if jump < readings.size:
                known, waits = self._judge(readings, times, jumps, jump, may_wait)
                if waits:
                    break
        return times[:known]

    def time_of(self, reading: int) -> int | None:
        """Returns the time of a reading that is not followed, as the clock stands; None before the first reading."""
        return None if self.time_us is None else reading + self._offset

    def _jumps(self, steps: NDArray[np.int64]) -> NDArray[np.intp]:
        """Returns the indices of the readings that are not close to the one before, and of the first of all."""
        is_jump = (steps < -TOLERANCE) | (steps > TOLERANCE)
        is_jump[0] |= self.time_us is None
        return np.flatnonzero(is_jump)

    def _are_proven(
        self, readings: NDArray[np.int64], steps: NDArray[np.int64], jumps: NDArray[np.intp]
    ) -> NDArray[np.bool_]:
        """Returns which jumps are jumps ahead that the readings up to the next fall bear out.

        Recordings with few events are full of these, so they are looked at all at once.
        """
        ends = np.append(jumps[1:], readings.size)
        falls = jumps[steps[jumps] < 0]
        fall = np.append(falls, readings.size)[np.searchsorted(falls, jumps, side="right")]
        longest = LONGEST_GAP if self._period is None else self._period - self._period // 16
        is_proven = np.zeros(jumps.size, np.bool_)
        for end, witnesses in ((ends, WITNESSES), (fall, FAR_WITNESSES)):
            is_proven |= (end - jumps >= witnesses) & (readings[end - 1] - readings[jumps] >= PROOF_US)
        return is_proven & (steps[jumps] >= 0) & (steps[jumps] <= longest)

    def _judge(
        self,
        readings: NDArray[np.int64],
        times: NDArray[np.int64],
        jumps: NDArray[np.intp],
        first: int,
        may_wait: bool,
    ) -> tuple[int, bool]:
        """Judges the jump to reading `first` by those after it, and fills in the times that this makes known.

        Returns:
            How many times are known then, and whether the readings from there on have to wait.
        """
        last = None if self.time_us is None else self.time_us - self._offset
        next_jump = int(np.searchsorted(jumps, first, side="right"))
        # The jump that may be true, how far ahead it is of the last good reading, and how far time has come after it.
        start = ahead = now = -1
        at = first
        while at < readings.size:
            reading = int(readings[at])
            step = self._step(int(readings[at - 1]), reading, TOLERANCE) if start >= 0 else 0
            if start >= 0 and step >= -TOLERANCE and (last is None or ahead > 0 or now + step < -TOLERANCE):
                now += step
            else:
                ahead = now = 0 if last is None else self._step(last, reading, LONGEST_LOSS)
                if last is not None and abs(ahead) <= TOLERANCE:
                    self._keep(times, first, at)
                    times[at] = self.time_us = last + self._offset + ahead
                    self._offset = self.time_us - reading
                    return at + 1, False
                start = at
            # Up to the next jump, the readings go on from one another.
            next_jump += next_jump < jumps.size and jumps[next_jump] <= at
            stop = int(jumps[next_jump]) if next_jump < jumps.size else readings.size
            is_proven = at + 1 - start >= FAR_WITNESSES and now - ahead >= PROOF_US
            if stop > at + 1:
                going = readings[at:stop] + (now - reading)
                if last is not None and ahead < 0:
                    is_back = going >= -TOLERANCE
                    going = going[: int(np.argmax(is_back)) if is_back.any() else None]
                is_proven |= bool(np.any(going[WITNESSES - 1 :] - now >= PROOF_US))
                is_proven |= bool(np.any(going[max(0, start + FAR_WITNESSES - 1 - at) :] - ahead >= PROOF_US))
                now, stop = int(going[-1]), at + going.size
            at = stop
            if is_proven or at - (first if last is None else start) >= MOST_WAITING:
                self._jump(readings, times, first, start, ahead)
                return start + 1, False
        if not may_wait and (last is None or at - start >= WITNESSES or 0 < ahead <= UNPROVEN_JUMP):
            self._jump(readings, times, first, start, ahead)
            return start + 1, False
        if last is None:
            return first, True  # there is no time yet that they could have
        known = start if may_wait else at
        self._keep(times, first, known)
        return known, may_wait

    def _keep(self, times: NDArray[np.int64], start: int, stop: int) -> None:
        """Gives damaged readings the last good time."""
        times[start:stop] = self.time_us or 0
        self._damaged += stop - start

    def _jump(self, readings: NDArray[np.int64], times: NDArray[np.int64], first: int, start: int, ahead: int) -> None:
        """Believes the jump to reading `start`; those before it, from `first` on, are damaged."""
        reading = int(readings[start])
        if self.time_us is None:
            self.time_us = reading
        self._keep(times, first, start)
        if 0 < ahead <= LONGEST_GAP:
            self._ahead += self._is_steady and ahead > LARGE_JUMP
            self.time_us += ahead
        elif ahead:
            self._set_anew += 1
            self._farthest_set = max(self._farthest_set, abs(ahead))
        self._offset = self.time_us - reading
        times[start] = self.time_us

    def _step(self, before: int, reading: int, longest: int) -> int:
        """Returns how far ahead of the reading before a reading is, in µs; negative where it is back.

        Args:
            before: The reading before.
            reading: The reading.
            longest: µs up to which a fall may be a roll-over.
        """
        step = reading - before
        if self._period is None:
            return step
        if step < 0 and step + self._period <= min(self._period // 2, longest):
            return step + self._period
        if step > self._period - min(self._period // 16, longest):
            return step - self._period  # it steps back over its roll-over
        return step
