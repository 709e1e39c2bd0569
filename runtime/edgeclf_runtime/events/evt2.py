"""EVT2: one event in each 32-bit word.

Source of the layout: Prophesee, "EVT 2.0 Format",
https://docs.prophesee.ai/stable/data/encoding_formats/evt2.html

======================  =====  =====================================================
word                    type   the other 28 bits
======================  =====  =====================================================
CD_OFF, CD_ON           0, 1   time bits 5..0 (6 bits), column (11), row (11)
EVT_TIME_HIGH           0x8    time bits 33..6
EXT_TRIGGER             0xA    skipped
OTHERS, CONTINUED       0xE,F  skipped
======================  =====  =====================================================
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.events.clock import Clock
from edgeclf_runtime.events.decoder import Decoder

TIME_HIGH = 0x8
KNOWN_OTHERS = (TIME_HIGH, 0xA, 0xE, 0xF)
LOW_BITS = 6
PERIOD = 1 << 34
# All words from here on are of a type above CD_ON.
FIRST_OTHER_WORD = np.uint32(0x2000_0000)


class WordReader:
    """Reads 32-bit words as EVT2 has them and EVT2.1 has them in the upper half of its words.

    Args:
        clock: Follows their time.

    Attributes:
        unknown_words: The number of words of unknown type.
    """

    def __init__(self, clock: Clock) -> None:
        self.unknown_words = 0
        self._clock = clock
        self._base = 0

    def read(self, words: NDArray[np.uint32], may_wait: bool) -> tuple[Events, NDArray[np.bool_]]:
        """Returns one event for each CD word, and the mask that tells which words those are.

        Words at the end that wait for more (see `Decoder`) have no entry in the mask.

        Args:
            words: The next words in order, uint32; the very first one ever is a TIME_HIGH.
            may_wait: Whether words may be left over.
        """
        is_event = words < FIRST_OTHER_WORD
        others = np.flatnonzero(~is_event)
        kinds = (words[others] >> 28).astype(np.uint8)
        which = np.flatnonzero(kinds == TIME_HIGH)
        time_at = others[which]
        readings = (words[time_at] & 0x0FFF_FFFF).astype(np.int64) << LOW_BITS
        times = self._clock.follow(readings, may_wait)
        if times.size < time_at.size:
            end = int(time_at[times.size])
            words, is_event, kinds = words[:end], is_event[:end], kinds[: which[times.size]]
            which, time_at = which[: times.size], time_at[: times.size]
        self.unknown_words += kinds.size - sum(int(np.count_nonzero(kinds == known)) for known in KNOWN_OTHERS)
        events = words[is_event] if kinds.size else words

        # Time is constant between two TIME_HIGH words, so it is spread over runs of events. The number of
        # events before such a word is its position less the number of other words before it, which is
        # `which`.
        bases = np.concatenate(([self._base], times))
        self._base = int(bases[-1])
        t = np.repeat(bases, np.diff(time_at - which, prepend=0, append=events.size))

        # Views of the words' halves and bytes: NumPy works through small types several times faster.
        lower, upper = events.view("<u2")[::2], events.view("<u2")[1::2]
        t += (upper >> 6) & 0x3F
        x = (events >> 11).view("<u2")[::2] & np.uint16(0x7FF)
        y = lower & np.uint16(0x7FF)
        p = events.view(np.uint8)[3::4] >> np.uint8(4)
        return Events(t, x, y, p), is_event


def find_time_high(words: NDArray[np.uint32]) -> int:
    """Returns the index of the first TIME_HIGH word, or the number of words where there is none."""
    found = words >> 28 == TIME_HIGH
    return int(np.argmax(found)) if found.any() else words.size


class Evt2Decoder(Decoder):
    """Decodes EVT2.

    Events before the first TIME_HIGH have no time and are dropped, as the vendor's decoder does.
    """

    word: ClassVar[np.dtype[Any]] = np.dtype("<u4")

    def __init__(self) -> None:
        clock = Clock(PERIOD, is_steady=True)
        super().__init__(clock)
        self._reader = WordReader(clock)

    @property
    def unknown_words(self) -> int:
        """The number of words of unknown type."""
        return self._reader.unknown_words

    def _find_start(self, words: NDArray[np.uint32]) -> int:
        return find_time_high(words)

    def _decode(self, words: NDArray[np.uint32], may_wait: bool) -> tuple[Events, int]:
        events, is_event = self._reader.read(words, may_wait)
        return events, is_event.size
