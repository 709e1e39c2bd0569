"""Bytes that come when they come: from a pipe, and at the end of a file that grows."""

from __future__ import annotations

import contextlib
import os
import queue
import select
import stat
import sys
import threading
from abc import ABC, abstractmethod
from io import FileIO
from pathlib import Path

from edgeclf_runtime.errors import DamagedInputError, InputFileError

BLOCK = 1 << 18
SILENCE_S = 0.05
"""After so long without a byte a reader says that there is nothing."""

_AT_ONCE = os.O_NONBLOCK if sys.platform == "linux" else 0
"""Opens a pipe that nobody writes to yet without waiting; elsewhere than on Linux it would then read as ended."""


class ByteReader(ABC):
    """Reads an open file as its bytes come; whoever made it closes it.

    Attributes:
        what: What errors call the file.
        is_live: Whether its bytes come as somebody sends them, and not as fast as they are read.

    Args:
        file: The file, unbuffered.
        what: What errors call it.
    """

    def __init__(self, file: FileIO, what: str) -> None:
        self.what = what
        self.is_live = not stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        self._file = file

    def read(self, closed: threading.Event) -> bytes | None:
        """Returns the next bytes, b'' at the end, and None where nothing came for a while or `closed` was set.

        Raises:
            InputFileError: Where the file cannot be read any more.
        """
        try:
            return self._read(closed)
        except OSError as error:
            raise InputFileError(
                f"{self.what} cannot be read on ({error.strerror}): check where it comes from."
            ) from None

    @abstractmethod
    def _read(self, closed: threading.Event) -> bytes | None:
        """Returns what `read` does, and raises what the system does."""

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class PipeReader(ByteReader):
    """Reads a pipe, a terminal or a file to its end, where the system can tell whether there is something to read."""

    def __init__(self, file: FileIO, what: str) -> None:
        super().__init__(file, what)
        self._poll = select.poll()
        self._poll.register(file.fileno(), select.POLLIN)

    def _read(self, closed: threading.Event) -> bytes | None:  # noqa: ARG002 - SILENCE_S is soon enough
        return self._file.read(BLOCK) if self._poll.poll(SILENCE_S * 1000) else None


class ThreadedReader(ByteReader):
    """Reads a pipe to its end where the system cannot tell (Windows): a thread waits for what comes.

    After `close` that thread stays until bytes come or the other end closes; nothing waits for it.
    """

    def __init__(self, file: FileIO, what: str) -> None:
        super().__init__(file, what)
        self._blocks: queue.Queue[bytes | OSError] = queue.Queue(maxsize=4)
        self._over = threading.Event()
        threading.Thread(target=self._fill, name="edgeclf pipe", daemon=True).start()

    def _fill(self) -> None:
        while not self._over.is_set():
            try:
                block = self._file.read(BLOCK) or b""
            except OSError as error:
                self._blocks.put(error)
                return
            except ValueError:  # it was closed
                return
            self._blocks.put(block)
            if not block:
                return

    def _read(self, closed: threading.Event) -> bytes | None:  # noqa: ARG002 - SILENCE_S is soon enough
        try:
            block = self._blocks.get(timeout=SILENCE_S)
        except queue.Empty:
            return None
        if isinstance(block, OSError):
            raise block
        return block

    def close(self) -> None:
        """Closes the file, and lets the thread go that may wait for room in the queue."""
        self._over.set()
        with contextlib.suppress(queue.Empty):
            while True:
                self._blocks.get_nowait()
        super().close()


class GrowingReader(ByteReader):
    """Reads a file that is being written, and goes on as it grows; it has no end.

    Args:
        file: The file, unbuffered.
        path: Where it lies, to notice that another one lies there.
    """

    def __init__(self, file: FileIO, path: Path) -> None:
        super().__init__(file, str(path))
        self.is_live = True
        self._path = path

    def _read(self, closed: threading.Event) -> bytes | None:
        block = self._file.read(BLOCK)
        if not block:
            self._check_is_the_same()
            closed.wait(SILENCE_S)
        return block or None

    def _check_is_the_same(self) -> None:
        opened = os.fstat(self._file.fileno())
        if opened.st_size < self._file.tell():
            raise DamagedInputError(
                f"{self.what} has become shorter while it was followed, so what it now holds is another recording; "
                "follow it anew."
            )
        if not self._path.exists() or not os.path.samestat(opened, self._path.stat()):
            raise DamagedInputError(
                f"{self.what} was removed or replaced by another file while it was followed; follow it anew."
            )


def open_reader(path: Path | None) -> ByteReader:
    """Opens standard input (None), or a pipe or file that is read to its end.

    Raises:
        InputFileError: Where it cannot be read.
    """
    what = "standard input" if path is None else str(path)
    try:
        file = FileIO(sys.stdin.fileno(), closefd=False) if path is None else FileIO(path, opener=_open_at_once)
    except (OSError, AttributeError) as error:  # a program without a terminal may have no standard input
        why = error.strerror if isinstance(error, OSError) else "it is closed"
        raise InputFileError(f"{what} cannot be read ({why}): check where it comes from.") from None
    return PipeReader(file, what) if hasattr(select, "poll") else ThreadedReader(file, what)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | _AT_ONCE)


def open_growing(path: Path) -> ByteReader:
    """Opens a file that is being written.

    Raises:
        InputFileError: Where it cannot be read.
    """
    try:
        return GrowingReader(FileIO(path), path)
    except OSError as error:
        raise InputFileError(f"{path} cannot be read ({error.strerror}): check the file and its rights.") from None
