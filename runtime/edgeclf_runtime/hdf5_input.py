"""Reading HDF5 files that may be damaged, or made to do harm: what a file of numbers and texts needs is let through.

HDF5 can store much more: data in other files, types that are read by following pointers, sizes that no memory holds.
Each has ways to end the process or to fill the memory, and none is in any file that edgeclf or Metavision writes.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

HDF5_ERRORS = (OSError, RuntimeError, TypeError, ValueError, KeyError, OverflowError, MemoryError)
"""What h5py raises for damaged structures."""

HEAP_MARK = b"GCOL"
REFERENCE_BYTES = 16  # of a reference to a text: its length (4), where its heap lies (8), and its number there (4)
MOST_ATTRIBUTES = 256
MOST_ATTRIBUTE_BYTES = 1 << 16  # HDF5's own limit for attributes that stand beside their data set
MOST_CHUNK_BYTES = 1 << 28
"""What HDF5 reads at a time: a frame of 50 channels of an HD sensor in float32 is smaller."""


@contextlib.contextmanager
def hdf5_input(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Opens an HDF5 file for reading, and gives what is to be called once only numbers will be read from it.

    Raises:
        OSError: Where it is not HDF5, or damaged; as others of `HDF5_ERRORS` while it is read.
    """
    with _CheckedFile(path) as raw, h5py.File(raw, "r") as file:
        yield file, raw.expect_numbers


class _CheckedFile(io.FileIO):
    """A file that does not give HDF5 (2.0) what would keep it busy for ever, or fill the memory.

    It goes through a global heap, where texts lie, by the sizes of its objects, and does not stop where one is 0. It
    takes as much memory for a text as the file says that it is long (up to 4 GB), and for a chunk likewise, before it
    sees that there is less.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._size = os.fstat(self.fileno()).st_size
        self._may_hold_texts = True

    def expect_numbers(self) -> None:
        """Looks for texts no more, which takes long in large data."""
        self._may_hold_texts = False

    def readinto(self, buffer: Any) -> int | None:
        """Fills the buffer with the next bytes, or raises where they are damaged."""
        if len(buffer) > self._size - self.tell():
            raise OSError(f"it says that it goes on for {len(buffer)} bytes, and is shorter")
        count = super().readinto(buffer) or 0
        if bytes(buffer[:4]) == HEAP_MARK:
            _check_heap(bytes(buffer[:count]))
        elif self._may_hold_texts:
            self._check_texts(bytes(buffer[:count]))
        return count

    def _check_texts(self, data: bytes) -> None:
        """Raises where data refers to a text that is longer than the file."""
        if len(data) < REFERENCE_BYTES:
            return
        zero = np.frombuffer(data, np.uint8) == 0
        starts = np.flatnonzero(zero[9:-6] & zero[10:-5] & zero[11:-4] & zero[14:-1] & zero[15:])  # as both are small
        for start in starts.tolist():
            length, heap = struct.unpack_from("<IQ", data, start)
            if length > self._size and 0 < heap < self._size and self._is_heap(heap):
                raise OSError(f"it says that a text is {length} bytes long")

    def _is_heap(self, at: int) -> bool:
        before = self.tell()
        self.seek(at)
        mark = self.read(len(HEAP_MARK))
        self.seek(before)
        return mark == HEAP_MARK


def _check_heap(heap: bytes) -> None:
    """Raises where the objects of a global heap do not follow one another up to its end.

    Layout: "HDF5 File Format Specification", III.E; https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html

    Args:
        heap: As much of it as was read.
    """
    size, at = int.from_bytes(heap[8:16], "little"), 16
    while at + 16 <= min(size, len(heap)):
        is_free = heap[at : at + 2] == b"\0\0"
        length = int.from_bytes(heap[at + 8 : at + 16], "little")
        step = length if is_free else 16 + -(-length // 8) * 8
        if step < 16 or at + step > size:
            raise OSError(f"a global heap is damaged: it says that an object takes {length} bytes")
        at += step


def own_data_set(file: h5py.File, name: str) -> h5py.Dataset | None:
    """Returns a data set of numbers, or records of them, that lies in the file itself; None where there is none.

    Raises:
        ValueError: Where it points elsewhere, or does not fit into the file or the memory.
    """
    link = file.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name!r} is a link to another place")
    data = file.get(name)
    if not isinstance(data, h5py.Dataset) or data.shape is None or data.dtype.hasobject:
        return None
    if data.external is not None or data.is_virtual:
        raise ValueError(f"{name!r} lies in another file")
    _check_size(data, name, file.id.get_filesize())
    return data


def _check_size(data: h5py.Dataset, name: str, file_bytes: int) -> None:
    """Raises where a data set says that it is larger than the file can hold, or its pieces than memory should."""
    # Packed as well as can be, an entry along the first axis takes a byte all the same.
    if data.shape and data.shape[0] > file_bytes:
        raise ValueError(f"{name!r} says that it holds {data.shape[0]} entries, in a file of {file_bytes} bytes")
    entry = math.prod(data.shape[1:]) * data.dtype.itemsize
    chunk = math.prod(data.chunks or (0,)) * data.dtype.itemsize
    if max(entry, chunk) > MOST_CHUNK_BYTES:
        raise ValueError(
            f"an entry of {name!r} takes {max(entry, chunk)} bytes, and at most {MOST_CHUNK_BYTES} are read"
        )
    if data.chunks is None and data.shape and data.shape[0] * entry > file_bytes:
        raise ValueError(f"{name!r} says that it holds {data.shape[0] * entry} bytes, in a file of {file_bytes}")


def plain_attributes(data: h5py.Dataset | h5py.File) -> Mapping[str, Any]:
    """Returns the attributes of a data set or file as Python's own values: numbers, texts and lists of them.

    Attributes of other types are left out, and those whose name is no text.

    Raises:
        ValueError: Where there are too many, or one is too large.
    """
    if len(data.attrs) > MOST_ATTRIBUTES:
        raise ValueError(f"it has {len(data.attrs)} attributes")
    found = {}
    for name in data.attrs:
        attribute = data.attrs.get_id(name)
        stored, count = attribute.get_storage_size(), math.prod(attribute.shape or ())
        if max(stored, count) > MOST_ATTRIBUTE_BYTES:
            raise ValueError(f"its attribute {name!r} is too large")
        if attribute.dtype.kind == "O" and attribute.shape is not None and stored < REFERENCE_BYTES * count:
            # HDF5 would read on behind what it has, and take what it finds there for the length of a text.
            raise ValueError(f"its attribute {name!r} is too small")
        # What a type says is asked first: reading a sequence that damage has made of a text ends the process.
        is_plain = attribute.dtype.kind in "fiubS" or h5py.check_string_dtype(attribute.dtype) is not None
        if is_plain and isinstance(name, str):  # bytes where h5py cannot decode it
            found[name] = _plain(data.attrs[name])
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else value
