"""Writing HDF5 files so that a full disk is an error, and not the end of the process."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py

from edgeclf_runtime.errors import EdgeclfError


@contextlib.contextmanager
def hdf5_output(path: Path, called: str | Path | None = None) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Gives a new HDF5 file to be written, and what raises where it could not be written until now.

    HDF5 itself cannot recover from a write that fails: it crashes the process (segmentation fault) when the file is
    closed. So failed writes are hidden from it, and told to the caller instead.

    Args:
        path: The file to write.
        called: What the error calls it; `path` unless given.

    Raises:
        EdgeclfError: Where the file could not be written whole; when it is asked for, and at the end of the block.
    """
    with path.open("w+b", buffering=0) as raw:
        sink = _Sink(raw)

        def check() -> None:
            if sink.error is not None:
                raise EdgeclfError(
                    f"{called or path}: it could not be written to its end ({sink.error.strerror}); make room, and "
                    "start again."
                ) from sink.error

        with h5py.File(sink, "w") as file:
            yield file, check
        check()


class _Sink(io.RawIOBase):
    """A file that keeps the first error of writing to it, and takes what is written after that for written."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__()
        self._raw = raw
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._raw.readinto(buffer) or 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def write(self, data: Any) -> int:
        content = memoryview(data).cast("B")
        written = 0
        while written < len(content) and self.error is None:
            try:
                written += self._raw.write(content[written:])
            except OSError as error:
                self.error = error
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        if self.error is None:
            try:
                return self._raw.truncate(size)
            except OSError as error:
                self.error = error
        return self._raw.tell() if size is None else size
