"""The base of the event decoders: bytes in any portions, events out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.batch import Events


class Decoder(ABC):
    """Decodes a stream of words into events.

    A decoder remembers what a later word depends on (time, row, the start of an incomplete word), so it makes
    no difference in which portions the stream is fed.
    """

    word: ClassVar[np.dtype[Any]]
    """The words of the format, little-endian."""

    block_bytes: ClassVar[int] = 1 << 19
    """How much is decoded at a time: few enough that what is made on the way stays in the processor's cache."""

    def __init__(self) -> None:
        self._rest = b""
        self._started = False

    @property
    def incomplete_bytes(self) -> int:
        """The number of bytes at the end of what was fed that do not make a whole word yet."""
        return len(self._rest)

    def feed(self, data: bytes | bytearray | memoryview) -> Events:
        """Returns the events of the words that `data` completes.

        Args:
            data: The next bytes of the stream, any number of them. They are not kept: the caller may overwrite them.
        """
        if self._rest:
            data = self._rest + bytes(data)
        size = self.word.itemsize
        whole = len(data) // size * size
        self._rest = bytes(data[whole:])
        words = np.frombuffer(data, self.word, whole // size)
        block = self.block_bytes // size
        return Events.concatenate(
            self._decode_block(words[start : start + block]) for start in range(0, words.size, block)
        )

    def _decode_block(self, words: NDArray[Any]) -> Events:
        if not self._started:
            words = words[self._find_start(words) :]
            self._started = words.size > 0
        return self._decode(words) if words.size else Events.empty()

    def _find_start(self, words: NDArray[Any]) -> int:  # noqa: ARG002 - for the formats that override it
        """Returns the index of the first word that can be decoded; the number of words if there is none."""
        return 0

    @abstractmethod
    def _decode(self, words: NDArray[Any]) -> Events:
        """Returns the events of `words`, one word or more, which follow those of the call before."""
