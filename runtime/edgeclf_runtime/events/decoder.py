"""The base of the event decoders: bytes in any portions, events out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.events.clock import Clock

UNKNOWN_WORDS, INCOMPLETE = "words of unknown type", "bytes of an incomplete word at the end"


class Decoder(ABC):
    """Decodes a stream of words into events.

    A decoder remembers what a later word depends on (time, row, the start of an incomplete word), so it makes no
    difference in which portions the stream is fed. Words that a later one must bear out (see `Clock`) wait for it: what
    waits when the stream ends, `finish` gives, and `pause` what is likely of it where nothing comes for now.

    Args:
        clock: Follows the time of the words.
    """

    word: ClassVar[np.dtype[Any]]
    """The words of the format, little-endian."""

    block_bytes: ClassVar[int] = 1 << 19
    """How much is decoded at a time: few enough that what is made on the way stays in the processor's cache."""

    most_waiting_bytes: ClassVar[int] = 1 << 19
    """How much may wait, so that a stream without a second time word does not fill the memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting = b""
        self._started = False
        self._incomplete_bytes = 0

    @property
    def time_us(self) -> int | None:
        """The sensor's time as far as it has come, with or without events; None before the first."""
        return self._clock.time_us

    @property
    def damage(self) -> Mapping[str, int]:
        """What was wrong until now, counted by kind; only what occurred."""
        counts = {INCOMPLETE: self._incomplete_bytes, UNKNOWN_WORDS: self.unknown_words, **self._clock.damage}
        return {kind: count for kind, count in counts.items() if count}

    @property
    def unknown_words(self) -> int:
        """The number of words of a type that the format does not have; they are skipped."""
        return 0

    def problems_of(self, name: str) -> list[str]:
        """Returns what was wrong with the words until now, a sentence each, which call the stream by a name."""
        problems = []
        if self._incomplete_bytes:
            problems.append(
                f"{name} was cut off: {self._incomplete_bytes} byte(s) of an incomplete word at its end were ignored."
            )
        return problems + self._clock.problems_of(name)

    def feed(self, data: bytes | bytearray | memoryview) -> Events:
        """Returns the events that `data` makes known.

        Args:
            data: The next bytes of the stream, any number of them. They are not kept: the caller may overwrite them.
        """
        return self._take(data, at_end=False)

    def pause(self) -> Events:
        """Returns the events that wait and are likely, as nothing comes for now; the stream goes on later."""
        self._clock.pauses = True
        events = self._take(b"", at_end=False)
        self._clock.pauses = False
        return events

    def finish(self) -> Events:
        """Returns the events that waited for more of the stream, which has ended."""
        self._incomplete_bytes = len(self._waiting) % self.word.itemsize
        return self._take(b"", at_end=True)

    def _take(self, data: bytes | bytearray | memoryview, at_end: bool) -> Events:
        if self._waiting:
            data = self._waiting + bytes(data)
        size = self.word.itemsize
        words = np.frombuffer(data, self.word, len(data) // size)
        batches = []
        at, block = 0, self.block_bytes // size
        count = block
        while at < words.size:
            may_wait = count * size <= self.most_waiting_bytes
            if not may_wait:
                count = block
            is_last = at + count >= words.size
            events, used = self._decode_block(words[at : at + count], may_wait and not (at_end and is_last))
            batches.append(events)
            at += used
            if is_last and used < count:
                break
            count = block if used else 2 * count  # where all of a block waits, judging takes more than a block
        self._waiting = bytes(data[at * size :])
        return Events.concatenate(batches)

    def _decode_block(self, words: NDArray[Any], may_wait: bool) -> tuple[Events, int]:
        """Returns what `_decode` does; words before the first that can be decoded are used up."""
        start = 0 if self._started else self._find_start(words)
        if start == words.size:
            return Events.empty(), start
        self._started = True
        events, used = self._decode(words[start:], may_wait)
        return events, start + used

    def _find_start(self, words: NDArray[Any]) -> int:  # noqa: ARG002 - for the formats that override it
        """Returns the index of the first word that can be decoded; the number of words if there is none."""
        return 0

    @abstractmethod
    def _decode(self, words: NDArray[Any], may_wait: bool) -> tuple[Events, int]:
        """Returns the events of `words`, one word or more, and how many words were used for them.

        The words that were not used wait, and come again in front of those after them.

        Args:
            words: The words that follow those that were used before.
            may_wait: Whether words may be left over.
        """
