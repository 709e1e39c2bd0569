"""Sources by what they are called: a file's name, `-`, or a scheme such as `camera:`."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path

from edgeclf_runtime.announced import announced_names, load_announced
from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.events.encoding import RecordingFormat
from edgeclf_runtime.sources.base import Source

SourceFactory = Callable[[str, tuple[int, int] | None], Source]
"""Called with the path, or what follows a scheme's colon, and with the sensor's (width, height), None if not given."""

ENTRY_POINT_GROUP = "edgeclf.source"
"""Entry points of this group, in any installed package, are sources: name, and factory as `module:object`."""


def open_source(
    text: str | Path,
    sensor_size: tuple[int, int] | None = None,
    format: RecordingFormat | None = None,
    follow: bool = False,
) -> Source:
    """Opens a source.

    What it is called means: `-` is standard input; what exists is a file or a named pipe; else what stands before a
    colon is a scheme, as in `camera:SERIAL`. A file is opened by its suffix where somebody has registered that, else by
    what it holds.

    Args:
        text: What it is called.
        sensor_size: Width and height of the sensor, for sources that do not say.
        format: How words are encoded that come without a header; files, pipes and standard input only.
        follow: Read a RAW or DAT file on as it grows, until it is closed. What is live anyway stays as it is.

    Raises:
        InputFileError: Where there is no such source, or it is not what it should be.
        UsageError: Where the size or the format contradicts what the source says of itself.
        MissingPackageError: Where a package is missing that it takes.
        DeviceError: Where a camera cannot be opened.
    """
    text = str(text)
    path = Path(text)
    if text != "-" and not _exists(path):
        return _open_by_scheme(text, sensor_size, format)
    if path.is_dir():
        raise InputFileError(f"{path}: this is a folder; give a recording (.raw, .dat) or a tensor file (.h5) in it.")
    if follow or format is not None or not path.is_file():
        from edgeclf_runtime.sources.readers import open_growing, open_reader
        from edgeclf_runtime.sources.words import WordSource

        reader = open_growing(path) if follow and path.is_file() else open_reader(None if text == "-" else path)
        return WordSource(reader, text, sensor_size, format)
    return (_find(path.suffix.lower()) or _open_by_content)(text, sensor_size)


def source_names() -> tuple[str, ...]:
    """Returns the suffixes (`.raw`) and schemes (`camera`) that there are: shipped, registered, then what packages add.

    Nothing of those packages is imported for it.
    """
    return tuple(dict.fromkeys([*_FACTORIES, *announced_names(ENTRY_POINT_GROUP)]))


def register_source(name: str, factory: SourceFactory) -> None:
    """Makes a source available to `open_source` and all that is built on it.

    That holds in this process. What shall be found everywhere, by the command line too, is announced by an installed
    package instead, in its `pyproject.toml`::

        [project.entry-points."edgeclf.source"]
        mycamera = "my_package.camera:MyCameraSource"

    Args:
        name: A scheme, in lower case and without its colon, or the suffix of files, with its dot.
        factory: What opens it, usually its class; see `SourceFactory`.

    Raises:
        UsageError: Where another source has that name, or it cannot be one.
    """
    if not re.fullmatch(r"\.[^.:/\\A-Z]+|[a-z][a-z0-9_+-]+", name):
        raise UsageError(
            f"{name!r} names no source; take a scheme of two or more lower-case letters, without a colon, or a suffix "
            "that starts with a dot."
        )
    if _FACTORIES.get(name, factory) is not factory:
        raise UsageError(f"There is a source called {name} already; register yours by another name.")
    _FACTORIES[name] = factory


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # what follows a scheme's colon may be long
            return False
        raise InputFileError(f"{path} cannot be read ({error.strerror}): check the path and its rights.") from None


def _open_by_scheme(text: str, sensor_size: tuple[int, int] | None, format: RecordingFormat | None) -> Source:
    scheme, colon, rest = text.partition(":")
    factory = _find(scheme) if colon else None
    if factory is None:
        schemes = ", ".join(f"{name}:" for name in source_names() if not name.startswith("."))
        raise InputFileError(
            f"{text}: there is no such file" + (f", and no source {scheme}: ; there are {schemes}." if colon else ".")
        )
    if format is not None:
        raise UsageError(f"{text}: this source knows its format; leave {format} out.")
    return factory(rest, sensor_size)


# Each imports its module when it is called: h5py and the cameras' drivers take longer to import than a model to load.


def _open_by_content(text: str, sensor_size: tuple[int, int] | None) -> Source:
    path = Path(text)
    if not _is_hdf5(path):
        from edgeclf_runtime.sources.recording import RecordingSource

        return RecordingSource(path, sensor_size)
    from edgeclf_runtime.sources.hdf5_events import Hdf5EventSource, is_hdf5_event_file

    if is_hdf5_event_file(path):
        return Hdf5EventSource(path, sensor_size)
    from edgeclf_runtime.sources.tensors import TensorSource

    return TensorSource(path, sensor_size)


def _open_with_faery(text: str, sensor_size: tuple[int, int] | None) -> Source:
    from edgeclf_runtime.sources.faery_files import FaerySource

    return FaerySource(Path(text), sensor_size)


def _open_camera(serial: str, sensor_size: tuple[int, int] | None) -> Source:
    from edgeclf_runtime.sources.camera import CameraSource

    return CameraSource(serial, sensor_size)


_FACTORIES: dict[str, SourceFactory] = {
    **dict.fromkeys((".raw", ".dat", ".h5", ".hdf5"), _open_by_content),
    **dict.fromkeys((".aedat4", ".es", ".csv"), _open_with_faery),
    "camera": _open_camera,
}


def _is_hdf5(path: Path) -> bool:
    if path.suffix.lower() in (".h5", ".hdf5"):
        return True
    try:
        with path.open("rb") as file:
            return file.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError as error:
        raise InputFileError(f"{path} cannot be read ({error.strerror}): check the file and its rights.") from None


def _find(name: str) -> SourceFactory | None:
    """Returns the factory of that name, None where there is none.

    Installed packages are looked through only for a name that is not here yet, and only what announces it is imported.

    Raises:
        UsageError: Where two packages announce it, or what is announced cannot be loaded.
    """
    if name not in _FACTORIES:
        factory = load_announced(ENTRY_POINT_GROUP, name)
        if factory is None:
            return None
        register_source(name, factory)
    return _FACTORIES[name]
