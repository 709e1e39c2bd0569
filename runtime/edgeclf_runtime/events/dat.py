"""DAT version 2: decoded events, 8 bytes each.

Source of the layout: Prophesee, "DAT File Format",
https://docs.prophesee.ai/stable/data/file_formats/dat.html

An event is two little-endian 32-bit words: the time in µs, then column (bits 13..0), row (27..14) and
polarity (31..28).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.events.clock import Clock
from edgeclf_runtime.events.decoder import Decoder

EVENT_BYTES = 8
PERIOD = 1 << 32
"""µs after which the time starts again from zero."""
# Event2d and EventCd are laid out the same.
CD_EVENT_TYPES = (0x00, 0x0C)


class DatDecoder(Decoder):
    """Decodes the events of a DAT file, which follow its header and the bytes for their type and size.

    The time of an event has 32 bits and starts again from zero after 71.6 minutes.
    """

    word: ClassVar[np.dtype[Any]] = np.dtype("<u8")

    def __init__(self) -> None:
        super().__init__(Clock(PERIOD))

    def _decode(self, words: NDArray[np.uint64], may_wait: bool) -> tuple[Events, int]:
        halves = words.view("<u4")
        t = self._clock.follow(halves[::2].astype(np.int64), may_wait)
        where = np.ascontiguousarray(halves[1 : 2 * t.size : 2])
        x = where.view("<u2")[::2] & np.uint16(0x3FFF)
        y = (where >> 14).view("<u2")[::2] & np.uint16(0x3FFF)
        p = (where.view(np.uint8)[3::4] >= 0x10).view(np.uint8)
        return Events(t, x, y, p), t.size
