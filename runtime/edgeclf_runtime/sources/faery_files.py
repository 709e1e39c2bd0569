"""AEDAT4, Event Stream (ES) and CSV files, read by `faery` (LGPL-3.0), which the extra `formats` brings."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeclf_runtime.errors import DamagedInputError, InputFileError, MissingPackageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.events.encoding import agreed_size
from edgeclf_runtime.sources.arrays import POLARITY_FIELDS, as_events
from edgeclf_runtime.sources.checked import GivenEvents

FILE_TYPES = {".aedat4": "aedat", ".es": "es", ".csv": "csv"}
LARGEST_SENSOR = (0xFFFF, 0xFFFF)
LONGEST_LINE = 1024


class FaerySource(GivenEvents):
    """The events of a file that `faery` reads; it may be read again.

    A CSV file names its columns in the first line: `t` (µs), `x`, `y` and one of `p`, `on` and `polarity` (1 or 0), in
    any order, with commas between. `x@640` and `y@480`, as faery writes them, tell the sensor's size.

    Args:
        path: The file.
        sensor_size: Width and height of the sensor, for CSV files that do not say.

    Raises:
        MissingPackageError: Where faery is not installed.
        InputFileError: Where the file is not there, is none of these, or the size of its sensor is not known.
        UsageError: Where the size is not one, or contradicts the file.
        DamagedInputError: While it is read, where it is damaged.
    """

    def __init__(self, path: Path, sensor_size: tuple[int, int] | None = None) -> None:
        try:
            import faery
        except ImportError as error:
            raise MissingPackageError(
                f"{path}: {path.suffix} files are read through faery, which is not installed here; install the extra: "
                "pip install 'edgeclf[formats]'."
            ) from error
        file_type = FILE_TYPES[path.suffix.lower()]
        options: dict[str, Any] = {}
        stated: tuple[int, int] | None = None
        if file_type == "csv":
            columns, stated = _read_first_line(path)
            # Events outside of the sensor are for us to count: faery takes them for the end of the file.
            options["dimensions_fallback"] = LARGEST_SENSOR
            options["csv_properties"] = faery.CsvProperties(**{**vars(faery.CsvProperties.default()), **columns})
        try:
            with _panics_as_errors():
                self._stream = faery.events_stream_from_file(path, file_type=file_type, **options)
                if file_type != "csv":
                    stated = self._stream.dimensions()
        except Exception as error:  # of no narrower class: faery raises it itself
            raise InputFileError(f"{path} cannot be read ({error}); record, copy or convert it again.") from error
        if (size := agreed_size(path, stated, sensor_size)) is None:
            raise InputFileError(f"{path} does not tell the sensor's size: give it with --sensor-size WIDTH HEIGHT.")
        super().__init__(str(path), size)

    def _batches(self) -> Iterator[Events]:
        try:
            with _panics_as_errors():
                for packet in self._stream:
                    yield as_events(packet)
        except RuntimeError as error:
            raise DamagedInputError(
                f"{self.name} cannot be read on, as it is damaged ({error}); what came before has been processed."
            ) from error


@contextlib.contextmanager
def _panics_as_errors() -> Iterator[None]:
    """Raises a panic of faery's Rust code as a RuntimeError: its own class is no `Exception` and has no public name."""
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as panic:
        raise RuntimeError(str(panic)) from panic


def _read_first_line(path: Path) -> tuple[dict[str, int], tuple[int, int] | None]:
    """Returns where the columns of a CSV file are, as faery calls that, and the sensor's size where it is told."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            names = [name.strip().lower() for name in file.readline(LONGEST_LINE).split(",")]
    except OSError as error:
        raise InputFileError(f"{path} cannot be read ({error.strerror}): check the file and its rights.") from None
    places = {re.sub(r"@\d+$", "", name): index for index, name in enumerate(names)}
    polarity = next((name for name in POLARITY_FIELDS if name in places), "on")
    if missing := [name for name in ("t", "x", "y", polarity) if name not in places]:
        raise InputFileError(
            f"{path}: the first line of a CSV file names its columns, t,x,y,on; this one lacks {', '.join(missing)}."
        )
    sizes = dict(re.findall(r"^([xy])@0*([1-9]\d*)$", "\n".join(names), re.MULTILINE))
    size = (int(sizes["x"]), int(sizes["y"])) if sizes.keys() == {"x", "y"} else None
    columns = {f"{name}_index": places[name] for name in ("t", "x", "y")} | {"on_index": places[polarity]}
    return columns, size
