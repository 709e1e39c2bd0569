"""Multiply-adds that the runtime counts in exported files, held against those by the shapes that onnx infers."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, shape_inference

from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.formats import FORMATS
from edgeclf_export.formats.base import ExportJob, ExportOptions
from edgeclf_export.formats.onnx_graph import finished, step_model
from edgeclf_export.quantization import quantized
from edgeclf_export.step_graph import contract_of
from edgeclf_runtime.benchmark.macs import multiply_adds
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.precision import Precision


def by_inferred_shapes(path: Path) -> int:
    """Counts a float32 graph's convolutions and products at batch 1."""
    graph = shape_inference.infer_shapes(onnx.load(path), strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: numpy_helper.to_array(tensor).shape for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(
            d.dim_value if d.HasField("dim_value") else 1 for d in value.type.tensor_type.shape.dim
        )
    count = 0
    for node in graph.node:
        if node.op_type == "Conv":
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            kernel = shapes[node.input[1]][2:]
            count += prod(shapes[node.output[0]]) * shapes[node.input[0]][1] // groups * prod(kernel)
        elif node.op_type in ("MatMul", "Gemm"):
            assert not any(a.name == "transA" and a.i for a in node.attribute)
            count += prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
        else:
            assert "Conv" not in node.op_type
            assert "MatMul" not in node.op_type
    return count


MODELS = ["ConvRNNClassifier", "LeNetClassifier", "Mobilenetv2Classifier", "SqueezenetClassifier"]


def traced(path: Path, precision: Precision) -> tuple[onnx.ModelProto, Contract]:
    """Returns the step graph of a checkpoint, and its contract."""
    loaded = load_checkpoint(path)
    classifier = loaded.build_model()
    contract = replace(contract_of(loaded, classifier), precision=precision)
    contract = FORMATS["onnx"].contract(contract, ExportOptions())
    return step_model(ExportJob(classifier, contract)), contract


def written(model: onnx.ModelProto, contract: Contract, path: Path) -> Path:
    path.write_bytes(finished(model, contract))
    return path


@pytest.mark.parametrize(
    "case", [name if name == "LeNetClassifier" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_every_model_in_fp32_and_int8(tmp_path, checkpoints, case):
    model, contract = traced(checkpoints[case], "fp32")
    in_float = written(model, contract, tmp_path / "fp32.onnx")
    frames = np.random.default_rng(0).random((4, *contract.frame_shape), np.float32)
    in_int8 = written(quantized(model, contract, [frames]), replace(contract, precision="int8"), tmp_path / "int8.onnx")
    expected = by_inferred_shapes(in_float)
    assert expected > 10_000
    assert multiply_adds(in_float) == expected
    assert multiply_adds(in_int8) == expected


@pytest.mark.slow
@pytest.mark.parametrize("case", MODELS)
def test_every_model_in_fp16(tmp_path, checkpoints, case):
    files = [written(*traced(checkpoints[case], kind), tmp_path / f"{kind}.onnx") for kind in ("fp32", "fp16")]
    in_float, in_half = files
    assert multiply_adds(in_half) == by_inferred_shapes(in_float)
