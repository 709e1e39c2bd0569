"""One stream's way from its source to a frame that is ready: one thread reads and slices, another makes frames."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeclf_runtime.frames import Frame, FrameStream
from edgeclf_runtime.streaming.clock import Clock
from edgeclf_runtime.streaming.memory import Clears
from edgeclf_runtime.streaming.options import StreamOptions
from edgeclf_runtime.streaming.pieces import Piece, PieceQueue
from edgeclf_runtime.streaming.statistics import StreamStatistics


@dataclass(frozen=True)
class ReadyFrame:
    """A frame for the model.

    Attributes:
        frame: The frame.
        due: When its last event was there, by the run's clock.
        clears: Whether the memory policy clears the stream's memory before it.
    """

    frame: Frame
    due: float
    clears: bool


class Pipeline:
    """Reads a stream and makes its frames, each in a thread of its own, never more than one frame ahead.

    Args:
        number: The stream's number.
        frames: Its frames.
        options: How streams are run.
        delta_t: Duration of a slice in µs.
        clears: Watches its frames for the memory policy.
        statistics: Where is counted what happens.
        clock: The run's clock.
        post: Takes each frame, and None after the last one.
    """

    def __init__(
        self,
        number: int,
        frames: FrameStream[Any],
        options: StreamOptions,
        delta_t: int,
        clears: Clears,
        statistics: StreamStatistics,
        clock: Clock,
        post: Callable[[int, ReadyFrame | None], None],
    ) -> None:
        self.number = number
        self.is_live = frames.source.is_live
        self.is_timed = self.is_live or options.realtime
        self.waits_since: float | None = None  # for the source to give something, by the run's clock
        self._is_held_back = options.realtime and not self.is_live
        self._frames = frames
        self._delta_t = delta_t
        self._clears = clears
        self._statistics = statistics
        self._clock = clock
        self._post = post
        self._pieces = PieceQueue(
            options.queue, options.when_late if self.is_timed else "block", frames.merge, statistics
        )
        self._started = 0.0
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()  # an item where the next frame has a place
        self._room.put(None)
        self._is_stopped = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=f"edgeclf-{name}-{number}", daemon=True)
            for name, target in (("read", self._read), ("make", self._make))
        ]

    def start(self, at: float) -> None:
        """Starts both threads; recordings that are played at the sensor's speed all start at one time."""
        self._started = at
        for thread in self._threads:
            thread.start()

    def taken(self) -> None:
        """Makes room for the next frame, once the one before was taken."""
        self._room.put(None)

    def stop(self, discard: bool = False) -> None:
        """Ends the stream: no more is read, and what was read before still comes, but where it is to be discarded."""
        self._is_stopped.set()
        self._pieces.close(discard)
        if discard:
            self._room.put(None)
        try:
            self._frames.source.close()
        except Exception as error:  # a driver's, say; the other streams are to be stopped as well
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Keeps why the stream failed: what comes after the first error follows from it."""
        if self._statistics.failure is None:
            self._statistics.failure = error

    def join(self, timeout_s: float) -> bool:
        """Waits for the threads to end, and returns whether they did."""
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _read(self) -> None:
        try:
            self.waits_since, begin = self._clock.now(), time.thread_time_ns()
            for content in self._frames.pieces():
                self.waits_since = None
                self._statistics.decode.add((time.thread_time_ns() - begin) / 1000)
                due = self._due(content.end_us)
                if self._clock.wait_until(due, unless=self._is_stopped) or not self._pieces.put(Piece(content, due)):
                    break
                self.waits_since, begin = self._clock.now(), time.thread_time_ns()
        except Exception as error:  # of whatever kind: the run is told, and the other streams go on
            if not self._is_stopped.is_set():  # else it is because its source was closed
                self.fail(error)
        finally:
            self._pieces.close()

    def _due(self, end_us: int) -> float:
        """Returns when a slice's last event is there: where a recording is held back, when the sensor would send it."""
        if self._statistics.first_us is None:
            self._statistics.first_us = end_us - self._delta_t
        if self._is_held_back:
            return self._started + (end_us - self._statistics.first_us) / 1e6
        return self._clock.now()

    def _make(self) -> None:
        try:
            while True:
                self._room.get()
                piece = self._pieces.get()
                if piece is None:
                    break
                frame = self._frames.make(piece.content)
                self._statistics.preprocess.add(frame.preparation_us)
                self._post(self.number, ReadyFrame(frame, piece.due, self._clears(frame.data)))
        except Exception as error:  # as above
            self.fail(error)
            self.stop()
        finally:
            self._post(self.number, None)
