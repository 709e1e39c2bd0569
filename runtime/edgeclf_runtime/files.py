"""Writing files so that a crash leaves the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from edgeclf_runtime.errors import UsageError


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
    # The suffix stays last: writers such as torch.onnx and NumPy look at it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
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
