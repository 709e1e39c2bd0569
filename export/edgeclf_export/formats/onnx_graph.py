"""The step graph as an ONNX model, in each precision; every format that is ONNX inside starts from it."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace

import onnx
import torch

from edgeclf.models import Classifier
from edgeclf_export.formats.base import OPSET, ExportFormat, ExportJob, ExportOptions
from edgeclf_export.quantization import quantized
from edgeclf_export.step_graph import StepGraph
from edgeclf_runtime.contract import METADATA_KEY, Contract


def step_model(job: ExportJob) -> onnx.ModelProto:
    """Returns the step graph of a job in its contract's precision, opset and batch, its contract not yet inside."""
    if job.contract.precision != "int8":
        return _traced(job.classifier, job.contract)
    in_float = replace(job.contract, precision="fp32")
    return quantized(_traced(job.classifier, in_float), in_float, job.calibration)


def finished(model: onnx.ModelProto, contract: Contract) -> bytes:
    """Returns the file of a model with its contract inside, after checking it with full shape inference."""
    onnx.helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


class OnnxBasedFormat(ExportFormat):
    """A format whose model is an ONNX file that ONNX Runtime runs."""

    def contract(self, contract: Contract, options: ExportOptions) -> Contract:
        """Returns what a file will say; see `ExportFormat.contract`."""
        return replace(super().contract(contract, options), opset=options.opset or OPSET)


def _traced(classifier: Classifier, contract: Contract) -> onnx.ModelProto:
    """Returns the step graph in the floating-point precision of a contract."""
    graph = StepGraph(classifier, contract)
    # Two streams: an example of one would make the exporter take the batch axis for a constant.
    inputs = graph.example_inputs(batch=contract.batch or 2)
    varying = [None if contract.batch else {0: torch.export.Dim("batch", min=1)}] * len(inputs)
    with _quiet_exporter():
        program = torch.onnx.export(
            graph,
            inputs,
            dynamo=True,
            opset_version=contract.opset or OPSET,
            input_names=contract.input_names,
            output_names=contract.output_names,
            # `forward` takes the memory as `*memory`, which has no entry where a model has none.
            dynamic_shapes=(varying[0], *([tuple(varying[1:])] if contract.state else [])),
        )
    assert program is not None
    model = program.model_proto
    _without_traces(model)
    return model


def _without_traces(model: onnx.ModelProto) -> None:
    """Removes where in the sources a node came from: it differs from one machine to the next, and nobody needs it."""
    graph = model.graph
    for entry in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del entry.metadata_props[:]
        entry.doc_string = ""


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keeps the exporter's own progress and deprecation notices from the user; its errors are exceptions."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            for category in (DeprecationWarning, FutureWarning, UserWarning):
                warnings.filterwarnings("ignore", category=category, module=r"torch\..*|onnxscript\..*|copyreg")
            yield
    finally:
        logger.setLevel(level)
