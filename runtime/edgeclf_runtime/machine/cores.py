"""How many cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path

from edgeclf_runtime.machine.cgroups import core_quota


def usable_cores(root: Path = Path("/")) -> int:
    """Returns how many cores this process may use, at least 1.

    The machine's own count misleads in a container: as many threads as that share a quota of a few cores, and all of
    them stand still once it is used up. A quota of 2.5 cores counts as 2.

    Args:
        root: Where the file system starts, for the control groups' files.
    """
    quota = core_quota(root)
    allowed = _allowed_cores()
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def _allowed_cores() -> int:
    """Returns the number of cores that this process may be scheduled on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    count: int | None = getattr(os, "process_cpu_count", os.cpu_count)()  # the first from Python 3.13 on
    return count or 1
