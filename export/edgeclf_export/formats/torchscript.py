"""TorchScript: the step graph for C++ programs that link libtorch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from edgeclf_export.formats.base import Array, ExportFormat, Step
from edgeclf_export.step_graph import StepGraph
from edgeclf_runtime.contract import METADATA_KEY, Contract


class TorchScriptFormat(ExportFormat):
    """TorchScript by tracing: the inputs are positional, in the order of the contract's names."""

    name = "torchscript"
    suffix = ".ts"
    summary = "TorchScript, float32, explicit state; legacy: PyTorch has deprecated TorchScript"

    def write(self, graph: StepGraph, contract: Contract, path: Path) -> Contract:
        """Writes the file and returns the contract that is inside it."""
        with warnings.catch_warnings(), torch.no_grad():
            _ignore_deprecation()
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                graph, graph.example_inputs(contract, batch=2), check_trace=False
            )
            frozen = torch.jit.freeze(traced)
            torch.jit.save(frozen, str(path), _extra_files={METADATA_KEY: contract.to_json()})
        return contract

    def load(self, path: Path) -> tuple[Step, Contract]:
        """Loads a written file into PyTorch on the CPU."""
        extra = {METADATA_KEY: ""}
        with warnings.catch_warnings():
            _ignore_deprecation()
            module = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location="cpu", _extra_files=extra
            )
        text = extra[METADATA_KEY]
        metadata = {METADATA_KEY: text.decode() if isinstance(text, bytes) else text}
        contract = Contract.from_metadata(metadata, str(path))

        def step(inputs: Sequence[Array]) -> list[Array]:
            with torch.inference_mode():
                outputs = module(*(torch.from_numpy(value) for value in inputs))
            return [value.numpy() for value in outputs]

        return step, contract


def _ignore_deprecation() -> None:
    warnings.filterwarnings("ignore", message=r".*torch\.jit\.\w+` is (deprecated|not supported).*")
