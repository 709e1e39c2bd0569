"""Writing events as Prophesee RAW (EVT2, EVT2.1, EVT3) and DAT version 2 files.

For the synthetic data set, tests and benchmarks. The layouts are those of the decoders in
`edgeclf_runtime.events`, whose modules name the vendor's descriptions. As sensors do, the encoders send the
high bits of the time during silence too, at least every 4096 µs, so that a reader can tell how often a
counter has rolled over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events import Events
from edgeclf_runtime.files import written_whole

WrittenFormat = Literal["EVT2", "EVT2.1", "EVT3", "DAT"]
Endianness = Literal["little", "legacy"]

# Events encoded at a time: bounds the memory, whatever the size of a batch.
BLOCK_EVENTS = 1 << 18
# Columns that one vector of EVT3 (12 + 12 + 8) and one word of EVT2.1 cover; sensors align both to them.
GROUP_COLUMNS = 32


def write_recording(
    path: str | Path,
    batches: Iterable[Events],
    sensor_size: tuple[int, int],
    format: WrittenFormat = "EVT3",
    header: Mapping[str, str] | None = None,
    endianness: Endianness = "little",
) -> int:
    """Writes events to a file, all or nothing, and returns how many it wrote.

    The file gives the events back exactly and in the same order. It is smallest for EVT2.1 and EVT3 where
    events of the same µs, row and polarity follow one another by column, as then up to 32 of them share a
    vector.

    Args:
        path: The file to write.
        batches: Events in order of time, from 0 µs on.
        sensor_size: The sensor's (width, height), which goes into the header.
        format: How to encode the events.
        header: More keywords and values for the header, or other values for its own.
        endianness: For EVT2.1, 'legacy' writes the upper half of each word first, as the IMX636 does.

    Raises:
        ValueError: An event is not on the sensor, or earlier than the one before it, or the format has no way to say
            its time or place.
    """
    encoder = ENCODERS[format](endianness)
    width, height = sensor_size
    if not (0 < width <= encoder.largest and 0 < height <= encoder.largest):
        raise ValueError(f"a sensor of {width}x{height} does not fit {format} (at most {encoder.largest})")
    count, last_t = 0, 0
    with written_whole(path) as temporary, temporary.open("wb") as file:
        fields = {**encoder.header(width, height), **(header or {})}
        file.write("".join(f"% {keyword} {value}\n" for keyword, value in fields.items()).encode())
        file.write(encoder.after_header)
        for batch in batches:
            for start in range(0, len(batch), BLOCK_EVENTS):
                events = batch[start : start + BLOCK_EVENTS]
                _check(events, sensor_size, last_t)
                last_t = int(events.t[-1])
                count += len(events)
                file.write(encoder.encode(events).tobytes())
    return count


def _check(events: Events, sensor_size: tuple[int, int], last_t: int) -> None:
    if events.t[0] < last_t or np.any(events.t[1:] < events.t[:-1]):
        raise ValueError("the events are not in order of time, or begin before 0 µs")
    if events.x.max() >= sensor_size[0] or events.y.max() >= sensor_size[1]:
        raise ValueError(f"an event is outside the sensor of {sensor_size[0]}x{sensor_size[1]}")
    if events.p.max() > 1:
        raise ValueError("a polarity is neither 0 nor 1")


class Encoder(ABC):
    """Encodes batches of events, each a continuation of the one before.

    Attributes:
        largest: The greatest width and height that the format can express.
        after_header: What stands between the header's keywords and the first word.
    """

    largest = 2048
    after_header = b"% end\n"

    def __init__(self, endianness: Endianness) -> None:
        self._endianness = endianness

    @abstractmethod
    def header(self, width: int, height: int) -> dict[str, str]:
        """Returns the header's keywords and values."""

    @abstractmethod
    def encode(self, events: Events) -> NDArray[np.unsignedinteger]:
        """Returns the words for `events`, one event or more."""


class TimeHighs:
    """Says where to send which high parts of the time.

    Args:
        low_bits: Number of bits of the time, in µs, that are not part of the high part.
        period: Number of values after which the high part starts again from zero.
    """

    def __init__(self, low_bits: int, period: int) -> None:
        self._low_bits = low_bits
        self._stride = max(1, 4096 >> low_bits)
        self._period = period
        self._last: int | None = None

    def before(self, t: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns how many high parts to send before each of the times `t`, and all these in order.

        A recording that begins beyond the first roll-over begins with the high parts from zero on.
        """
        high = t >> self._low_bits
        if self._last is None:
            first = int(high[0])
            self._last = first - 1 if first < self._period else -self._stride
        steps = np.diff(high, prepend=self._last)
        counts = -(-steps // self._stride)
        ends = np.cumsum(counts)
        number = np.arange(1, int(ends[-1]) + 1) - np.repeat(ends - counts, counts)
        values = np.repeat(high - steps, counts) + number * self._stride
        self._last = int(high[-1])
        return counts, np.minimum(values, np.repeat(high, counts)) % self._period


def _group_starts(events: Events) -> NDArray[np.intp]:
    """Returns where the groups start: runs of events that share µs, row, polarity and 32 columns."""
    block = events.x // GROUP_COLUMNS
    same = (
        (np.diff(events.t) == 0)
        & (events.y[1:] == events.y[:-1])
        & (events.p[1:] == events.p[:-1])
        & (block[1:] == block[:-1])
        & (events.x[1:] > events.x[:-1])
    )
    return np.flatnonzero(np.concatenate(([True], ~same)))


def _group_masks(events: Events, starts: NDArray[np.intp]) -> NDArray[np.uint32]:
    """Returns for each group a mask with a bit for each of its 32 columns."""
    bits = np.uint32(1) << (events.x % GROUP_COLUMNS).astype(np.uint32)
    return np.bitwise_or.reduceat(bits, starts)


class Evt2Encoder(Encoder):
    """Encodes EVT2: one word an event, and a TIME_HIGH word wherever the 64 µs change."""

    def __init__(self, endianness: Endianness) -> None:
        super().__init__(endianness)
        self._time_highs = TimeHighs(low_bits=6, period=1 << 28)

    def header(self, width: int, height: int) -> dict[str, str]:
        """Returns the header's keywords and values."""
        return {
            "evt": "2.0",
            "format": f"EVT2;height={height};width={width}",
            "geometry": f"{width}x{height}",
        }

    def encode(self, events: Events) -> NDArray[np.unsignedinteger]:
        """Returns the words for `events`, one event or more."""
        return self._words(events)[0]

    def _words(self, events: Events) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
        """Returns the words and which of them are events."""
        counts, highs = self._time_highs.before(events.t)
        words = np.empty(len(events) + highs.size, "<u4")
        is_event = np.zeros(words.size, np.bool_)
        is_event[np.cumsum(counts) + np.arange(len(events))] = True
        low = (events.t & 0x3F).astype(np.uint32)
        place = events.x.astype(np.uint32) << 11 | events.y
        words[is_event] = events.p.astype(np.uint32) << 28 | low << 22 | place
        words[~is_event] = highs | 0x8 << 28
        return words, is_event


class Evt21Encoder(Evt2Encoder):
    """Encodes EVT2.1: the upper halves of its words are those of EVT2, one for each group of events."""

    def header(self, width: int, height: int) -> dict[str, str]:
        """Returns the header's keywords and values."""
        return {
            "evt": "2.1",
            "format": f"EVT21;height={height};width={width};endianness={self._endianness}",
            "geometry": f"{width}x{height}",
        }

    def encode(self, events: Events) -> NDArray[np.unsignedinteger]:
        """Returns the words for `events`, one event or more."""
        starts = _group_starts(events)
        first = events[starts]
        groups = Events(first.t, first.x // GROUP_COLUMNS * GROUP_COLUMNS, first.y, first.p)
        upper, is_group = self._words(groups)
        words = np.zeros((upper.size, 2), "<u4")
        upper_at = 0 if self._endianness == "legacy" else 1
        words[:, upper_at] = upper
        words[is_group, 1 - upper_at] = _group_masks(events, starts)
        return words


class Evt3Encoder(Encoder):
    """Encodes EVT3: a word for the row and for either part of the time where they change, and for each event.

    A group of two events or more becomes a vector of four words (base, 12 + 12 + 8 columns), which is how
    sensors send one and what the vendor's decoder expects.
    """

    def __init__(self, endianness: Endianness) -> None:
        super().__init__(endianness)
        self._time_highs = TimeHighs(low_bits=12, period=1 << 12)
        self._t, self._y = -1, -1

    def header(self, width: int, height: int) -> dict[str, str]:
        """Returns the header's keywords and values."""
        return {
            "evt": "3.0",
            "format": f"EVT3;height={height};width={width}",
            "geometry": f"{width}x{height}",
        }

    def encode(self, events: Events) -> NDArray[np.unsignedinteger]:
        """Returns the words for `events`, one event or more."""
        starts = _group_starts(events)
        groups = events[starts]
        sizes = np.diff(starts, append=len(events))
        high_counts, highs = self._time_highs.before(groups.t)
        new_t = np.diff(groups.t, prepend=self._t) != 0
        new_y = np.diff(groups.y.astype(np.int32), prepend=self._y) != 0
        self._t, self._y = int(groups.t[-1]), int(groups.y[-1])
        is_vector = sizes > 1

        # The words of a group: TIME_HIGH..., TIME_LOW, ADDR_Y, then ADDR_X or VECT_BASE_X, VECT_12, VECT_12,
        # VECT_8.
        ends = np.cumsum(high_counts + new_t + new_y + np.where(is_vector, 4, 1))
        words = np.empty(int(ends[-1]), "<u2")
        place = np.concatenate(([0], ends[:-1]))
        number = np.arange(highs.size) - np.repeat(np.cumsum(high_counts) - high_counts, high_counts)
        words[np.repeat(place, high_counts) + number] = highs | 0x8000
        place = place + high_counts
        words[place[new_t]] = groups.t[new_t] & 0xFFF | 0x6000
        place += new_t
        words[place[new_y]] = groups.y[new_y]
        place += new_y
        polarity = groups.p.astype(np.uint16) << 11
        words[place] = (
            np.where(is_vector, 0x3000 | groups.x // GROUP_COLUMNS * GROUP_COLUMNS, 0x2000 | groups.x) | polarity
        )
        at = place[is_vector]
        masks = _group_masks(events, starts)[is_vector]
        words[at + 1] = 0x4000 | masks & 0xFFF
        words[at + 2] = 0x4000 | masks >> 12 & 0xFFF
        words[at + 3] = 0x5000 | masks >> 24
        return words


class DatEncoder(Encoder):
    """Encodes DAT version 2: the time's 32 bits, and the event's place and polarity."""

    largest = 1 << 14
    after_header = bytes((0x0C, 8))  # CD events of 8 bytes

    def __init__(self, endianness: Endianness) -> None:
        super().__init__(endianness)
        self._last_t: int | None = None

    def header(self, width: int, height: int) -> dict[str, str]:
        """Returns the header's keywords and values."""
        return {
            "Data": "file containing CD events",
            "Version": "2",
            "Width": str(width),
            "Height": str(height),
        }

    def encode(self, events: Events) -> NDArray[np.unsignedinteger]:
        """Returns the words for `events`, one event or more."""
        if self._last_t is None and events.t[0] >> 32:
            raise ValueError("DAT cannot express a first event after 71 minutes")
        last_t = events.t[0] if self._last_t is None else self._last_t
        if np.diff(events.t, prepend=last_t).max() >> 31:
            raise ValueError("DAT cannot express 36 minutes without an event")
        self._last_t = int(events.t[-1])
        words = np.empty((len(events), 2), "<u4")
        words[:, 0] = events.t & 0xFFFF_FFFF
        place = events.y.astype(np.uint32) << 14 | events.x
        words[:, 1] = events.p.astype(np.uint32) << 28 | place
        return words


ENCODERS: dict[WrittenFormat, type[Encoder]] = {
    "EVT2": Evt2Encoder,
    "EVT2.1": Evt21Encoder,
    "EVT3": Evt3Encoder,
    "DAT": DatEncoder,
}
