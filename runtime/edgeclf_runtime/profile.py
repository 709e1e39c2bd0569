"""The profile of a device: which model it runs fastest and how, as measured there; `run-stream --profile` takes it.

A JSON document::

    {"edgeclf_profile": 1, "model": "best.int8.onnx", "model_sha256": "…", "device": "cpu", "provider": null,
     "provider_options": {}, "threads": 2, "bfloat16": false,
     "measured": {"processor": "…", "p50_us": …, "kpis": {"accuracy": …}}}

`model` is a path from the profile's folder, so that the two can be copied to a device together. What `measured` holds
besides the processor is for people.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from edgeclf_runtime.backends import Device, DeviceOptions
from edgeclf_runtime.console import write_json
from edgeclf_runtime.contract_file import model_file, model_kind
from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.machine.processor import read_processor

_log = logging.getLogger(__name__)

PROFILE_VERSION = 1
_VERSION_KEY = "edgeclf_profile"
_LARGEST = 1 << 20
_AGAIN = "make it again with `edgeclf bench --recommend`"


@dataclass(frozen=True)
class Profile:
    """What a profile says.

    Attributes:
        model: The model's file.
        options: Where it runs, and how.
        measured: What was measured of it: `processor`, and whatever else its maker wrote.
    """

    model: Path
    options: DeviceOptions
    measured: Mapping[str, Any] = field(default_factory=dict)


def write_profile(path: str | Path, model: str | Path, options: DeviceOptions, measured: Mapping[str, Any]) -> None:
    """Writes the profile of a model on this machine; the processor's name joins what was measured.

    The model's path is written as one from the profile's folder where it stands in it, below it, or below the folder
    that it is in; else whole.

    Args:
        path: Where to.
        model: The model's file, or the folder that it was exported to.
        options: Where it runs, and how; of these the device, the provider and its options, the threads and bfloat16 are
            kept.
        measured: What was measured of it, of plain Python values.

    Raises:
        InputFileError: Where the model is not there.
        UsageError: Where nothing can be written there.
    """
    file = model_file(model)
    document = {
        _VERSION_KEY: PROFILE_VERSION,
        "model": _path_from(Path(path).resolve().parent, file.resolve()),
        "model_sha256": _digest(file),
        "device": options.device,
        "provider": options.provider,
        "provider_options": dict(options.provider_options),
        "threads": options.threads,
        "bfloat16": options.bfloat16,
        "measured": {"processor": read_processor().name, **measured},
    }
    write_json(str(path), document)


def read_profile(path: str | Path) -> Profile:
    """Reads a profile; where it was measured on another processor, the log says so.

    Raises:
        InputFileError: Where it is not there or no profile, or its model is not there or another one by now.
    """
    path = Path(path)
    found = _document(path)
    try:
        model, digest, measured = found["model"], found["model_sha256"], found.get("measured", {})
        options = DeviceOptions(
            found["device"], found["threads"], found["provider"], found["provider_options"], bfloat16=found["bfloat16"]
        )
        if not (isinstance(model, str) and isinstance(digest, str) and isinstance(measured, dict)):
            raise TypeError
        _check_types(options)
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        raise InputFileError(f"{path}: this profile is damaged; {_AGAIN}.") from error
    file = path.resolve().parent / model
    if not file.is_file():
        raise InputFileError(
            f"{path}: its model {file} is not there; copy it there, beside the profile as it was, or {_AGAIN}."
        )
    if _digest(file) != digest:
        raise InputFileError(f"{path}: its model {file} is not the one any more that was measured; {_AGAIN}.")
    processor = read_processor().name
    if measured.get("processor") != processor:
        _log.warning(
            "%s: it was measured on another processor (%s, and this is %s); here something else may be faster.",
            path, measured.get("processor"), processor,
        )  # fmt: skip
    return Profile(file, options, measured)


def _document(path: Path) -> dict[str, Any]:
    """Returns the JSON document of a profile of the version that is known here."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST)
    except OSError as error:
        raise InputFileError(f"{path}: the profile cannot be read ({error.strerror}).") from error
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"{path}: this is no profile, as it is not JSON; {_AGAIN}.") from error
    if not isinstance(found, dict) or _VERSION_KEY not in found:
        raise InputFileError(f"{path}: this JSON document is no profile; {_AGAIN}.")
    if found[_VERSION_KEY] != PROFILE_VERSION:
        raise InputFileError(
            f"{path}: this profile is of version {found[_VERSION_KEY]}, and this edgeclf knows version "
            f"{PROFILE_VERSION}; {_AGAIN}, or install the edgeclf that made it."
        )
    return found


def _check_types(options: DeviceOptions) -> None:
    """Raises a TypeError where what a document says cannot be device options."""
    words = options.provider_options
    if not (
        options.device in get_args(Device)
        and isinstance(options.provider, (str, type(None)))
        and type(options.threads) in (int, type(None))
        and isinstance(options.bfloat16, bool)
        and isinstance(words, dict)
        and all(isinstance(word, str) for word in words.values())
    ):
        raise TypeError


def _path_from(folder: Path, file: Path) -> str:
    """Returns a file's path from a folder, with `/`; its whole path where it is not near."""
    try:
        relative = Path(os.path.relpath(file, folder))
    except ValueError:  # on another drive
        return str(file)
    return str(file) if relative.parts[:2] == ("..", "..") else relative.as_posix()


def _digest(file: Path) -> str:
    """Returns the SHA-256 of a model's file, hexadecimal; of an OpenVINO `.xml` and the weights in its `.bin`."""
    weights = file.with_suffix(".bin")
    parts = [file, weights] if model_kind(file) == "openvino" and weights.is_file() else [file]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes())
    return digest.hexdigest()
