"""EVT2.1: up to 32 events of one row in each 64-bit word.

Source of the layout: Prophesee, "EVT 2.1 Format",
https://docs.prophesee.ai/stable/data/encoding_formats/evt21.html

The upper half of a word is laid out as a word of EVT2. For EVT_NEG (0x0) and EVT_POS (0x1) the lower half
tells which of the 32 pixels from the column on saw an event, bit 0 being the column itself.

Two orders of the halves exist. Today's sensors (GenX320) send a word as a little-endian 64-bit integer, so
the lower half comes first. The IMX636 and older ones send the upper half first; headers call that
`endianness=legacy`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.events.clock import Clock
from edgeclf_runtime.events.decoder import Decoder
from edgeclf_runtime.events.evt2 import PERIOD, WordReader, find_time_high


class Evt21Decoder(Decoder):
    """Decodes EVT2.1. Events before the first TIME_HIGH have no time and are dropped.

    Args:
        legacy: Whether the upper half of each word comes first.
    """

    word: ClassVar[np.dtype[Any]] = np.dtype("<u8")
    block_bytes: ClassVar[int] = 1 << 18  # as each word may make 32 events

    def __init__(self, legacy: bool = False) -> None:
        clock = Clock(PERIOD, is_steady=True)
        super().__init__(clock)
        self._upper = 0 if legacy else 1
        self._reader = WordReader(clock)

    @property
    def unknown_words(self) -> int:
        """The number of words of unknown type."""
        return self._reader.unknown_words

    def _find_start(self, words: NDArray[np.uint64]) -> int:
        return find_time_high(words.view("<u4")[self._upper :: 2])

    def _decode(self, words: NDArray[np.uint64], may_wait: bool) -> tuple[Events, int]:
        halves = words.view("<u4")
        groups, is_group = self._reader.read(np.ascontiguousarray(halves[self._upper :: 2]), may_wait)
        valid = halves[1 - self._upper :: 2][: is_group.size][is_group]
        # One byte for each pixel of each group; those that are set stand in the order of the events.
        pixels = np.unpackbits(valid.view(np.uint8), bitorder="little")
        found = np.flatnonzero(pixels.view(np.bool_))
        group, column = found >> 5, (found & 31).astype(np.uint16)
        events = Events(groups.t[group], groups.x[group] + column, groups.y[group], groups.p[group])
        return events, is_group.size
