"""The control groups that bound this process: what a container, a service manager or a batch system lets it use.

Their files are described in https://docs.kernel.org/admin-guide/cgroup-v2.html and, for the older version 1, in
https://docs.kernel.org/admin-guide/cgroup-v1; where they are mounted, in proc(5) under `mountinfo`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_NO_LIMIT = 1 << 60
"""Bytes from which on a limit of memory is none: version 1 writes the largest number that it has."""


def core_quota(root: Path = Path("/")) -> float | None:
    """Returns how many cores' worth of time this process and those beside it may use; None where nothing bounds it.

    Args:
        root: Where the file system starts.
    """
    quotas = []
    for folder in own_groups("cpu", root):
        both = _words(folder / "cpu.max") or _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
        if len(both) == 2 and all(word.isdecimal() and int(word) > 0 for word in both):  # not `max`, not -1
            quotas.append(int(both[0]) / int(both[1]))
    return min(quotas, default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Returns how many bytes of memory this process and those beside it may use; None where nothing bounds it.

    Args:
        root: Where the file system starts.
    """
    limits = []
    for folder in own_groups("memory", root):
        limits += [int(word) for name in ("memory.max", "memory.limit_in_bytes") for word in _words(folder / name)
                   if word.isdecimal()]  # fmt: skip
    return min((limit for limit in limits if limit < _NO_LIMIT), default=None)


def own_groups(controller: str, root: Path = Path("/")) -> list[Path]:
    """Returns the folders of this process's control group and of those around it, of both versions.

    Args:
        controller: `cpu` or `memory`.
        root: Where the file system starts.
    """
    mounts = dict(_mounts(controller, root))
    folders = []
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, group = line.split(":", 2)
        version = 2 if (number, controllers) == ("0", "") else 1
        if version not in mounts or (version == 1 and controller not in controllers.split(",")):
            continue
        top, mount = mounts[version]
        # Inside a container the group's path may be the host's, and what is mounted is its part from `top` on.
        inside = Path(group).relative_to(top) if Path(group).is_relative_to(top) else Path(group).relative_to("/")
        folders += [mount / inside, *(mount / parent for parent in inside.parents)]
    return folders


def _mounts(controller: str, root: Path) -> Iterator[tuple[int, tuple[Path, Path]]]:
    """Yields version, the group that is mounted, and where."""
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        top, mount = before.split()[3:5]
        kind, _, options = after.split(maxsplit=2)
        if kind == "cgroup2" or (kind == "cgroup" and controller in options.split(",")):
            yield 2 if kind == "cgroup2" else 1, (Path(top), root / mount.lstrip("/"))


def _words(path: Path) -> list[str]:
    return [word for line in _lines(path) for word in line.split()]


def _lines(path: Path) -> list[str]:
    """Returns a file's lines; none where it is not there or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
