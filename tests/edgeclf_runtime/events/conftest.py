"""What the tests of the decoders share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from edgeclf_runtime.events import Events
from edgeclf_runtime.events.clock import (
    FAR_WITNESSES,
    LONGEST_GAP,
    LONGEST_LOSS,
    PROOF_US,
    TOLERANCE,
    UNPROVEN_JUMP,
    WITNESSES,
)
from edgeclf_runtime.events.decoder import Decoder
from edgeclf_runtime.events.encoding import DECODERS

PlainEvents = Iterable[tuple[int, int, int, int]]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes decoders work through 64 bytes at a time, so that small tests cross the borders of many blocks."""
    for decoder in DECODERS.values():
        monkeypatch.setattr(decoder, "block_bytes", 64)


@pytest.fixture
def assert_events() -> Callable[[Events, PlainEvents], None]:
    """Asserts that events have the promised types and equal rows of (t, x, y, p)."""

    def check(events: Events, expected: PlainEvents) -> None:
        assert [events.t.dtype, events.x.dtype, events.y.dtype, events.p.dtype] == ["i8", "u2", "u2", "u1"]
        actual = np.stack([events.t, events.x, events.y, events.p], axis=1)
        np.testing.assert_array_equal(actual, np.array(list(expected), np.int64).reshape(-1, 4))

    return check


@pytest.fixture
def feed_in_portions() -> Callable[[Decoder, bytes, int, int], Events]:
    """Feeds bytes in random portions of at most some size, from a buffer that is overwritten each time."""

    def feed(decoder: Decoder, data: bytes, largest: int, seed: int) -> Events:
        rng = np.random.default_rng(seed)
        buffer = bytearray(largest)
        batches, start = [], 0
        while start < len(data):
            portion = data[start : start + int(rng.integers(1, largest + 1))]
            buffer[: len(portion)] = portion
            batches.append(decoder.feed(memoryview(buffer)[: len(portion)]))
            start += len(portion)
        batches.append(decoder.finish())
        return Events.concatenate(batches)

    return feed


@dataclass
class Judged:
    """What a plain loop makes of the readings of a clock."""

    times: list[int]
    damaged: int = 0
    set_anew: int = 0


def step_plainly(before: int, reading: int, period: int | None, longest: int) -> int:
    """How far ahead a reading is, seen on the circle of the counter where there is one."""
    step = reading - before
    if period is not None and step < 0 and step + period <= min(period // 2, longest):
        return step + period
    if period is not None and step > period - min(period // 16, longest):
        return step - period
    return step


def judge_plainly(readings: Sequence[int], period: int | None = None) -> Judged:
    """Judges one reading at a time, all that come after it being known."""
    judged = Judged([])
    last: int | None = None
    while len(judged.times) < len(readings):
        first = start = len(judged.times)
        chain = [ahead := 0 if last is None else step_plainly(last, readings[first], period, LONGEST_LOSS)]
        jumped = 0  # where in the chain the last jump stands
        verdict = "good" if last is not None and abs(ahead) <= TOLERANCE else ""
        while not verdict:
            at = start + len(chain)
            close = chain[jumped:]
            if (len(close) >= WITNESSES and close[-1] - close[0] >= PROOF_US) or (
                len(chain) >= FAR_WITNESSES and chain[-1] - chain[0] >= PROOF_US
            ):
                verdict = "jump"
            elif at == len(readings):
                is_likely = last is None or len(chain) >= WITNESSES or 0 < chain[0] <= UNPROVEN_JUMP
                verdict = "jump" if is_likely else "bad"
            else:
                step = step_plainly(readings[at - 1], readings[at], period, TOLERANCE)
                if step >= -TOLERANCE and (last is None or chain[0] > 0 or chain[-1] + step < -TOLERANCE):
                    jumped = len(chain) if abs(readings[at] - readings[at - 1]) > TOLERANCE else jumped
                    chain.append(chain[-1] + step)
                    continue
                ahead = 0 if last is None else step_plainly(last, readings[at], period, LONGEST_LOSS)
                start, chain, jumped = at, [ahead], 0
                verdict = "good" if last is not None and abs(ahead) <= TOLERANCE else ""
        if verdict == "bad":
            judged.damaged += len(readings) - first
            judged.times += [judged.times[-1]] * (len(readings) - first)
            continue
        time = judged.times[-1] if judged.times else readings[start]
        judged.damaged += start - first
        judged.times += [time] * (start - first)
        if verdict == "jump" and not 0 <= chain[0] <= LONGEST_GAP:
            judged.set_anew += 1
        else:
            time += chain[0]
        judged.times.append(time)
        last = readings[start]
    return judged


@pytest.fixture
def plain_judge() -> Callable[..., Judged]:
    """`judge_plainly`."""
    return judge_plainly
