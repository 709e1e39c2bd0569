"""ONNX that takes events: preprocessing and step in one graph, for programs that have nothing but ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeclf_export.events_graph import frame_model, joined
from edgeclf_export.formats.base import OPSET, ExportJob, ExportOptions
from edgeclf_export.formats.onnx_graph import OnnxBasedFormat, finished, step_model
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import UsageError


class OnnxEventsFormat(OnnxBasedFormat):
    """The step graph of one stream, whose first input is the events of a slice; see `events_graph.frame_model`."""

    name = "onnx-events"
    suffix = ".events.onnx"
    summary = "the step graph with `histo` or `diff` inside: events in, for C++, Java, C# or JavaScript"
    options = ("opset", "sensor_size")

    def contract(self, contract: Contract, options: ExportOptions) -> Contract:
        """Returns what a file will say; see `ExportFormat.contract`.

        Raises:
            UsageError: Where there is no graph that makes the model's frames of events; see `frame_model`.
        """
        trained, given = contract.sensor_size, options.sensor_size
        if trained and given and trained != given:
            raise UsageError(
                f"The checkpoint says that its sensor is {trained[0]}×{trained[1]} (width × height), and --sensor-size "
                f"says {given[0]}×{given[1]}; leave --sensor-size out."
            )
        contract = replace(super().contract(contract, options), takes="events", batch=1, sensor_size=trained or given)
        frame_model(contract, options.opset or OPSET)  # raises before the exporter has worked for nothing
        return contract

    def write(self, job: ExportJob, path: Path) -> None:
        """Writes the model; see `ExportFormat.write`."""
        step = step_model(replace(job, contract=replace(job.contract, takes="frames")))
        frames = frame_model(job.contract, job.contract.opset or OPSET)
        path.write_bytes(finished(joined(frames, step), job.contract))
