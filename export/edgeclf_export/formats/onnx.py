"""ONNX: the step graph that the runtime runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeclf_export.formats.base import OPSET, ExportFormat, ExportJob, ExportOptions, Step
from edgeclf_export.formats.onnx_graph import finished, load_step, step_model
from edgeclf_runtime.contract import Contract


class OnnxFormat(ExportFormat):
    """ONNX by the exporter of `torch.export` graphs, weights inside the file."""

    name = "onnx"
    suffix = ".onnx"
    summary = "the step graph; what `edgeclf run-stream` runs"
    precisions = ("fp32", "fp16", "int8")
    options = ("opset", "batch", "float32_edges")

    def contract(self, contract: Contract, options: ExportOptions) -> Contract:
        """Returns what a file will say; see `ExportFormat.contract`."""
        return replace(super().contract(contract, options), opset=options.opset or OPSET)

    def write(self, job: ExportJob, path: Path) -> None:
        """Writes the model; see `ExportFormat.write`."""
        path.write_bytes(finished(step_model(job), job.contract))

    def load(self, path: Path) -> tuple[Step, Contract]:
        """Loads a written model into ONNX Runtime; see `ExportFormat.load`."""
        return load_step(str(path), str(path))
