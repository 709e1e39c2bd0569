"""ONNX: the step graph that the runtime runs."""

from __future__ import annotations

from pathlib import Path

from edgeclf_export.formats.base import ExportJob
from edgeclf_export.formats.onnx_graph import OnnxBasedFormat, finished, step_model


class OnnxFormat(OnnxBasedFormat):
    """ONNX by the exporter of `torch.export` graphs, weights inside the file."""

    name = "onnx"
    suffix = ".onnx"
    summary = "the step graph; what `edgeclf run-stream` runs"
    precisions = ("fp32", "fp16", "int8")
    options = ("opset", "batch", "float32_edges")

    def write(self, job: ExportJob, path: Path) -> None:
        """Writes the model; see `ExportFormat.write`."""
        path.write_bytes(finished(step_model(job), job.contract))
