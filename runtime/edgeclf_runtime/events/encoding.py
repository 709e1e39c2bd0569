"""How the words of a recording are encoded, by its header and the bytes after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.events.dat import CD_EVENT_TYPES, EVENT_BYTES, DatDecoder
from edgeclf_runtime.events.decoder import Decoder
from edgeclf_runtime.events.evt2 import Evt2Decoder
from edgeclf_runtime.events.evt3 import Evt3Decoder
from edgeclf_runtime.events.evt21 import Evt21Decoder
from edgeclf_runtime.events.header import Header

RecordingFormat = Literal["EVT2", "EVT2.1", "EVT3", "DAT"]

DECODERS: dict[RecordingFormat, Callable[[], Decoder]] = {
    "EVT2": Evt2Decoder,
    "EVT2.1": Evt21Decoder,
    "EVT3": Evt3Decoder,
    "DAT": DatDecoder,
}
EVT_VERSIONS: dict[str, RecordingFormat] = {"2.0": "EVT2", "2.1": "EVT2.1", "3.0": "EVT3"}
READ_FORMATS = "EVT2, EVT2.1, EVT3 and DAT version 2"


@dataclass(frozen=True)
class Encoding:
    """How words are encoded, and where they start.

    Attributes:
        format: Their format.
        sensor_size: Width and height of the sensor.
        words_start: Bytes between the header and the first word.
        is_legacy: Whether the upper half of each word of EVT2.1 comes first.
    """

    format: RecordingFormat
    sensor_size: tuple[int, int]
    words_start: int = 0
    is_legacy: bool = False

    def new_decoder(self) -> Decoder:
        """Returns a decoder that stands before the first word."""
        return Evt21Decoder(legacy=True) if self.is_legacy else DECODERS[self.format]()


def encoding_of(name: str | Path, header: Header, after: bytes, sensor_size: tuple[int, int] | None = None) -> Encoding:
    """Returns how the words after a header are encoded.

    Args:
        name: What sentences call the recording.
        header: Its header, of one line or more.
        after: What comes after the header; at least two bytes, unless there are fewer.
        sensor_size: The sensor's (width, height), for headers that do not state it.

    Raises:
        InputFileError: It is not a recording that edgeclf reads, or the size of its sensor is not known.
        UsageError: `sensor_size` is not a size, or contradicts the header.
    """
    if header.cut_off:
        raise InputFileError(f"{name} ends within its header and holds no events: record or copy it again.")
    format = _format_of(name, header, after[:2])
    if format == "DAT":
        _check_dat(name, header, after[:2])
    return Encoding(
        format,
        sensor_size_of(name, header, sensor_size),
        words_start=2 if format == "DAT" else 0,
        is_legacy=format == "EVT2.1" and header.endianness == "legacy",
    )


def sensor_size_of(name: str | Path, header: Header, given: tuple[int, int] | None) -> tuple[int, int]:
    """Returns the sensor's (width, height): as the header states it, else as given, else as the sensor is known.

    Args:
        name: What sentences call the recording.
        header: Its header.
        given: The size that the user gives; None: none.

    Raises:
        InputFileError: The size is not known.
        UsageError: What is given is not a size, or contradicts the header.
    """
    size = agreed_size(f"the header of {name}", header.stated_size(), given) or header.known_size()
    if size is None:
        raise InputFileError(
            f"The header of {name} does not tell the sensor's size: give it with --sensor-size WIDTH HEIGHT."
        )
    return size


def agreed_size(
    name: str | Path, stated: tuple[int, int] | None, given: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Returns the sensor's (width, height) that a source states, else what is given; None where neither is there.

    Args:
        name: What sentences call that which states it.
        stated: The size that the source states; None: none.
        given: The size that the user gives; None: none.

    Raises:
        UsageError: What is given is not a size, or contradicts what is stated.
    """
    if given is None:
        return stated
    width, height = given
    if min(width, height) < 1:
        raise UsageError(f"The sensor size {width}x{height} is not one: give two numbers of at least 1.")
    if stated is not None and stated != (width, height):
        raise UsageError(
            f"The sensor size {width}x{height} contradicts {name}, which states {stated[0]}x{stated[1]}: "
            "leave --sensor-size out."
        )
    return width, height


def _format_of(name: str | Path, header: Header, after: bytes) -> RecordingFormat:
    version = header.evt_version
    if version in EVT_VERSIONS:
        if header.endianness not in ("little", "legacy"):
            raise InputFileError(
                f"{name} holds words in {header.endianness}-endian order, which is not read: record it little-endian."
            )
        return EVT_VERSIONS[version]
    if version or header.format_name:
        raise InputFileError(
            f"{name} is encoded as {header.format_name or 'EVT ' + version}, which is not read: "
            f"record or convert it to one of {READ_FORMATS}."
        )
    says_dat = header.value("Data").startswith("file containing") or header.value("Version") != ""
    is_cd = len(after) == 2 and after[0] in CD_EVENT_TYPES and after[1] == EVENT_BYTES
    if says_dat or is_cd or Path(name).suffix.lower() == ".dat":
        return "DAT"
    raise InputFileError(
        f"{name} is not a Prophesee recording, as its header has no `% evt` or `% format` line: "
        f"give a file in one of the formats {READ_FORMATS}."
    )


def _check_dat(name: str | Path, header: Header, after: bytes) -> None:
    version = header.value("Version")
    if version not in ("", "2"):
        raise InputFileError(f"{name} is a DAT file of version {version}: convert it to version 2.")
    if len(after) < 2:
        raise InputFileError(f"{name} ends within its header and holds no events: record or copy it again.")
    if after[0] not in CD_EVENT_TYPES or after[1] != EVENT_BYTES:
        raise InputFileError(
            f"{name} is a DAT file of events of type 0x{after[0]:02X} with {after[1]} bytes each, "
            f"which is not read: give one of CD events (type 0x00 or 0x0C, {EVENT_BYTES} bytes)."
        )
