"""How much energy the machine has taken, where it can tell: a processor by RAPL, a Jetson by its power monitor.

Both are of the whole package or module, whatever else runs on it. Written from documents, and tried on made-up files
only: the machines that this was developed on have neither.

- RAPL (Intel's, and AMD's by the same files) counts energy, in `/sys/class/powercap/intel-rapl:N`, and starts anew at
  `max_energy_range_uj`: https://docs.kernel.org/power/powercap/powercap.html. Of its zones those that are called
  `package-N` count; `core`, `uncore` and `dram` are parts of one or beside it, and `psys` holds them all once more.
- A Jetson's INA3221 tells voltage and current of up to three rails: https://docs.kernel.org/hwmon/ina3221.html, and
  for older systems the same by other names. Which rails together are all that the module takes is in the tables under
  "Software-Based Power Consumption Modeling" of NVIDIA's Jetson Linux Developer Guide.
"""

from __future__ import annotations

import logging
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeclf_runtime.closing import Closing

_EVERY_S = 0.01
_WHOLE_MODULES = (
    ("VDD_IN",),  # TX1, TX2, Xavier NX, Orin NX, Orin Nano
    ("POM_5V_IN",),  # Nano
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),  # AGX Orin; VDDQ_VDD2_1V8AO is a part of the last
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),  # AGX Xavier
)
"""Rails that together are all that a module takes; the first of which all are there counts."""

_log = logging.getLogger(__name__)


class EnergyMeter(Closing):
    """Tells the energy since it was made; a context manager that ends it.

    Attributes:
        source: What it reads, for people.
    """

    source: str

    @staticmethod
    def find(root: Path = Path("/")) -> EnergyMeter | None:
        """Returns a meter of this machine that has been started; None where nothing tells.

        Where there is something that this user may not read, the log says how to allow it.

        Args:
            root: Where the file system starts.
        """
        if rails := _module_rails(root):
            return RailMeter(rails)
        packages = _packages(root)
        try:
            return PackageMeter(packages) if packages else None
        except (OSError, ValueError) as error:
            _log.info(
                "No energy is measured, as RAPL's counters cannot be read (%s); to allow it until the next start: "
                "sudo chmod a+r %s/intel-rapl:*/energy_uj.",
                getattr(error, "strerror", None) or error, packages[0].parent,
            )  # fmt: skip
            return None

    @abstractmethod
    def read(self) -> float | None:
        """Returns the joules since it was made; None where they could not be read to the end."""


class PackageMeter(EnergyMeter):
    """Reads RAPL's counters, which must not go round more than once between two readings: it takes them many minutes.

    Args:
        packages: The folders of the packages.

    Raises:
        OSError: Where they cannot be read.
        ValueError: Where they hold no number.
    """

    def __init__(self, packages: Sequence[Path]) -> None:
        self.source = f"RAPL, {len(packages)} package" + ("s" if len(packages) > 1 else "")
        self._packages = packages
        self._ranges = [_number(package / "max_energy_range_uj") for package in packages]
        self._last = self._counters()
        self._sum_uj = 0
        self._has_failed = False

    def read(self) -> float | None:
        """Returns the joules since it was made; see `EnergyMeter.read`."""
        try:
            now = self._counters()
        except (OSError, ValueError):
            self._has_failed = True
        if self._has_failed:
            return None
        for before, after, whole in zip(self._last, now, self._ranges, strict=True):
            self._sum_uj += after - before + (whole if after < before else 0)
        self._last = now
        return self._sum_uj / 1e6

    def close(self) -> None:
        """Does nothing: it holds nothing."""

    def _counters(self) -> list[int]:
        return [_number(package / "energy_uj") for package in self._packages]


@dataclass(frozen=True)
class Rail:
    """A rail of a power monitor.

    Attributes:
        name: What the board calls it.
        voltage: The file that tells its voltage in mV.
        current: The file that tells its current in mA.
    """

    name: str
    voltage: Path
    current: Path

    def watts(self) -> float:
        """Returns the power that goes through it now."""
        return _number(self.voltage) * _number(self.current) / 1e6


class RailMeter(EnergyMeter):
    """Adds up the power of rails, which a thread of its own looks at every 10 ms.

    Each look takes a moment of a processor's time, as the monitor is behind a slow bus; the monitor itself averages
    over some milliseconds.

    Args:
        rails: The rails, all of which count.
        now: Tells the time in seconds.
    """

    def __init__(self, rails: Sequence[Rail], now: Callable[[], float] = time.monotonic) -> None:
        self.source = f"INA3221, {' + '.join(rail.name for rail in rails)}"
        self._rails = rails
        self._now = now
        self._lock = threading.Lock()
        self._last: tuple[float, float] | None = None
        self._joules = 0.0
        self._has_failed = False
        self._is_over = threading.Event()
        self._look()
        self._thread = threading.Thread(target=self._watch, name="edgeclf energy", daemon=True)
        self._thread.start()

    def read(self) -> float | None:
        """Returns the joules since it was made; see `EnergyMeter.read`."""
        self._look()
        return None if self._has_failed else self._joules

    def close(self) -> None:
        """Ends the thread."""
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_over.wait(_EVERY_S) and not self._has_failed:
            self._look()

    def _look(self) -> None:
        """Adds the energy since the last look, as if the power had gone evenly from what it was to what it is."""
        with self._lock:
            try:
                watts = sum(rail.watts() for rail in self._rails)
            except (OSError, ValueError):
                self._has_failed = True
                return
            now = self._now()
            if self._last is not None:
                before, watts_before = self._last
                self._joules += (now - before) * (watts + watts_before) / 2
            self._last = (now, watts)


def _packages(root: Path) -> list[Path]:
    """Returns the folders of RAPL's packages."""
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
    return [zone for zone in zones if zone.name.count(":") == 1 and _text(zone / "name").startswith("package")]


def _module_rails(root: Path) -> list[Rail]:
    """Returns the rails that are all that a Jetson's module takes; none where this is no Jetson."""
    drivers = root / "sys/bus/i2c/drivers"
    rails = {}
    for folder in sorted(drivers.glob("ina3221/*/hwmon/hwmon*")):
        for k in (1, 2, 3):
            rails[_text(folder / f"in{k}_label")] = (folder / f"in{k}_input", folder / f"curr{k}_input")
    for folder in sorted(drivers.glob("ina3221x/*/iio:device*")):  # up to Jetson Linux 32
        for k in (0, 1, 2):
            rails[_text(folder / f"rail_name_{k}")] = (
                folder / f"in_voltage{k}_input",
                folder / f"in_current{k}_input",
            )
    for names in _WHOLE_MODULES:
        if all(name in rails for name in names):
            return [Rail(name, *rails[name]) for name in names]
    return []


def _text(path: Path) -> str:
    """Returns what a file says, nothing where it is not there or may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
