"""The formats that a checkpoint can be exported to. A format is one module; this registry drives everything else."""

from __future__ import annotations

from edgeclf_export.formats.base import Array, ExportFormat, Step
from edgeclf_export.formats.onnx import OnnxFormat
from edgeclf_export.formats.torchscript import TorchScriptFormat

FORMATS: dict[str, ExportFormat] = {known.name: known for known in (OnnxFormat(), TorchScriptFormat())}

__all__ = ["FORMATS", "Array", "ExportFormat", "Step"]
