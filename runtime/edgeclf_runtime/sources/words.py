"""Streams of words, as recordings that are still being made: standard input, named pipes, files that grow."""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections.abc import Iterator

from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.events.checks import Checks
from edgeclf_runtime.events.encoding import Encoding, RecordingFormat, agreed_size, encoding_of
from edgeclf_runtime.events.header import LONGEST_LINE, Header, read_header
from edgeclf_runtime.sources.checked import CheckedSource
from edgeclf_runtime.sources.held import Held
from edgeclf_runtime.sources.readers import ByteReader

_log = logging.getLogger(__name__)


class WordSource(CheckedSource):
    """The events of RAW (EVT2, EVT2.1, EVT3) or DAT words as they come, with their header or without one.

    Args:
        reader: Gives the bytes, from the first one on. It is read from at once, until the header is whole, and closed
            when all has been read.
        name: What predictions call it.
        sensor_size: Width and height of the sensor, for streams that do not say.
        format: How words are encoded that come without a header.

    Raises:
        InputFileError: Where what comes is no stream of words, or the size of its sensor is not known.
        UsageError: Where the size or the format contradicts the header.
        DamagedInputError: While it is read, where a file that is followed is another one now.
    """

    def __init__(
        self,
        reader: ByteReader,
        name: str,
        sensor_size: tuple[int, int] | None = None,
        format: RecordingFormat | None = None,
    ) -> None:
        self.is_live = reader.is_live
        self._reader = Held(reader)
        try:
            header, rest = _read_header(reader)
            encoding = _encoding_of(reader.what, header, rest, sensor_size, format)
        except BaseException:
            reader.close()
            raise
        self._rest = rest[encoding.words_start :]
        self._decoder = encoding.new_decoder()
        super().__init__(name, encoding.sensor_size, Checks(reader.what, encoding.sensor_size, self._decoder))

    def __iter__(self) -> Iterator[Events]:
        """Returns an iterator over the batches; it can be read once."""
        return self._checked(self._decoded())

    @property
    def time_us(self) -> int | None:
        """The sensor's time, which it sends also where no pixel sees anything; DAT only has that of its events."""
        return self._decoder.time_us

    def close(self) -> None:
        """Makes the iteration end soon, from whatever thread, and closes what nobody reads."""
        super().close()
        if (reader := self._reader.take()) is not None:
            reader.close()

    def _decoded(self) -> Iterator[Events]:
        reader = self._reader.take()
        if reader is None:
            return
        with contextlib.closing(reader):
            yield self._decoder.feed(self._rest)
            while (block := reader.read(self._closed)) != b"":
                yield self._decoder.pause() if block is None else self._decoder.feed(block)


def _read_header(reader: ByteReader) -> tuple[Header, bytes]:
    """Reads until the header is whole; returns it, and what has come after it."""
    never, waits = threading.Event(), False
    data = bytearray()
    while True:
        block = reader.read(never)
        if block is None:
            if not waits:
                _log.info("%s: waiting for its header.", reader.what)
            waits = True
            continue
        data += block
        header = read_header(io.BytesIO(data))
        rest = bytes(data[header.length :])
        # What may be one more line of the header must be there to its end, and DAT has two bytes more.
        is_line = rest[:2] == b"% " and b"\n" not in rest and len(rest) < LONGEST_LINE
        if not block or (len(rest) >= 2 and not is_line):
            return header, rest


def _encoding_of(
    what: str, header: Header, rest: bytes, sensor_size: tuple[int, int] | None, format: RecordingFormat | None
) -> Encoding:
    """Returns how the words are encoded: by their header, or, where there is none, by what the user says."""
    if header.length:
        encoding = encoding_of(what, header, rest, sensor_size)
        if format not in (None, encoding.format):
            raise UsageError(
                f"The format {format} contradicts the header of {what}, which states {encoding.format}: leave it out."
            )
        return encoding
    if not rest:
        raise InputFileError(f"{what} is empty: nothing came through it.")
    if format is None:
        raise InputFileError(
            f"{what} does not start with the `% ` header of a Prophesee recording: send the header first, or give the "
            "format of its words with --format and the sensor's size with --sensor-size."
        )
    size = agreed_size(what, None, sensor_size)
    if size is None:
        raise UsageError(
            f"The words of {what} come without a header, so the sensor's size is not known: give it with --sensor-size "
            "WIDTH HEIGHT."
        )
    return Encoding(format, size)
