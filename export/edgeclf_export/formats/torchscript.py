"""TorchScript: the step graph for C++ programs that link libtorch."""

from __future__ import annotations

from pathlib import Path

import torch

from edgeclf_export.formats.base import ExportFormat, ExportJob
from edgeclf_export.step_graph import StepGraph
from edgeclf_export.torchscript_file import making_torchscript, save_script


class TorchScriptFormat(ExportFormat):
    """TorchScript by tracing: the inputs are positional, in the order of the contract's names."""

    name = "torchscript"
    suffix = ".ts"
    summary = "TorchScript with explicit state; legacy: PyTorch has deprecated TorchScript"

    def write(self, job: ExportJob, path: Path) -> None:
        """Writes the model; see `ExportFormat.write`."""
        graph = StepGraph(job.classifier, job.contract)
        with making_torchscript(), torch.no_grad():
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                graph, graph.example_inputs(batch=2), check_trace=False
            )
            frozen = torch.jit.freeze(traced)
        save_script(frozen, job.contract, path)
