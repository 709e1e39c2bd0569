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
from edgeclf_runtime.events.decoder import Decoder
from edgeclf_runtime.events.rollover import RollOverCounter

ADDR_Y, ADDR_X, VECT_BASE_X, VECT_12, VECT_8, TIME_LOW, TIME_HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
VECTOR_COLUMNS = 12
FARTHEST = 0xF000


def _vector_tables() -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint16]]:
    """Returns, for each mask of 12 bits, how many are set and where their positions start in table 3."""
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

    def __init__(self) -> None:
        super().__init__()
        self._rollover = RollOverCounter(1 << 12)
        self._high, self._low = -1, 0
        self._y: int | None = None
        self._base: int | None = None
        self._base_p = 0

    def _find_start(self, words: NDArray[np.uint16]) -> int:
        found = words >> 12 == TIME_HIGH
        return int(np.argmax(found)) if found.any() else words.size

    def _decode(self, words: NDArray[np.uint16]) -> Events:
        types = words.view(np.uint8)[1::2] >> np.uint8(4)
        makes_events = (types == ADDR_X) | (types == VECT_12) | (types == VECT_8)
        rows_at = np.flatnonzero(types == ADDR_Y)
        if self._y is None:
            makes_events[: rows_at[0] if rows_at.size else None] = False
        vectors_at, vectors_x, vectors_p = self._place_vectors(words, types, makes_events)

        makers = words[makes_events]
        # makers_before[i]: how many words before word i make events, for any i that makes none itself.
        makers_before = np.cumsum(makes_events, dtype=np.int32)
        x = makers & np.uint16(0x7FF)
        p = ((makers >> 11) & 1).astype(np.uint8)
        events_before: NDArray[np.integer[Any]] | None = None
        if vectors_at.size:
            which = makers_before[vectors_at] - 1
            x[which], p[which] = vectors_x, vectors_p
            bits = words[vectors_at] & PIXEL_BITS[types[vectors_at]]
            x, p, events_before = _expand(x, p, which, bits)

        # Rows and times hold for runs of events, from the word that sets them to the next one.
        times_at, times = self._read_times(words, types)
        rows = np.concatenate(([self._y or 0], words[rows_at] & 0x7FF)).astype(np.uint16)
        if rows_at.size:
            self._y = int(rows[-1])
        y_runs, t_runs = (
            np.diff(before if events_before is None else events_before[before], prepend=0, append=x.size)
            for before in (makers_before[rows_at], makers_before[times_at])
        )
        return Events(np.repeat(times, t_runs), x, np.repeat(rows, y_runs), p)

    def _read_times(
        self, words: NDArray[np.uint16], types: NDArray[np.uint8]
    ) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Returns where the time changes, and the times in µs: that before them, then theirs."""
        at = np.flatnonzero((types == TIME_HIGH) | (types == TIME_LOW))
        value = (words[at] & 0xFFF).astype(np.int64)
        is_high = types[at] == TIME_HIGH
        highs = np.concatenate(([self._high], self._rollover.unroll(value[is_high])))
        high = highs[np.cumsum(np.concatenate(([False], is_high)))]
        # The low bits come from the last word that sets them: a TIME_LOW, or a TIME_HIGH that brings a new
        # value (sensors repeat the same one every 16 µs).
        value[is_high] = 0
        sets_low = ~is_high | (high[1:] != high[:-1])
        setter = np.maximum.accumulate(np.where(sets_low, np.arange(1, at.size + 1), 0))
        low = np.concatenate(([self._low], value))[np.concatenate(([0], setter))]
        self._high, self._low = int(high[-1]), int(low[-1])
        return at, (high << 12) + low

    def _place_vectors(
        self, words: NDArray[np.uint16], types: NDArray[np.uint8], makes_events: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.uint16], NDArray[np.uint8]]:
        """Returns where the vectors stand, and the first column and the polarity of each.

        Clears `makes_events` for vectors without a base.
        """
        at = np.flatnonzero((types >= VECT_BASE_X) & (types <= VECT_8))
        kinds = types[at]
        is_base = kinds == VECT_BASE_X
        if self._base is None:
            makes_events[at[: np.argmax(is_base) if is_base.any() else None]] = False
        # Entry 0 is the base that the words before left behind.
        bases = words[at[is_base]]
        base_x = np.concatenate(([self._base or 0], bases & 0x7FF)).astype(np.int64)
        base_p = np.concatenate(([self._base_p], bases >> 11 & 1)).astype(np.uint8)
        base = np.cumsum(is_base)
        advance = np.cumsum(ADVANCE[kinds])
        advance_at_base = np.concatenate(([0], advance[is_base]))
        next_x = base_x[base] + advance - advance_at_base[base]
        if at.size and (self._base is not None or bases.size):
            self._base, self._base_p = int(next_x[-1]), int(base_p[base[-1]])
        wanted = makes_events[at]
        # Columns far outside any sensor stay there when they become 16-bit numbers.
        first_x = np.minimum(next_x - ADVANCE[kinds], FARTHEST)[wanted]
        return at[wanted], first_x.astype(np.uint16), base_p[base[wanted]]


def _expand(
    x: NDArray[np.uint16], p: NDArray[np.uint8], which: NDArray[np.integer[Any]], bits: NDArray[np.uint16]
) -> tuple[NDArray[np.uint16], NDArray[np.uint8], NDArray[np.intp]]:
    """Makes one event of each single one, and one of each pixel of the vectors.

    Args:
        x: For each word that makes events, its column, or the first one of the vector.
        p: For each of these words, the polarity.
        which: Indices of those of these words that are vectors.
        bits: For each vector, bit i is set where column i from the first on saw an event.

    Returns:
        Columns and polarities of the events, and how many events the first n words make, for n = 0, 1, ...
    """
    vector_counts = COUNTS[bits]
    counts = np.ones(x.size, np.intp)
    counts[which] = vector_counts
    events_before = np.concatenate(([0], np.cumsum(counts)))
    event_x, event_p = np.repeat(x, counts), np.repeat(p, counts)
    # Event number n of all vectors' events is number n - (those of the vectors before) of its own vector.
    numbers = np.arange(int(vector_counts.sum()))
    vectors_before = np.cumsum(vector_counts) - vector_counts
    position = np.repeat(events_before[which] - vectors_before, vector_counts) + numbers
    event_x[position] += COLUMNS[np.repeat(STARTS[bits] - vectors_before, vector_counts) + numbers]
    return event_x, event_p, events_before
