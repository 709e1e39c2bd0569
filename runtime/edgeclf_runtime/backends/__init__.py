"""The programs that run exported models. A backend is one module; this table is all that knows them."""

from __future__ import annotations

import importlib
from pathlib import Path

from edgeclf_runtime.backends.base import Backend, Device, DeviceOptions, Placement, StreamMemory
from edgeclf_runtime.contract_file import model_file, model_kind

_MODULES = {
    "onnx": "edgeclf_runtime.backends.onnx_runtime",
    "archive": "edgeclf_runtime.backends.torchscript",
    "openvino": "edgeclf_runtime.backends.openvino",
}
"""The module that opens each kind of file, by its function `open_file`; imported when such a file is opened."""


def open_backend(path: str | Path, options: DeviceOptions | None = None) -> Backend:
    """Opens any file made by `edgeclf export`, or the one in a folder that it wrote.

    Raises:
        InputFileError: Where it is not there, damaged, of another kind, or wants weights from outside of its folder.
        ContractError: Where it was not exported by edgeclf, or by one whose contract is not known here.
        DeviceError: Where the device that was asked for does not start.
        MissingPackageError: Where the program that runs such files is not installed.
        UsageError: Where an option is asked for that the program does not have.
    """
    path = model_file(path)
    module = importlib.import_module(_MODULES[model_kind(path)])
    backend: Backend = module.open_file(path, options or DeviceOptions())
    return backend


__all__ = ["Backend", "Device", "DeviceOptions", "Placement", "StreamMemory", "open_backend"]
