"""Writing files so that a crash leaves the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgeclf_runtime.errors import UsageError

_TEMPORARY = ".{stem}.{pid}.part{suffix}"
"""What a file is called while the process `pid` writes it; the suffix stays last: torch.onnx and NumPy look at it."""

_TEMPORARY_NAME = re.compile(
    _TEMPORARY.replace(".", r"\.").format(stem="(?P<stem>.+)", pid=r"(?P<pid>\d+)", suffix=r"(?P<suffix>(\.[^.]*)?)"),
    re.DOTALL,
)


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` that takes its place when the block ends without an error.

    The folder is made where it is missing, and a link is followed. On an error the temporary file is removed and `path`
    is as it was. What is no regular file (`/dev/null`, `/dev/stdout`, a named pipe) is given itself, to be written to.

    Raises:
        UsageError: Where nothing can be written there.
    """
    if Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir():
        yield Path(path)
        return
    path = Path(path).resolve()
    if path.is_dir():
        raise UsageError(f"{path}: this is a folder; give the name of a file to write.")
    temporary = path.with_name(_TEMPORARY.format(stem=path.stem, pid=os.getpid(), suffix=path.suffix))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise UsageError(f"{path}: it cannot be written there ({error.strerror}); choose another place.") from error
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def written_together(folder: str | Path, name: str, last: str | Path = "") -> Iterator[Path]:
    """Gives a temporary folder whose files take their places in `folder` when the block ends without an error.

    On an error the temporary folder is removed and everything is as it was. What a process that was ended from outside
    left behind under the same name is removed first.

    Args:
        folder: Where the files belong; made where it is missing.
        name: What is being written, part of the temporary folder's name.
        last: The file, within the folder, that takes its place after the others, as it names them.

    Raises:
        UsageError: Where nothing can be written there.
    """
    folder = Path(folder).resolve()
    temporary = folder / _TEMPORARY.format(stem=name, pid=os.getpid(), suffix="")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.part"):
            found = _TEMPORARY_NAME.fullmatch(left.name)
            if found is not None and found["stem"] == name and not _is_alive(int(found["pid"])):
                shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir()
    except OSError as error:
        raise UsageError(f"{folder}: nothing can be written there ({error.strerror}); choose another place.") from error
    try:
        yield temporary
        files = [path.relative_to(temporary) for path in sorted(temporary.rglob("*")) if path.is_file()]
        for file in files:
            _make_room(folder / file)
        for file in sorted(files, key=lambda file: file == Path(last)):
            (temporary / file).replace(folder / file)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _make_room(target: Path) -> None:
    """Makes the folder of a file that is going to be moved to its place; raises where it cannot be moved there."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{target}: it cannot be written there ({error.strerror}); choose another place.") from error
    if target.is_dir():
        raise UsageError(f"{target}: it cannot be written there, as this is a folder; choose another place.")
    if not os.access(target.parent, os.W_OK):
        raise UsageError(f"{target}: it cannot be written there (no right to write); choose another place.")


def remove_leftovers(targets: Iterable[Path]) -> list[Path]:
    """Removes temporary files of dead processes that were to become one of `targets`; returns what it removed.

    They are what `written_whole` could not remove, as its process was ended from outside. Those of processes that are
    alive stay: somebody is writing them.
    """
    wanted = {target.resolve() for target in targets}
    removed = []
    for folder in sorted({target.parent for target in wanted}):
        for path in sorted(folder.glob(".*.part*")):
            found = _TEMPORARY_NAME.fullmatch(path.name)
            if found is None or path.with_name(found["stem"] + found["suffix"]) not in wanted:
                continue
            if not _is_alive(int(found["pid"])):
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


def _is_alive(pid: int) -> bool:
    """Whether there is a process of that id; where it cannot be asked without harm, as on Windows, it may be."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    # In a container nobody may ask for how a process ended, and it stays on the list: as a zombie, in Linux' terms.
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state not in "ZX"


def as_text(name: str) -> str:
    """Returns a file's name as text: bytes of it that are no UTF-8, which JSON and HDF5 cannot hold, become `?`."""
    return name.encode("utf-8", "replace").decode()
