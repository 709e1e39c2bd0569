"""How much memory this process may use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgeclf_runtime.machine.cgroups import memory_limit


@dataclass(frozen=True)
class Memory:
    """The machine's memory, in bytes.

    Attributes:
        total: What there is; None where the system does not say.
        available: What could be had now without swapping; None where the system does not say.
        limit: What this process and those beside it may use at most; None where nothing bounds them.
    """

    total: int | None
    available: int | None
    limit: int | None


def read_memory(root: Path = Path("/")) -> Memory:
    """Returns the machine's memory, as Linux tells it.

    Args:
        root: Where the file system starts.
    """
    try:
        text = (root / "proc/meminfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        text = ""
    kilobytes = {name: int(number) for name, number in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    total, available = (kilobytes[name] * 1024 if name in kilobytes else None for name in ("MemTotal", "MemAvailable"))
    return Memory(total, available, memory_limit(root))
