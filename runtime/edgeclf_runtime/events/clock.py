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
"""µs ahead that are followed where the stream ends, or pauses, before there is proof: an event after a silence is
likelier than damage, but frames without events for hours are worse than one event out of its place."""

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
        pauses: Whether nothing comes for now. Jumps that are likely need not wait for proof then, but where the sensor
            sends its time all the time, as proof comes as soon as it goes on.
        said_us: The reading that the sensor is known to have reached, so that a jump ahead up to there is likely; None:
            it does not say.
    """

    def __init__(self, period: int | None = None, is_steady: bool = False) -> None:
        self._period = period
        self._is_steady = is_steady
        self.time_us: int | None = None
        self.pauses = False
        self.said_us: int | None = None
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
        known, waits, ends = 0, False, np.append(jumps, readings.size)
        for jump in [*unproven.tolist(), readings.size]:
            if jump < known:
                continue  # it was judged along with one before
            if known < jump:
                times[known:jump] = readings[known:jump] + self._offset
                self.time_us = int(times[jump - 1])
                self._ahead += self._is_steady * int(np.count_nonzero(steps[known:jump] > LARGE_JUMP))
                known = jump
            if jump < readings.size:
                known, waits = self._judge(readings, times, ends, jump, may_wait)
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
        ends: NDArray[np.intp],
        first: int,
        may_wait: bool,
    ) -> tuple[int, bool]:
        """Judges the jump to reading `first` by those after it, and fills in the times that this makes known.

        Args:
            readings: As `follow` takes them.
            times: Their times.
            ends: Where in them one jumps, and their end.
            first: Which of them jumps.
            may_wait: Whether readings may be left over.

        Returns:
            How many times are known then, and whether the readings from there on have to wait.
        """
        run, stop = int(np.searchsorted(ends, first)), first  # which run of close readings, and its end
        jump, step, at = self._jump_to(first, int(readings[first])), 0, first
        while self.time_us is None or abs(jump.ahead) > TOLERANCE:  # else it is back in good time
            if at == stop:
                run, stop = run + 1, int(ends[run + 1])
            at += jump.take_one(step) if stop - at == 1 else jump.take(readings[at:stop], step)
            if jump.is_proven or at - (first if self.time_us is None else jump.start) >= MOST_WAITING:
                break
            if at == readings.size:
                if self._is_likely(jump, int(readings[jump.start]), may_wait):
                    break
                return self._give_up(times, first, jump.start if may_wait else at), may_wait
            reading = int(readings[at])
            step = self._step(int(readings[at - 1]), reading, TOLERANCE)
            if not jump.goes_on(step):
                jump, step = self._jump_to(at, reading), 0
        self._believe(readings, times, first, jump)
        return jump.start + 1, False

    def _is_likely(self, jump: _Jump, reading: int, may_wait: bool) -> bool:
        """Returns whether a jump to a reading is believed without proof, as the stream ends or pauses after it."""
        if may_wait and (self._is_steady or not self.pauses):
            return False
        is_said = self.said_us is not None and reading <= self.said_us
        is_followed = jump.ahead > 0 and (jump.ahead <= UNPROVEN_JUMP or is_said)
        return self.time_us is None or is_followed or jump.has_witnesses(PROOF_US if may_wait else 0)

    def _jump_to(self, at: int, reading: int) -> _Jump:
        """Returns the jump from the last good reading to another; it is none where that is close."""
        if self.time_us is None:
            return _Jump(at, 0)
        return _Jump(at, self._step(self.time_us - self._offset, reading, LONGEST_LOSS))

    def _give_up(self, times: NDArray[np.int64], start: int, stop: int) -> int:
        """Gives damaged readings the last good time, where there is one; returns up to where times are known."""
        if self.time_us is None:
            return start
        times[start:stop] = self.time_us
        self._damaged += stop - start
        return stop

    def _believe(self, readings: NDArray[np.int64], times: NDArray[np.int64], first: int, jump: _Jump) -> None:
        """Takes a jump for the truth; the readings before it, from `first` on, are damaged."""
        reading = int(readings[jump.start])
        if self.time_us is None:
            self.time_us = reading
        self._give_up(times, first, jump.start)
        if -TOLERANCE <= jump.ahead <= LONGEST_GAP:
            self._ahead += self._is_steady and jump.ahead > LARGE_JUMP
            self.time_us += jump.ahead
        else:
            self._set_anew += 1
            self._farthest_set = max(self._farthest_set, abs(jump.ahead))
        self._offset = self.time_us - reading
        times[jump.start] = self.time_us

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


class _Jump:
    """A jump that may be true, and the readings that bear it out, as they come.

    Args:
        start: Which reading is jumped to.
        ahead: How far ahead of the last good reading that is, in µs; negative where it is back.

    Attributes:
        is_proven: Whether enough readings have gone on from it.
    """

    __slots__ = ("_count", "_now", "ahead", "is_proven", "start")

    def __init__(self, start: int, ahead: int) -> None:
        self.start = start
        self.ahead = ahead
        self.is_proven = False
        self._now = ahead  # of the reading that came last
        self._count = 0

    def has_witnesses(self, over_us: int) -> bool:
        """Returns whether as many readings have gone on from it as prove it where they are close, over so many µs."""
        return self._count >= WITNESSES and self._now - self.ahead >= over_us

    def goes_on(self, step: int) -> bool:
        """Returns whether a reading so many µs after the last goes on from it: in order, and not back to good time."""
        return step >= -TOLERANCE and (self.ahead >= 0 or self._now + step < -TOLERANCE)

    def take(self, readings: NDArray[np.int64], step: int) -> int:
        """Takes readings that are close to one another, and returns how many of them go on from the jump.

        Args:
            readings: The next ones; the first of them goes on.
            step: How far that is ahead of the one before.
        """
        self._now += step
        now = readings + (self._now - int(readings[0]))
        if self.ahead < 0:
            is_back = now >= -TOLERANCE
            now = now[: int(np.argmax(is_back)) if is_back.any() else None]
        close, far = now[WITNESSES - 1 :], now[max(0, FAR_WITNESSES - 1 - self._count) :]
        self.is_proven = bool(np.any(close - self._now >= PROOF_US) or np.any(far - self.ahead >= PROOF_US))
        self._now = int(now[-1])
        self._count += now.size
        return now.size

    def take_one(self, step: int) -> int:
        """Takes one reading, as `take` would: noise is made of these."""
        self._now += step
        self._count += 1
        self.is_proven = self._count >= FAR_WITNESSES and self._now - self.ahead >= PROOF_US
        return 1
