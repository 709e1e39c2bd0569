"""Removing what processes that were ended from outside left half written."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

_TEMPORARY = re.compile(r"\.(?P<stem>.+)\.(?P<pid>\d+)\.part(?P<suffix>\.[^.]*)?", re.DOTALL)
"""The names of `edgeclf_runtime.files.written_whole`."""


def remove_leftovers(targets: Iterable[Path]) -> list[Path]:
    """Removes temporary files of dead processes that were to become one of `targets`; returns what it removed.

    Those of processes that are alive stay: somebody is writing them.
    """
    wanted = {target.resolve() for target in targets}
    removed = []
    for folder in sorted({target.parent for target in wanted}):
        for path in sorted(folder.glob(".*.part*")):
            found = _TEMPORARY.fullmatch(path.name)
            if found is None or path.with_name(found["stem"] + (found["suffix"] or "")) not in wanted:
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
