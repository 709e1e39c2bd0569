"""PT2: the step graph as a program of `torch.export`, the successor of TorchScript."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from edgeclf_export.formats.base import ExportFormat, ExportJob
from edgeclf_export.step_graph import StepGraph
from edgeclf_runtime.contract import METADATA_KEY


class Pt2Format(ExportFormat):
    """A saved `torch.export` program: the inputs are positional, in the order of the contract's names."""

    name = "pt2"
    suffix = ".pt2"
    summary = "torch.export program with explicit state, for PyTorch and AOTInductor; the successor of TorchScript"
    precisions = ("fp32", "fp16")
    options = ("float32_edges",)

    def write(self, job: ExportJob, path: Path) -> None:
        """Writes the model; see `ExportFormat.write`."""
        program = _exported(StepGraph(job.classifier, job.contract))
        # Through a buffer: given a path, PyTorch names the folder inside the archive after the file.
        buffer = io.BytesIO()
        torch.export.save(program, buffer, extra_files={METADATA_KEY: job.contract.to_json()})
        path.write_bytes(buffer.getvalue())


def _exported(graph: StepGraph) -> torch.export.ExportedProgram:
    """Returns a step graph's program for any number of streams, with nothing in it of the machine that exports."""
    graph.requires_grad_(False)
    # Two streams: an example of one would make the exporter take the batch axis for a constant.
    inputs = graph.example_inputs(batch=2)
    varying = {0: torch.export.Dim("batch", min=1)}
    memory = [tuple([varying] * (len(inputs) - 1))] if len(inputs) > 1 else []
    program = torch.export.export(graph, inputs, dynamic_shapes=(varying, *memory))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine's sources, which would be saved
    return program
