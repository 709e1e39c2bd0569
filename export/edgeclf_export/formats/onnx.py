"""ONNX: the step graph that the runtime runs."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from edgeclf_export.formats.base import Array, ExportFormat, Step
from edgeclf_export.step_graph import StepGraph
from edgeclf_runtime.contract import METADATA_KEY, Contract

OPSET = 18
"""Chosen, not taken over from the installed torch: every runtime since ONNX Runtime 1.14 runs it."""


class OnnxFormat(ExportFormat):
    """ONNX by the exporter of `torch.export` graphs, weights inside the file."""

    name = "onnx"
    suffix = ".onnx"
    summary = f"ONNX, opset {OPSET}, float32; what `edgeclf run-stream` runs"

    def write(self, graph: StepGraph, contract: Contract, path: Path) -> Contract:
        """Writes the file and returns the contract that is inside it."""
        contract = replace(contract, opset=OPSET)
        batch = torch.export.Dim("batch", min=1)
        # Two streams: an example of one would make the exporter take the batch axis for a constant.
        inputs = graph.example_inputs(contract, batch=2)
        varying = [{0: batch}] * len(inputs)
        with _quiet_exporter():
            program = torch.onnx.export(
                graph,
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=contract.input_names,
                output_names=contract.output_names,
                # `forward` takes the memory as `*memory`, which has no entry where a model has none.
                dynamic_shapes=(varying[0], *([tuple(varying[1:])] if contract.state else [])),
            )
        assert program is not None
        model = program.model_proto
        onnx.helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString())
        return contract

    def load(self, path: Path) -> tuple[Step, Contract]:
        """Loads a written file into ONNX Runtime on the CPU."""
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        contract = Contract.from_metadata(session.get_modelmeta().custom_metadata_map, str(path))

        def step(inputs: Sequence[Array]) -> list[Array]:
            feed = dict(zip(contract.input_names, inputs, strict=True))
            return [np.asarray(value) for value in session.run(contract.output_names, feed)]

        return step, contract


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
