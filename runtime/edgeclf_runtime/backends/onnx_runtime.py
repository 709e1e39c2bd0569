"""ONNX files, run by ONNX Runtime on whichever of its execution providers was asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.backends.base import Array, Backend, DeviceOptions, HostMemory, Placement, StreamMemory
from edgeclf_runtime.backends.device_memory import DeviceMemory, FixedBatchMemory, rows_are_aligned
from edgeclf_runtime.backends.providers import gpu_of, start_session
from edgeclf_runtime.contract import FRAMES, KEEP_MEMORY, LOGITS, PROBABILITIES, Contract
from edgeclf_runtime.errors import ContractError, EdgeclfError, UsageError
from edgeclf_runtime.machine.providers import first_line
from edgeclf_runtime.onnx_file import OnnxFile, check_external_data, read_onnx


class OnnxRuntimeBackend(Backend):
    """An ONNX file that ONNX Runtime has opened; see `Backend`.

    Args:
        session: The ONNX Runtime session.
        contract: What the file says of itself.
        device: What it really runs on.
        placement: What runs it, node by node.
        source: The file's name, for errors.
        gpu: The number of the GPU, where it runs on one.
    """

    def __init__(
        self, session: Any, contract: Contract, device: str, placement: Placement, source: str, gpu: int = 0
    ) -> None:
        self.contract = contract
        self.device = device
        self.gpu = gpu
        self.placement = placement
        self._opened: Any = session
        self._source = source

    @property
    def session(self) -> Any:
        """The ONNX Runtime session.

        Raises:
            UsageError: After `close`.
        """
        if self._opened is None:
            raise UsageError(f"{self._source}: the model was closed; open it again.")
        return self._opened

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Runs the graph once; see `Backend.run`."""
        session = self.session
        feed = {
            name: np.ascontiguousarray(value) for name, value in zip(self.contract.input_names, inputs, strict=True)
        }
        try:
            outputs: list[Array] = session.run(self.contract.output_names, feed)
        except Exception as error:  # onnxruntime's own classes have no public base
            raise failed(error) from error
        return outputs

    def run_bound(self, binding: Any) -> None:
        """Runs the graph on what an `IOBinding` of the session names."""
        session = self.session
        try:
            session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's own classes have no public base
            raise failed(error) from error

    def remember(self, streams: int) -> StreamMemory:
        """Returns the memory of so many streams, on the device; see `Backend.remember`.

        Raises:
            ContractError: Where the graph's inputs and outputs are not those of the contract.
        """
        _check_graph(self.session, self.contract, self._source)
        if self.contract.batch is not None:
            return FixedBatchMemory(self, streams)
        if streams == 1 or self.device != "cuda" or rows_are_aligned(self.contract):
            return DeviceMemory(self, streams)
        return HostMemory(self, streams)

    def close(self) -> None:
        """Releases the session; see `Backend.close`."""
        self._opened = None


def open_file(path: Path, options: DeviceOptions) -> OnnxRuntimeBackend:
    """Opens an ONNX file; see `open_backend`."""
    contract = Contract.from_metadata(_safe(path).metadata, str(path))
    started = start_session(path, options)
    return OnnxRuntimeBackend(started.session, contract, started.device, started.placement, str(path), gpu_of(options))


def optimised_graph(path: Path, options: DeviceOptions) -> tuple[OnnxFile, OnnxFile]:
    """Returns what a file holds, and what ONNX Runtime makes of it before it runs it on this machine.

    Raises:
        EdgeclfError: See `open_backend`.
    """
    before = _safe(path)
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        start_session(path, options, optimised)
        return before, read_onnx(optimised)


def failed(error: Exception) -> EdgeclfError:
    """Returns what to raise where ONNX Runtime fails on a frame."""
    return EdgeclfError(
        f"ONNX Runtime failed on a frame ({first_line(error)}); try --device cpu, or export the checkpoint again."
    )


def _safe(path: Path) -> OnnxFile:
    """Returns what an ONNX file holds, after checking that opening it reads no file outside of its folder."""
    found = read_onnx(path)
    check_external_data(found)
    return found


def _check_graph(session: Any, contract: Contract, source: str) -> None:
    """Raises a ContractError where the graph's inputs and outputs are not those of the contract, by name and shape."""
    outputs = (len(contract.labels),)
    shapes = {FRAMES: contract.frame_shape, KEEP_MEMORY: (), LOGITS: outputs, PROBABILITIES: outputs}
    shapes |= {name: s.shape for s in contract.state for name in (s.input_name, s.output_name)}
    types = {name: contract.state_type if "state." in name else contract.edge_type for name in shapes}
    for values, names in (
        (session.get_inputs(), contract.input_names),
        (session.get_outputs(), contract.output_names),
    ):
        if sorted(value.name for value in values) != sorted(names) or not all(
            _may_have_shape(value.shape, shapes[value.name], contract.batch) and value.type == _TYPES[types[value.name]]
            for value in values
        ):
            raise ContractError(
                f"{source}: the graph's inputs and outputs are not those of its contract; export the checkpoint again."
            )


_TYPES = {"float32": "tensor(float)", "float16": "tensor(float16)"}


def _may_have_shape(stated: Sequence[int | str | None], wanted: Sequence[int], batch: int | None) -> bool:
    """Whether a value of the graph may have the shape `[batch, *wanted]`; what is no number there can be any."""
    if len(stated) != len(wanted) + 1 or (stated[0] if isinstance(stated[0], int) else None) != batch:
        return False
    return all(not isinstance(size, int) or size == other for size, other in zip(stated[1:], wanted, strict=True))
