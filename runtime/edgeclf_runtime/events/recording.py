"""Recordings: files of events, opened by what they hold and read in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Literal

import numpy as np

from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.events.dat import CD_EVENT_TYPES, EVENT_BYTES, DatDecoder
from edgeclf_runtime.events.decoder import Decoder
from edgeclf_runtime.events.evt2 import Evt2Decoder
from edgeclf_runtime.events.evt3 import Evt3Decoder
from edgeclf_runtime.events.evt21 import Evt21Decoder
from edgeclf_runtime.events.header import Header, read_header

RecordingFormat = Literal["EVT2", "EVT2.1", "EVT3", "DAT"]

DECODERS: dict[RecordingFormat, Callable[[], Decoder]] = {
    "EVT2": Evt2Decoder,
    "EVT2.1": Evt21Decoder,
    "EVT3": Evt3Decoder,
    "DAT": DatDecoder,
}
EVT_VERSIONS: dict[str, RecordingFormat] = {"2.0": "EVT2", "2.1": "EVT2.1", "3.0": "EVT3"}
INCOMPLETE, OUTSIDE = "bytes of an incomplete word at the end", "events outside the sensor"
STEPS_BACK = "steps back in time"
READ_FORMATS = "EVT2, EVT2.1, EVT3 and DAT version 2"


class Recording:
    """A recording; iterating over it gives its events in batches, each time from the start.

    Made by `open_recording`. At any time only one batch (at most some megabytes) is in memory.

    Attributes:
        path: The file.
        format: How its events are encoded.
        sensor_size: The sensor's (width, height); events outside are dropped.
        header: The header's keywords and values, as written.
    """

    def __init__(
        self,
        path: Path,
        format: RecordingFormat,
        sensor_size: tuple[int, int],
        header: Header,
        data_start: int,
    ) -> None:
        self.path = path
        self.format = format
        self.sensor_size = sensor_size
        self.header = header.fields
        self._header = header
        self._data_start = data_start
        self._latest = _Reading(self._new_decoder())

    def __repr__(self) -> str:
        width, height = self.sensor_size
        return f"Recording({str(self.path)!r}, {self.format}, {width}x{height})"

    def __iter__(self) -> Iterator[Events]:
        """Yields batches of events in the file's order, none of them empty.

        Raises:
            InputFileError: The file cannot be read any more.
        """
        reading = self._latest = _Reading(self._new_decoder())
        for events in self._decoded(reading):
            inside = self._inside(events)
            reading.outside += len(events) - len(inside)
            if len(inside):
                reading.order.add(inside)
                yield inside

    def _decoded(self, reading: _Reading) -> Iterator[Events]:
        """Yields the events of the file, wherever they lie."""
        decoder = reading.decoder
        with _open(self.path) as file:
            file.seek(self._data_start)
            buffer = memoryview(bytearray(decoder.block_bytes))
            while count := _read_into(file, buffer, self.path):
                yield decoder.feed(buffer[:count])
        yield decoder.finish()
        reading.incomplete_bytes = decoder.incomplete_bytes

    @property
    def damage(self) -> Mapping[str, int]:
        """What was wrong until now in the iteration that was begun last, counted by kind; only what occurred."""
        reading = self._latest
        counts = {
            INCOMPLETE: reading.incomplete_bytes,
            OUTSIDE: reading.outside,
            STEPS_BACK: reading.order.steps_back,
            **reading.decoder.damage,
        }
        return {kind: count for kind, count in counts.items() if count}

    @property
    def problems(self) -> list[str]:
        """What was wrong until now in the iteration that was begun last, a sentence each."""
        reading = self._latest
        problems = []
        if reading.incomplete_bytes:
            problems.append(
                f"{self.path} was cut off: {reading.incomplete_bytes} byte(s) of an incomplete word at its end were "
                "ignored."
            )
        if reading.outside:
            problems.append(
                f"{reading.outside} event(s) of {self.path} outside the sensor "
                f"({self.sensor_size[0]}x{self.sensor_size[1]}) were dropped."
            )
        if reading.order.steps_back:
            problems.append(
                f"The time-stamps of {self.path} step back {reading.order.steps_back} time(s), by up to "
                f"{reading.order.farthest} µs."
            )
        return problems + reading.decoder.problems_of(str(self.path))

    def _new_decoder(self) -> Decoder:
        if self.format == "EVT2.1":
            return Evt21Decoder(legacy=self._header.endianness == "legacy")
        return DECODERS[self.format]()

    def _inside(self, events: Events) -> Events:
        """Returns the events on the sensor, which are nearly always all."""
        width, height = self.sensor_size
        if not len(events) or (events.x.max() < width and events.y.max() < height):
            return events
        return events[(events.x < width) & (events.y < height)]


class _Reading:
    """What one iteration over a recording has met."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.order = TimeOrder()
        self.outside = 0
        self.incomplete_bytes = 0


class TimeOrder:
    """Counts where time goes backwards in a sequence of batches."""

    def __init__(self) -> None:
        self.steps_back = 0
        self.farthest = 0
        self._last: int | None = None

    def add(self, events: Events) -> None:
        """Looks at the next batch, which is not empty."""
        t = events.t
        if self._last is not None:
            self._count(np.array([t[0] - self._last]))
        self._last = int(t[-1])
        if np.any(t[1:] < t[:-1]):
            self._count(np.diff(t))

    def _count(self, steps: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> None:
        self.steps_back += int(np.count_nonzero(steps < 0))
        self.farthest = max(self.farthest, -int(steps.min()))


def open_recording(path: str | Path, sensor_size: tuple[int, int] | None = None) -> Recording:
    """Opens a Prophesee RAW (EVT2, EVT2.1, EVT3) or DAT file, told apart by what the file holds.

    Args:
        path: The file.
        sensor_size: The sensor's (width, height), for headers that do not state it. Where it is left out, the size
            comes from the header, else from what is known of the sensor that the header names.

    Raises:
        InputFileError: The file is not there, cannot be read, or is not a recording that edgeclf reads, or
            the size of its sensor is not known.
        UsageError: `sensor_size` is not a size, or contradicts the header.
    """
    path = Path(path)
    with _open(path) as file:
        header = read_header(file)
        after = file.read(2)
    if not header.length and not after:
        raise InputFileError(f"{path} is empty: record or copy it again.")
    if not header.length and not header.cut_off:
        raise InputFileError(
            f"{path} is not a Prophesee recording, as it does not start with a `% ` header: "
            f"give a file in one of the formats {READ_FORMATS}."
        )
    format = _find_format(path, header, after) if header.length else None
    if header.cut_off or format is None:
        raise InputFileError(f"{path} ends within its header and holds no events: record or copy it again.")
    data_start = header.length
    if format == "DAT":
        _check_dat(path, header, after)
        data_start += 2
    return Recording(path, format, _find_size(path, header, sensor_size), header, data_start)


def _open(path: Path) -> BufferedReader:
    """Opens a file for reading; what goes wrong becomes a sentence."""
    if path.is_dir():
        raise InputFileError(f"{path} is a folder, not a recording: give a .raw or .dat file in it.")
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise InputFileError(f"There is no recording {path}: check the path.") from None
    except OSError as error:
        raise InputFileError(f"{path} cannot be read ({error.strerror}): check the file and its rights.") from None


def _read_into(file: BufferedReader, buffer: memoryview, path: Path) -> int:
    try:
        return file.readinto(buffer)
    except OSError as error:
        raise InputFileError(f"{path} cannot be read on ({error.strerror}): check its disk.") from None


def _find_format(path: Path, header: Header, after: bytes) -> RecordingFormat:
    version = header.evt_version
    if version in EVT_VERSIONS:
        format = EVT_VERSIONS[version]
        if header.endianness not in ("little", "legacy"):
            raise InputFileError(
                f"{path} holds words in {header.endianness}-endian order, which is not read: record it little-endian."
            )
        return format
    if version or header.format_name:
        raise InputFileError(
            f"{path} is encoded as {header.format_name or 'EVT ' + version}, which is not read: "
            f"record or convert it to one of {READ_FORMATS}."
        )
    says_dat = header.value("Data").startswith("file containing") or header.value("Version") != ""
    is_cd = len(after) == 2 and after[0] in CD_EVENT_TYPES and after[1] == EVENT_BYTES
    if says_dat or is_cd or path.suffix.lower() == ".dat":
        return "DAT"
    raise InputFileError(
        f"{path} is not a Prophesee recording, as its header has no `% evt` or `% format` line: "
        f"give a file in one of the formats {READ_FORMATS}."
    )


def _check_dat(path: Path, header: Header, after: bytes) -> None:
    version = header.value("Version")
    if version not in ("", "2"):
        raise InputFileError(f"{path} is a DAT file of version {version}: convert it to version 2.")
    if len(after) < 2:
        raise InputFileError(f"{path} ends within its header and holds no events: record or copy it again.")
    if after[0] not in CD_EVENT_TYPES or after[1] != EVENT_BYTES:
        raise InputFileError(
            f"{path} is a DAT file of events of type 0x{after[0]:02X} with {after[1]} bytes each, "
            f"which is not read: give one of CD events (type 0x00 or 0x0C, {EVENT_BYTES} bytes)."
        )


def _find_size(path: Path, header: Header, given: tuple[int, int] | None) -> tuple[int, int]:
    stated = header.stated_size()
    if given is not None and min(given) < 1:
        raise UsageError(f"The sensor size {given[0]}x{given[1]} is not one: give two numbers of at least 1.")
    if given is not None and stated is not None and tuple(given) != stated:
        raise UsageError(
            f"The sensor size {given[0]}x{given[1]} contradicts the header of {path}, which states "
            f"{stated[0]}x{stated[1]}: leave --sensor-size out."
        )
    size = stated or given or header.known_size()
    if size is None:
        raise InputFileError(
            f"The header of {path} does not tell the sensor's size: give it with --sensor-size WIDTH HEIGHT."
        )
    return size[0], size[1]
