"""The formats that a checkpoint can be exported to. A format is one module; this registry drives everything else."""

from __future__ import annotations

from edgeclf_export.formats.base import Array, ExportFormat, ExportJob, ExportOptions, Step
from edgeclf_export.formats.metavision import MetavisionFormat
from edgeclf_export.formats.onnx import OnnxFormat
from edgeclf_export.formats.onnx_events import OnnxEventsFormat
from edgeclf_export.formats.openvino import OpenVinoFormat
from edgeclf_export.formats.pt2 import Pt2Format
from edgeclf_export.formats.torchscript import TorchScriptFormat
from edgeclf_export.formats.triton import TritonFormat

_KNOWN: tuple[ExportFormat, ...] = (
    OnnxFormat(),
    OnnxEventsFormat(),
    OpenVinoFormat(),
    TritonFormat(),
    Pt2Format(),
    TorchScriptFormat(),
    MetavisionFormat(),
)
FORMATS: dict[str, ExportFormat] = {known.name: known for known in _KNOWN}


def formats_table() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns the registry as a table: its header and its rows."""
    header: tuple[str, ...] = ("format", "file", "precisions", "options", "extra", "what it is")
    rows: list[tuple[str, ...]] = [
        (
            known.name,
            str(known.path("NAME", "fp32")),
            ", ".join(known.precisions),
            ", ".join(f"--{option.replace('_', '-')}" for option in known.options) or "-",
            known.extra,
            known.summary,
        )
        for known in FORMATS.values()
    ]
    return header, rows


__all__ = ["FORMATS", "Array", "ExportFormat", "ExportJob", "ExportOptions", "Step", "formats_table"]
