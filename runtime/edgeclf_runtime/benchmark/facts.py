"""The machine that a benchmark ran on, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from edgeclf_runtime.machine.boards import board_model
from edgeclf_runtime.machine.cgroups import core_quota
from edgeclf_runtime.machine.cores import usable_cores
from edgeclf_runtime.machine.energy import EnergyMeter
from edgeclf_runtime.machine.memory import read_memory
from edgeclf_runtime.machine.packages import installed_wheels, package_version
from edgeclf_runtime.machine.processor import read_processor

LOAD = "load at the start"
DATE = "date"
"""What reports call when the run began, which whoever makes one adds."""

VARYING = (LOAD, DATE)
"""Facts that differ from run to run on one machine."""

_PACKAGES = ("edgeclf", "numpy", "torch", "openvino")
"""Packages whose versions change what is measured, besides ONNX Runtime's wheels."""


def machine_facts(root: Path = Path("/")) -> dict[str, Any]:
    """Returns what changes the figures of a run, as they are when it starts: names for people, and values for JSON.

    What the system does not tell is left out; where energy could be told and may not be read, the log says so.
    Nothing is imported to find out its version.

    Args:
        root: Where the file system starts.
    """
    processor = read_processor(root)
    names = [name for found in (processor.instructions or {}).values() for name in found]
    memory = read_memory(root)
    facts = {
        "processor": processor.name,
        "instructions": ", ".join(dict.fromkeys(names)),
        "board": board_model(root),
        "cores": processor.cores,
        "usable cores": usable_cores(root),
        "quota of cores": core_quota(root),
        "frequency governor": _governors(root),
        "memory": _gigabytes(memory.total),
        "limit of memory": _gigabytes(memory.limit),
        "energy by": _energy_source(root),
        "system": platform.platform(),
        LOAD: _load(),
        "Python": platform.python_version(),
        **{name: package_version(name) for name in _PACKAGES},
        **installed_wheels(),
    }
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _governors(root: Path) -> str:
    """Returns what decides the cores' frequency, e.g. `performance`; several where they differ."""
    found = set()
    for path in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"):
        try:
            found.add(path.read_text(encoding="ascii").strip())
        except OSError:  # taken out of service
            continue
    return ", ".join(sorted(found))


def _energy_source(root: Path) -> str | None:
    """Returns what energy is measured by; None where nothing tells."""
    meter = EnergyMeter.find(root)
    if meter is None:
        return None
    with meter:
        return meter.source


def _load() -> str | None:
    """Returns how many threads wanted to run, on average over the last 1, 5 and 15 minutes; None on Windows."""
    if not hasattr(os, "getloadavg"):
        return None
    try:
        return ", ".join(f"{load:.2f}" for load in os.getloadavg())
    except OSError:
        return None


def _gigabytes(size: int | None) -> str | None:
    return None if size is None else f"{size / 1e9:.1f} GB"
