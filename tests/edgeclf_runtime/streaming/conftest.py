"""Streams, a model and a clock that a test holds in its hand."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from edgeclf_runtime.frames import Frame, FrameStream
from edgeclf_runtime.session import Predictions
from edgeclf_runtime.sources import FrameSource

DELTA = 10_000
PATIENCE = 20  # s; only a test that fails waits so long


@dataclasses.dataclass(frozen=True)
class GivenPiece:
    """A slice whose events are numbers."""

    index: int
    end_us: int
    events: tuple[int, ...]


class GivenSource(FrameSource):
    """Only a name, and whether it is live; closing it ends what it feeds."""

    def __init__(self, name: str, is_live: bool) -> None:
        self.name = name
        self.is_live = is_live
        self.sensor_size = (4, 3)
        self.closed = threading.Event()
        self.when_closed: Callable[[], None] = lambda: None

    @property
    def damage(self) -> dict[str, int]:
        return {"odd words": 2}

    def close(self) -> None:
        self.closed.set()
        self.when_closed()

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("only its frames are used")


class Fed(FrameStream[GivenPiece]):
    """Frames that come when the test says so; frame k holds k, or the numbers of those that were merged into it."""

    def __init__(self, name: str = "a", is_live: bool = False) -> None:
        super().__init__(GivenSource(name, is_live))
        self.source.when_closed = self.end
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._fed = 0
        self.changed = threading.Condition()
        self.asked = 0  # how often the next piece was asked for
        self.made: list[int] = []
        self.fails_at: int | None = None

    def feed(self, count: int = 1) -> Fed:
        for _ in range(count):
            self._items.put(GivenPiece(self._fed, (self._fed + 1) * DELTA, (self._fed,)))
            self._fed += 1
        return self

    def end(self, error: Exception | None = None) -> Fed:
        self._items.put(error)
        return self

    def pieces(self) -> Iterator[GivenPiece]:
        while True:
            with self.changed:
                self.asked += 1
                self.changed.notify_all()
            item = self._items.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                return
            yield item

    def make(self, piece: GivenPiece) -> Frame:
        if piece.index == self.fails_at:
            raise ZeroDivisionError("made to fail")
        with self.changed:
            self.made.append(piece.index)
            self.changed.notify_all()
        return Frame(piece.index, piece.end_us, np.full((1, 1, 1), sum(piece.events), np.float32), 300.0)

    def merge(self, older: GivenPiece, newer: GivenPiece) -> GivenPiece:
        return dataclasses.replace(newer, events=older.events + newer.events)

    def wait(self, holds: Callable[[Fed], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: holds(self), PATIENCE)


class HeldModel:
    """A classifier that remembers what it was given, and waits at each step while `gate` is closed."""

    def __init__(self, contract: Any, streams: int) -> None:
        self.contract = contract
        self.device = "cpu"
        self.streams = streams
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[int]] = []
        self.seen: list[list[float]] = []
        self.resets: list[tuple[int, int]] = []
        self.before: Callable[[], None] = lambda: None
        self._changed = threading.Condition()

    def reset(self, stream: int) -> None:
        self.resets.append((len(self.batches), stream))

    def step(self, frames: Any, *, streams: list[int]) -> Predictions:
        with self._changed:
            self.batches.append(streams)
            self.seen.append(frames.sum(axis=(1, 2, 3)).tolist())
            self._changed.notify_all()
        self.before()
        assert self.gate.wait(PATIENCE)
        logits = np.tile(np.array([0, 3, 1, 2], np.float32), (len(frames), 1))
        return Predictions(logits, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))

    def wait_for_steps(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.batches) >= count, PATIENCE), self.batches


class HeldClock:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._changed = threading.Condition()
        self.held: set[float] = set()
        self._pieces = 0

    def now(self) -> float:
        return self._now

    def wait_until(self, then: float, unless: threading.Event) -> bool:
        with self._changed:
            self._pieces += 1
            self._changed.notify_all()
            while self._now < then - 1e-9 and not unless.is_set():
                self.held.add(round(then - 1000, 6))
                self._changed.notify_all()
                self._changed.wait(0.01)  # the event does not wake it
        return unless.is_set()

    def move_to(self, then: float) -> None:
        with self._changed:
            self._now = 1000 + then
            self._changed.notify_all()

    def wait_for_pieces(self, count: int) -> None:
        """Until so many pieces have been read, the last one perhaps not queued yet."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._pieces >= count, PATIENCE)

    def wait_until_held(self, then: float) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: then in self.held, PATIENCE)


class Consumer:
    """Goes over a run in a thread of its own."""

    def __init__(self, run: Any) -> None:
        self.predictions: list[Any] = []
        self.error: Exception | None = None
        self._run = run
        self._thread = threading.Thread(target=self._consume, daemon=True)
        self._thread.start()

    def _consume(self) -> None:
        try:
            for prediction in self._run:
                self.predictions.append(prediction)
        except Exception as error:
            self.error = error

    def finish(self) -> list[Any]:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        return self.predictions


@pytest.fixture
def fed() -> type[Fed]:
    return Fed


@pytest.fixture
def held_model(tiny: Any) -> Callable[[int], HeldModel]:
    """Makes a model for so many streams."""
    return lambda streams=1: HeldModel(tiny, streams)


@pytest.fixture
def held_clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def consume() -> type[Consumer]:
    return Consumer


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("edgeclf-")] == []
