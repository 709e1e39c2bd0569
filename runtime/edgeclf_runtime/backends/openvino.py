"""OpenVINO's files, run by OpenVINO on the CPU, where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.backends.base import (
    Array,
    Backend,
    DeviceOptions,
    HostMemory,
    Placement,
    StreamMemory,
    last_line,
    settle_for_cpu,
)
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.contract_file import read_contract
from edgeclf_runtime.errors import EdgeclfError, InputFileError, MissingPackageError, UsageError
from edgeclf_runtime.machine.cores import usable_cores
from edgeclf_runtime.precision import Precision

_TELEMETRY = "openvino_telemetry"

_ARITHMETIC: dict[Precision, str] = {"fp32": "f32", "fp16": "f16", "int8": "f32"}
"""OpenVINO's `INFERENCE_PRECISION_HINT` of each precision.

It has to be given: by default a CPU with bfloat16 computes a float32 file in bfloat16, of eight bits of mantissa. With
`f16` a CPU that has no half arithmetic computes in float32, on the same rounded weights and state.
"""


class OpenVinoBackend(Backend):
    """A file that OpenVINO has compiled for the CPU; see `Backend`.

    Args:
        compiled: The compiled model.
        contract: What the file says of itself.
        source: The file's name, for errors.
    """

    def __init__(self, compiled: Any, contract: Contract, source: str) -> None:
        self.contract = contract
        self.device = "cpu"
        self.placement = Placement(("OpenVINO",))
        self._request: Any = compiled.create_infer_request()
        self._source = source

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Runs the graph once; see `Backend.run`."""
        if self._request is None:
            raise UsageError(f"{self._source}: the model was closed; open it again.")
        given = {
            name: np.ascontiguousarray(value) for name, value in zip(self.contract.input_names, inputs, strict=True)
        }
        try:
            found = self._request.infer(given, share_inputs=True)
            # Copies: the outputs are the request's own memory.
            return [np.array(found[name]) for name in self.contract.output_names]
        except Exception as error:  # OpenVINO raises RuntimeError, KeyError and others
            raise EdgeclfError(
                f"OpenVINO failed on a frame ({last_line(error)}); export the checkpoint again, or run its .onnx."
            ) from error

    def remember(self, streams: int) -> StreamMemory:
        """Returns the memory of so many streams; see `Backend.remember`."""
        return HostMemory(self, streams)  # OpenVINO computes in the host's memory

    def close(self) -> None:
        """Releases the model; see `Backend.close`."""
        self._request = None


def open_file(path: Path, options: DeviceOptions) -> OpenVinoBackend:
    """Opens OpenVINO's `.xml`, with the weights in the `.bin` beside it; see `open_backend`."""
    contract = read_contract(path)
    _require_cpu(options)
    try:
        openvino = import_openvino()
    except ImportError as error:
        raise MissingPackageError(
            f"{path}: this is a file of OpenVINO's, which is not installed: pip install 'edgeclf[openvino]', or give "
            "the .onnx of the same checkpoint."
        ) from error
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if options.bfloat16 else _ARITHMETIC[contract.precision],
        "INFERENCE_NUM_THREADS": options.threads or usable_cores(),
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    try:
        compiled = openvino.Core().compile_model(path, "CPU", settings)
    except Exception as error:  # OpenVINO raises RuntimeError and others
        raise InputFileError(
            f"{path}: OpenVINO cannot load it, or the weights in the .bin beside it ({last_line(error)}); export the "
            "checkpoint again."
        ) from error
    return OpenVinoBackend(compiled, contract, str(path))


def import_openvino() -> Any:
    """Imports OpenVINO with its telemetry off, and returns the module.

    As soon as it is imported, and with every model that it converts, OpenVINO sends events to Google Analytics and
    writes an identity of the user into the home folder, unless a file there says not to. Without the package
    `openvino_telemetry` it does neither and works the same, so in this process there is no such package. Where the
    program has imported OpenVINO itself before, what it chose stays.
    """
    sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]  # None: importing it is an ImportError
    import openvino

    return openvino


def _require_cpu(options: DeviceOptions) -> None:
    """Raises where something else than OpenVINO's CPU was asked for.

    Raises:
        DeviceError: Where CUDA was.
        UsageError: Where an option is not OpenVINO's.
    """
    if options.provider is not None or options.provider_options or options.tf32:
        raise UsageError("Execution providers, their options and TF32 are for other files than OpenVINO's.")
    if options.device != "cpu":
        settle_for_cpu(options, "CUDA", "OpenVINO's files run on the CPU here", "give the .onnx of the same checkpoint")
