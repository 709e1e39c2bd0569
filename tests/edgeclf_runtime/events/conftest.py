"""What the tests of the decoders share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from edgeclf_runtime.events import Events
from edgeclf_runtime.events.decoder import Decoder
from edgeclf_runtime.events.recording import DECODERS

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
        return Events.concatenate(batches)

    return feed
