"""The text header of Prophesee RAW and DAT files, and what it says about the words after it.

Sources: Prophesee, "RAW File Format", https://docs.prophesee.ai/stable/data/file_formats/raw.html, and "DAT
File Format", https://docs.prophesee.ai/stable/data/file_formats/dat.html; for the sizes of the sensors by
plug-in, system and generation, the devices that OpenEB's plug-ins declare
(https://github.com/prophesee-ai/openeb).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

# Real headers take a few hundred bytes; a file of nothing but lines with `% ` must not be read to its end.
LONGEST_LINE = 4096
LONGEST_HEADER = 1 << 20

VGA, HD = (640, 480), (1280, 720)
PLUGIN_SENSORS: dict[str, tuple[int, int]] = {
    "hal_plugin_gen3": VGA,
    "hal_plugin_gen31": VGA,
    "hal_plugin_gen4": HD,
    "hal_plugin_gen41": HD,
    "hal_plugin_imx636": HD,
    "hal_plugin_imx637": (640, 512),
    "hal_plugin_imx646": HD,
    "hal_plugin_imx647": (640, 512),
    "hal_plugin_genx320": (320, 320),
}
SYSTEM_SENSORS: dict[int, tuple[int, int]] = {
    **dict.fromkeys((0x15, 0x1D, 0x21, 0x22, 0x23, 0x28, 0x29), VGA),
    **dict.fromkeys((0x1E, 0x1F, 0x20, 0x27, 0x2E, 0x30, 0x31, 0x32, 0x35, 0x3A, 0x42), HD),
    **dict.fromkeys((0x34, 0x36), (640, 512)),
    **dict.fromkeys((0x3B, 0x40), (320, 320)),
}
GENERATION_SENSORS: dict[str, tuple[int, int]] = {"3.0": VGA, "3.1": VGA, "4.0": HD, "4.1": HD, "4.2": HD}


@dataclass(frozen=True, slots=True)
class Header:
    """A header, as read.

    Attributes:
        fields: The value of each keyword, as written. A keyword that comes twice keeps its last value.
        length: Number of bytes up to the first byte after the header.
        cut_off: Whether the file ends before the header does.
    """

    fields: dict[str, str]
    length: int
    cut_off: bool

    def value(self, *keywords: str) -> str:
        """Returns the value of the first of `keywords` that is there, whatever its letter case; else ''."""
        folded = {keyword.casefold(): value for keyword, value in self.fields.items()}
        return next((folded[k.casefold()] for k in keywords if k.casefold() in folded), "")

    @property
    def format_name(self) -> str:
        """The name of the encoding as `% format` gives it, e.g. 'EVT3'; else ''."""
        return self.value("format").split(";")[0].strip()

    @property
    def evt_version(self) -> str:
        """The version as `% format EVT21` or `% evt 2.1` gives it, e.g. '2.1'; '' where neither does."""
        match = re.fullmatch(r"EVT ?(\d)\.?(\d?)", self.format_name, re.IGNORECASE)
        if match:
            return f"{match[1]}.{match[2] or 0}"
        version = "" if self.format_name else self.value("evt")
        return f"{version}.0" if re.fullmatch(r"\d+", version) else version

    @property
    def endianness(self) -> str:
        """The order of bytes that `% format` or `% endianness` gives; 'little' where neither does."""
        return (self._format_option("endianness") or self.value("endianness") or "little").lower()

    def stated_size(self) -> tuple[int, int] | None:
        """Returns the sensor's (width, height) where the header states it."""
        width, height = self._format_option("width"), self._format_option("height")
        geometry = re.fullmatch(r"(\d+) ?[xX] ?(\d+)", self.value("geometry"))
        candidates = [
            (width, height),
            geometry.groups() if geometry else ("", ""),
            (self.value("width"), self.value("height")),
        ]
        for w, h in candidates:
            if w.isdecimal() and h.isdecimal() and int(w) and int(h):
                return int(w), int(h)
        return None

    def known_size(self) -> tuple[int, int] | None:
        """Returns the (width, height) that the sensor which the header names is known to have."""
        plugin = re.match(r"hal_plugin_[a-z]+\d+", self.value("plugin_name").lower())
        if plugin and plugin[0] in PLUGIN_SENSORS:
            return PLUGIN_SENSORS[plugin[0]]
        # The same numbers mean other systems in the headers of other makers.
        makers = {self.value(f"{part}integrator_name") for part in ("", "camera_", "plugin_")}
        system = self.value("system_ID")
        if makers <= {"", "Prophesee"} and system.isdecimal() and int(system) in SYSTEM_SENSORS:
            return SYSTEM_SENSORS[int(system)]
        return GENERATION_SENSORS.get(self.value("sensor_generation", "generation"))

    def _format_option(self, name: str) -> str:
        options = dict(part.partition("=")[::2] for part in self.value("format").split(";")[1:])
        return {key.strip().lower(): value.strip() for key, value in options.items()}.get(name, "")


def read_header(file: BinaryIO) -> Header:
    """Reads the header from the start of a file and leaves the file at the first byte after it.

    The line `% end` is optional, and words may begin with the byte of '%', so a line counts as the header's
    only if it is '% ', a keyword that starts with a letter, printable text, and a line end.

    Args:
        file: A binary file that can seek.
    """
    fields: dict[str, str] = {}
    length, cut_off = 0, False
    file.seek(0)
    while length < LONGEST_HEADER:
        line = file.readline(LONGEST_LINE)
        match = _match_line(line)
        whole = line.endswith(b"\n")
        if match is None or not whole:
            # A line without an end that is shorter than was asked for is the last of the file.
            cut_off = not line or (match is not None and len(line) < LONGEST_LINE)
            break
        length += len(line)
        keyword, value = match[1], match[2].strip()
        if keyword == "end" and not value:
            break
        fields[keyword] = value
    file.seek(length)
    return Header(fields, length, cut_off)


def _match_line(line: bytes) -> re.Match[str] | None:
    """Returns keyword and value of a line of the header, or None where it is not one."""
    try:
        text = line.rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        return None
    if not text.replace("\t", " ").isprintable():
        return None
    return re.fullmatch(r"% ([A-Za-z][\w.-]+)((?:\s.*)?)", text)
