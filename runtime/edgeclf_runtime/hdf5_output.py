"""Writing HDF5 files so that a full disk is an error, and not the end of the process.

`hdf5_output` is for a file that is of use only when it is complete, `GrowingHdf5` for one that grows while others may
want to read it.
"""

from __future__ import annotations

import contextlib
import io
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py

from edgeclf_runtime.errors import EdgeclfError, UsageError


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
                raise _not_written(called or path, sink.error) from sink.error

        with h5py.File(sink, "w") as file:
            yield file, check
        check()


class GrowingHdf5:
    """A new HDF5 file that grows for as long as a process lives, and can be read at any time, also after its end.

    Nothing that is written to `file` goes to the disk before `commit`, and then in an order that makes every state of
    the file on the disk a readable one: first what comes behind its old end, where nothing points yet; then, from the
    back to the front, what was there before. HDF5 puts the blocks that others point at behind those, so a block is
    whole before anything says that it is there. This holds for the file format that is asked for here (HDF5 1.10's,
    whose index of chunks only ever grows) as long as data sets are extended, and nothing is removed or compressed.

    So `kill -9`, whenever it comes, leaves what was last committed, and where it comes during a commit, data sets that
    may be one commit longer than others. A full disk refuses the first part of a commit, and the file stays as it was.
    A loss of power can leave less.

    Attributes:
        file: The open `h5py.File`.

    Args:
        path: The file to write, in place; its folders are made.

    Raises:
        UsageError: Where it cannot be opened for writing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            if path.exists() and not path.is_file():
                raise UsageError(f"{path}: this is no regular file, which HDF5 needs; choose another place.")
            path.parent.mkdir(parents=True, exist_ok=True)
            raw = path.open("w+b", buffering=0)
        except OSError as error:
            raise UsageError(f"{path}: it cannot be written there ({error.strerror}); choose another place.") from error
        self._raw = raw
        self._sink = _CommittedSink(raw)
        self.file = h5py.File(self._sink, "w", libver=("v110", "v110"))
        # HDF5 closes at the end of the process what is still open, when there is no Python any more to write it.
        weakref.finalize(self, self.file.close)

    def commit(self) -> None:
        """Puts on the disk what was written since the last time.

        Raises:
            EdgeclfError: Where that fails, as on a full disk: the file is as it was, and stays so.
        """
        self.file.flush()
        self._check()

    def close(self) -> None:
        """Commits and closes the file; once only.

        Raises:
            EdgeclfError: Where the last commit fails, unless one has failed before, and was told.
        """
        told = self._sink.error is not None
        self.file.close()
        self._raw.close()
        if not told:
            self._check()

    def _check(self) -> None:
        if self._sink.error is not None:
            raise _not_written(self._path, self._sink.error) from self._sink.error


def _not_written(called: str | Path, error: OSError) -> EdgeclfError:
    return EdgeclfError(f"{called}: it could not be written to its end ({error.strerror}); make room, and start again.")


class _File(io.RawIOBase):
    """What HDF5 takes for a file, to write to and to read from anywhere.

    Attributes:
        error: Why a write failed.
    """

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


class _Sink(_File):
    """A file that keeps the first error of writing to it, and takes what is written after that for written."""

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


class _CommittedSink(_File):
    """What HDF5 takes for the file of a `GrowingHdf5`: it holds what is written until HDF5 flushes its file.

    Attributes:
        error: Why a commit failed; after that none is tried again, and what is written stays here.
    """

    _PAGE = 4096
    _SUPERBLOCK = 48
    """Size of the file's first block (HDF5 file format, superblock version 3), which says where the file ends."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw)
        self._pages: dict[int, bytearray] = {}
        self._written: set[tuple[int, int]] = set()
        self._position = 0
        self._size = 0
        self._committed = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        content = memoryview(buffer).cast("B")
        content = content[: max(0, self._size - self._position)]
        for page, inside, outside in self._parts(self._position, len(content)):
            content[outside] = page[inside]
        self._position += len(content)
        return len(content)

    def write(self, data: Any) -> int:
        content = memoryview(data).cast("B")
        for page, inside, outside in self._parts(self._position, len(content)):
            page[inside] = content[outside]
        self._written.add((self._position, len(content)))
        self._position += len(content)
        self._size = max(self._size, self._position)
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        return self._size

    def flush(self) -> None:
        """Commits; see `GrowingHdf5`."""
        if self.error is not None or self._raw.closed:
            return
        before = self._committed
        try:
            self._put(before, self._size - before)
            self._committed = self._size
            # Readers look no further than where the first block says that the file ends, so it goes before the others.
            for start, length in [(0, self._SUPERBLOCK), *sorted(self._written, reverse=True)]:
                self._put(start, min(start + length, before, self._size) - start)
            self._raw.truncate(self._size)
        except OSError as error:
            self.error = error
            if self._committed == before:
                with contextlib.suppress(OSError):
                    self._raw.truncate(before)
            return
        self._pages.clear()
        self._written.clear()

    def _parts(self, start: int, length: int) -> Iterator[tuple[bytearray, slice, slice]]:
        """Yields the pages that hold a part of the file, which part of each, and which part of the whole that is."""
        at = start
        while at < start + length:
            number, offset = divmod(at, self._PAGE)
            stop = min(start + length, at - offset + self._PAGE)
            if number not in self._pages:
                page = self._pages[number] = bytearray(self._PAGE)
                self._raw.seek(number * self._PAGE)
                self._raw.readinto(page)
            yield self._pages[number], slice(offset, offset + stop - at), slice(at - start, stop - start)
            at = stop

    def _put(self, start: int, length: int) -> None:
        """Writes a part of the file to the disk; nothing where `length` is not positive."""
        content = b"".join(page[inside] for page, inside, _ in self._parts(start, length))
        self._raw.seek(start)
        written = 0
        while written < len(content):
            written += self._raw.write(content[written:])
