"""EVT3: 16-bit words, of which each changes one part of the state that events are made from.

Source of the layout: Prophesee, "EVT 3.0 Format",
https://docs.prophesee.ai/stable/data/encoding_formats/evt3.html

=============  =====  ==========================================================================
word           type   the other 12 bits
=============  =====  ==========================================================================
EVT_ADDR_Y     0x0    row (11 bits); bit 11 tells master from slave camera
EVT_ADDR_X     0x2    an event: column (11), bit 11 is its polarity
VECT_BASE_X    0x3    column (11) and polarity (bit 11) of the vectors that follow
VECT_12        0x4    events at those of the next 12 columns whose bit is set
VECT_8         0x5    events at those of the next 8 columns whose bit is set
EVT_TIME_LOW   0x6    time bits 11..0
EVT_TIME_HIGH  0x8    time bits 23..12
others         ...    external triggers, vendor data and continuations: skipped wherever they stand
=============  =====  ==========================================================================
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.events.clock import Clock
from edgeclf_runtime.events.decoder import Decoder

ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW, TIME_HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
UNKNOWN = (0x1, 0x9, 0xB, 0xC, 0xD)
LOW_BITS = 12
PERIOD = 1 << 24
VECTOR_COLUMNS = 12
FARTHEST = 0xF000


def _vector_tables() -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint16]]:
    """Returns, for each mask of 12 bits, how many are set and where their positions start in the third table."""
    masks = np.arange(1 << VECTOR_COLUMNS, dtype="<u2")
    bits = np.unpackbits(masks.view(np.uint8).reshape(-1, 2), axis=1, bitorder="little")
    counts = bits.sum(axis=1, dtype=np.intp)
    return counts, np.cumsum(counts) - counts, np.nonzero(bits)[1].astype(np.uint16)


COUNTS, STARTS, COLUMNS = _vector_tables()
# By type of word: how far it moves the base of the vectors after it, and which of its bits are pixels.
ADVANCE = np.zeros(16, np.int64)
ADVANCE[[VECT_12, VECT_8]] = 12, 8
PIXEL_BITS = np.zeros(16, np.uint16)
PIXEL_BITS[[VECT_12, VECT_8]] = 0xFFF, 0xFF


class Evt3Decoder(Decoder):
    """Decodes EVT3.

    What cannot be placed is dropped, as the vendor's decoder does: everything before the first TIME_HIGH,
    events before the first row, vectors before the first base. A TIME_HIGH that changes the time sets the low
    bits to zero until the TIME_LOW that follows it.
    """

    word: ClassVar[np.dtype[Any]] = np.dtype("<u2")
    block_bytes: ClassVar[int] = 1 << 18  # as each word may make 12 events

    def __init__(self) -> None:
        super().__init__(Clock(PERIOD, is_steady=True))
        self._unknown_words = 0
        self._high, self._low = -1, 0  # of the time; the high bits keep their place, and the low ones stand below them
        self._y: int | None = None
        self._base: int | None = None
        self._base_p = 0

    @property
    def time_us(self) -> int | None:
        """The sensor's time as far as it has come; None before the first."""
        return None if self._clock.time_us is None else self._high + self._low

    @property
    def unknown_words(self) -> int:
        """The number of words of unknown type."""
        return self._unknown_words

    def _find_start(self, words: NDArray[np.uint16]) -> int:
        found = words >> 12 == TIME_HIGH
        return int(np.argmax(found)) if found.any() else words.size

    def _decode(self, words: NDArray[np.uint16], may_wait: bool) -> tuple[Events, int]:
        types = (words >> 12).astype(np.uint8)
        time_at = np.flatnonzero(types == TIME_HIGH)
        highs = self._clock.follow((words[time_at] & 0xFFF).astype(np.int64) << LOW_BITS, may_wait)
        end = words.size if highs.size == time_at.size else int(time_at[highs.size])
        events = self._decode_timed(words[:end], types[:end], highs) if end else Events.empty()
        return events, end

    def _decode_timed(self, words: NDArray[np.uint16], types: NDArray[np.uint8], highs: NDArray[np.int64]) -> Events:
        """Returns the events of words, of which the types and the times of the TIME_HIGHs are known."""
        is_single = types == ADDR_X
        singles = words[np.flatnonzero(is_single)]
        # All other words are few, and everything else is worked out for them alone.
        at = np.flatnonzero(~is_single)
        others, kinds = words[at], types[at]
        self._unknown_words += sum(int(np.count_nonzero(kinds == kind)) for kind in UNKNOWN)
        vectors, first_x, vector_p = self._place_vectors(others, kinds)
        bits = others[vectors] & PIXEL_BITS[kinds[vectors]]
        made = np.zeros(at.size, np.intp)
        made[vectors] = COUNTS[bits]
        # How many events come before each of these words: the singles, and what the vectors have made.
        vectors_made = np.cumsum(made)
        before = at - np.arange(at.size) + vectors_made - made

        x = singles & np.uint16(0x7FF)
        p = (singles >> 11 & 1).astype(np.uint8)
        if vectors.size:
            x, p = _merge(x, p, first_x, vector_p, bits, before[vectors])
        t = self._times(others, kinds, highs, before, x.size)
        rows_at = np.flatnonzero(kinds == ADDR_Y)
        rows = np.concatenate(([self._y or 0], others[rows_at] & 0x7FF)).astype(np.uint16)
        y = np.repeat(rows, np.diff(before[rows_at], prepend=0, append=x.size))
        events = Events(t, x, y, p)
        if self._y is None:
            events = events[before[rows_at[0]] if rows_at.size else len(events) :]
        if rows_at.size:
            self._y = int(rows[-1])
        return events

    def _times(
        self,
        others: NDArray[np.uint16],
        kinds: NDArray[np.uint8],
        highs: NDArray[np.int64],
        before: NDArray[np.intp],
        count: int,
    ) -> NDArray[np.int64]:
        """Returns the times, in µs, of `count` events.

        Args:
            others: The words that are no single events.
            kinds: For each of them, its type.
            highs: For each TIME_HIGH among them, its time in µs.
            before: For each of them, how many events come before it.
            count: The number of events.
        """
        at = np.flatnonzero((kinds == TIME_HIGH) | (kinds == TIME_LOW))
        value = (others[at] & 0xFFF).astype(np.int64)
        is_high = kinds[at] == TIME_HIGH
        high = np.concatenate(([self._high], highs))[np.cumsum(np.concatenate(([False], is_high)))]
        # The low bits come from the last word that sets them: a TIME_LOW, or a TIME_HIGH that brings a new
        # value (sensors repeat the same one every 16 µs).
        value[is_high] = 0
        sets_low = ~is_high | (high[1:] != high[:-1])
        setter = np.maximum.accumulate(np.where(sets_low, np.arange(1, at.size + 1), 0))
        low = np.concatenate(([self._low], value))[np.concatenate(([0], setter))]
        self._high, self._low = int(high[-1]), int(low[-1])
        # A time holds for all events up to the word that changes it.
        return np.repeat(high + low, np.diff(before[at], prepend=0, append=count))

    def _place_vectors(
        self, others: NDArray[np.uint16], kinds: NDArray[np.uint8]
    ) -> tuple[NDArray[np.intp], NDArray[np.uint16], NDArray[np.uint8]]:
        """Returns the indices of the vectors that have a base, and the first column and polarity of each.

        Args:
            others: The words that are no single events.
            kinds: For each of them, its type.
        """
        at = np.flatnonzero((kinds >= VECT_BASE_X) & (kinds <= VECT_8))
        words, kinds = others[at], kinds[at]
        is_base = kinds == VECT_BASE_X
        bases = words[is_base]
        has_base = ~is_base
        if self._base is None:
            has_base[: np.argmax(is_base) if bases.size else None] = False
        # Entry 0 is the base that the words before left behind.
        base_x = np.concatenate(([self._base or 0], bases & 0x7FF)).astype(np.int64)
        base_p = np.concatenate(([self._base_p], bases >> 11 & 1)).astype(np.uint8)
        base = np.cumsum(is_base)
        advance = np.cumsum(ADVANCE[kinds])
        next_x = base_x[base] + advance - np.concatenate(([0], advance[is_base]))[base]
        if at.size and (self._base is not None or bases.size):
            self._base, self._base_p = int(next_x[-1]), int(base_p[-1])
        # Columns far outside any sensor stay there when they become 16-bit numbers.
        first_x = np.minimum(next_x - ADVANCE[kinds], FARTHEST)[has_base]
        return at[has_base], first_x.astype(np.uint16), base_p[base[has_base]]


def _merge(
    single_x: NDArray[np.uint16],
    single_p: NDArray[np.uint8],
    first_x: NDArray[np.uint16],
    vector_p: NDArray[np.uint8],
    bits: NDArray[np.uint16],
    before: NDArray[np.intp],
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Puts the events of vectors among the single ones, and returns columns and polarities of all.

    Args:
        single_x: Columns of the single events.
        single_p: Their polarities.
        first_x: For each vector, its first column.
        vector_p: For each vector, its polarity.
        bits: For each vector, bit i is set where column i from the first on saw an event.
        before: For each vector, how many events come before its own.
    """
    counts = COUNTS[bits]
    # Event number n of all vectors' events is number n - (those of the vectors before) of its own vector.
    vectors_before = np.cumsum(counts) - counts
    numbers = np.arange(int(counts.sum()))
    position = np.repeat(before - vectors_before, counts) + numbers
    columns = COLUMNS[np.repeat(STARTS[bits] - vectors_before, counts) + numbers]

    is_single = np.ones(single_x.size + numbers.size, np.bool_)
    is_single[position] = False
    single_position = np.flatnonzero(is_single)
    x, p = np.empty(is_single.size, np.uint16), np.empty(is_single.size, np.uint8)
    x[single_position], p[single_position] = single_x, single_p
    x[position], p[position] = np.repeat(first_x, counts) + columns, np.repeat(vector_p, counts)
    return x, p
