"""The pieces of a stream that wait to become frames."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeclf_runtime.streaming.options import WhenLate
from edgeclf_runtime.streaming.statistics import StreamStatistics

MERGED_AT_MOST = 64
"""Slices that become one frame, so that a queue holds no more however long inference takes."""


@dataclass(frozen=True)
class Piece:
    """What a frame will be made of.

    Attributes:
        content: As the frame stream gives it.
        due: When its last event was there, by the run's clock.
        slices: How many slices it stands for.
    """

    content: Any
    due: float
    slices: int = 1


class PieceQueue:
    """Hands pieces from the thread that reads to the one that makes frames; it never holds more than `length`.

    Args:
        length: How many pieces wait at most.
        when_late: What becomes of a piece for which there is no room.
        merge: Makes one piece's content of an older and a newer one.
        statistics: Where drops and merges are counted.
    """

    def __init__(
        self, length: int, when_late: WhenLate, merge: Callable[[Any, Any], Any], statistics: StreamStatistics
    ) -> None:
        self._length = length
        self._when_late = when_late
        self._merge = merge
        self._statistics = statistics
        self._pieces: deque[Piece] = deque()
        self._is_closed = False
        self._changed = threading.Condition()  # one thread puts and one takes, and they never both wait

    def put(self, piece: Piece) -> bool:
        """Adds a piece, as the policy says where there is no room; returns False where the queue has been closed."""
        with self._changed:
            if self._when_late == "block":
                while len(self._pieces) == self._length and not self._is_closed:
                    self._changed.wait()
            if self._is_closed:
                return False
            if len(self._pieces) < self._length:
                self._pieces.append(piece)
            elif self._when_late == "merge" and self._pieces[-1].slices < MERGED_AT_MOST:
                self._pieces[-1] = self._merged(self._pieces[-1], piece)
            else:
                self._statistics.drops += self._pieces.popleft().slices
                self._pieces.append(piece)
            self._changed.notify()
            return True

    def get(self) -> Piece | None:
        """Takes the oldest piece, once there is one; None: there is none left, and the queue has been closed."""
        with self._changed:
            while not self._pieces and not self._is_closed:
                self._changed.wait()
            if not self._pieces:
                return None
            piece = self._pieces.popleft()
            self._changed.notify()
            return piece

    def close(self, discard: bool = False) -> None:
        """Takes no more pieces; those that wait can still be taken, but where they are to be discarded."""
        with self._changed:
            self._is_closed = True
            if discard:
                self._pieces.clear()
            self._changed.notify_all()

    def _merged(self, older: Piece, newer: Piece) -> Piece:
        content = self._merge(older.content, newer.content)
        if content is newer.content:  # a frame that was made before cannot take up another
            self._statistics.drops += older.slices
            return newer
        self._statistics.merges += 1
        return Piece(content, newer.due, older.slices + 1)
