"""How many cores this process may use.

A core that runs two threads at once shows itself to the system as two processors. Two of a model's threads on one core
share the units that multiply, so that they take each other's time, and a model takes a thread a core; it is what ONNX
Runtime does by itself (https://onnxruntime.ai/docs/performance/tune-performance/threading.html). Other work, of which
much is waiting for memory, gains by a process a processor.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from edgeclf_runtime.machine.cgroups import core_quota


def usable_cores(root: Path = Path("/")) -> int:
    """Returns how many threads of a model this process has cores for, at least 1.

    The machine's own count misleads in a container: as many threads as that share a quota of a few cores, and all of
    them stand still once it is used up. A quota of 2.5 cores counts as 2.

    Args:
        root: Where the file system starts, for the control groups' files and the system's.
    """
    return _within_quota(physical_cores(root, _allowed_processors()) or _count_processors(), root)


def usable_processors(root: Path = Path("/")) -> int:
    """Returns how many other processes this one has processors for, at least 1.

    Args:
        root: Where the file system starts, for the control groups' files.
    """
    return _within_quota(_count_processors(), root)


def physical_cores(root: Path = Path("/"), among: Collection[int] | None = None) -> int | None:
    """Returns the number of cores, each counted once however many processors it is; None where the system is silent.

    Args:
        root: Where the file system starts.
        among: The processors whose cores count, by their numbers; None: all.
    """
    cores = set()
    for path in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list"):
        if among is not None and int(path.parts[-3].removeprefix("cpu")) not in among:
            continue
        try:
            cores.add(path.read_text(encoding="ascii").strip())
        except OSError:  # taken out of service
            continue
    return len(cores) or None


def _within_quota(count: int, root: Path) -> int:
    quota = core_quota(root)
    return count if quota is None else max(1, min(count, int(quota)))


def _count_processors() -> int:
    """Returns the number of processors that this process may be scheduled on."""
    allowed = _allowed_processors()
    if allowed is not None:
        return len(allowed)
    count: int | None = getattr(os, "process_cpu_count", os.cpu_count)()  # the first from Python 3.13 on
    return count or 1


def _allowed_processors() -> set[int] | None:
    """Returns the numbers of the processors that this process may be scheduled on; None where there is no such set."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
