"""Which shared libraries a Linux library asks for, read from its bytes: to name them all, not the first one missed.

Written from the System V ABI's description of the format (https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.dynamic.html).
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

_HEADER = struct.Struct("<4sBB10xHHIQQQIHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<QQ")
_LOAD, _DYNAMIC = 1, 2
_END, _NEEDED, _STRINGS = 0, 1, 5
_LONGEST_NAME = 256


def needed_libraries(path: str | Path) -> tuple[str, ...]:
    """Returns the names of the libraries that a library asks the loader for, e.g. `libcudart.so.13`, in its order.

    Nothing where the file is not there or is not a 64-bit little-endian one, as those of x86-64 and ARM64 are.
    """
    try:
        with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return tuple(_needed(data))
    except (OSError, struct.error, ValueError, KeyError):  # not there, or not what it should be
        return ()


def _needed(data: mmap.mmap) -> Iterator[str]:
    magic, bits, order, _, _, _, _, table, _, _, _, size, count = _HEADER.unpack(data[: _HEADER.size])
    if (magic, bits, order, size) != (b"\x7fELF", 2, 1, _SEGMENT.size):
        return
    segments = list(_SEGMENT.iter_unpack(data[table : table + size * count]))
    (dynamic,) = (slice(start, start + length) for kind, _, start, _, _, length, _, _ in segments if kind == _DYNAMIC)
    entries = list(_ENTRY.iter_unpack(data[dynamic]))
    entries = entries[: entries.index((_END, 0))]
    # The table of names is given by its address in memory; the segment around it says where it is in the file.
    address = dict(entries)[_STRINGS]
    (strings,) = (
        address - memory + start
        for kind, _, start, memory, _, length, _, _ in segments
        if kind == _LOAD and memory <= address < memory + length
    )
    for tag, offset in entries:
        if tag == _NEEDED:
            yield data[strings + offset : strings + offset + _LONGEST_NAME].split(b"\0")[0].decode()
