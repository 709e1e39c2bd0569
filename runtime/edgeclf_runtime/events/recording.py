"""Recordings: files of events, opened by what they hold and read in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path

from edgeclf_runtime.errors import InputFileError
from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.events.checks import Checks
from edgeclf_runtime.events.decoder import Decoder
from edgeclf_runtime.events.encoding import READ_FORMATS, Encoding, RecordingFormat, encoding_of
from edgeclf_runtime.events.header import Header, read_header


class Recording:
    """A recording; iterating over it gives its events in batches, each time from the start.

    Made by `open_recording`. At any time only one batch (at most some megabytes) is in memory.

    Attributes:
        path: The file.
        format: How its events are encoded.
        sensor_size: The sensor's (width, height); events outside are dropped.
        header: The header's keywords and values, as written.
        words_start: Bytes before the first word.
    """

    def __init__(self, path: Path, header: Header, encoding: Encoding) -> None:
        self.path = path
        self.format: RecordingFormat = encoding.format
        self.sensor_size = encoding.sensor_size
        self.header = header.fields
        self.words_start = header.length + encoding.words_start
        self._encoding = encoding
        self._checks = self._new_checks(encoding.new_decoder())

    def __repr__(self) -> str:
        width, height = self.sensor_size
        return f"Recording({str(self.path)!r}, {self.format}, {width}x{height})"

    def __iter__(self) -> Iterator[Events]:
        """Returns an iterator over batches of events in the file's order, none of them empty; see `blocks`."""
        return filter(len, self.blocks())

    def blocks(self) -> Iterator[Events]:
        """Returns an iterator over the events of each block of the file, which may be none.

        So whoever reads it can see to other things also where a long file has no events.

        Raises:
            InputFileError: While it is read, where the file cannot be read any more.
        """
        decoder = self._encoding.new_decoder()
        self._checks = self._new_checks(decoder)
        return self._checks.checked(self._decoded(decoder))

    @property
    def damage(self) -> Mapping[str, int]:
        """What was wrong until now in the iteration that was begun last, counted by kind; only what occurred."""
        return self._checks.damage

    @property
    def problems(self) -> list[str]:
        """What was wrong until now in the iteration that was begun last, a sentence each."""
        return self._checks.problems

    def _new_checks(self, decoder: Decoder) -> Checks:
        return Checks(str(self.path), self.sensor_size, decoder)

    def _decoded(self, decoder: Decoder) -> Iterator[Events]:
        """Yields the events of the file, wherever they lie."""
        with _open(self.path) as file:
            file.seek(self.words_start)
            buffer = memoryview(bytearray(decoder.block_bytes))
            while count := _read_into(file, buffer, self.path):
                yield decoder.feed(buffer[:count])


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
    return Recording(path, header, encoding_of(path, header, after, sensor_size))


def _open(path: Path) -> BufferedReader:
    """Opens a file for reading; what goes wrong becomes a sentence."""
    try:
        if path.is_dir():
            raise InputFileError(f"{path} is a folder, not a recording: give a .raw or .dat file in it.")
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
