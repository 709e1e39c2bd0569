"""Counts of single nodes by hand, and of int8; `tests/edgeclf_export/test_macs.py` counts the classifiers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantFormat, quantize_static
from onnxruntime.quantization.calibrate import CalibrationDataReader

from edgeclf_runtime.benchmark.macs import multiply_adds


def one_node(path, operator, x, *weights, outputs=("y",), **attributes):
    """Writes a graph of one node, whose further inputs are weights of these shapes."""
    names = [f"w{k}" for k in range(len(weights))]
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", *names], list(outputs), **attributes)],
        "g",
        [helper.make_tensor_value_info("x", 1, x)],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in zip(names, weights, strict=True)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("operator", "x", "weights", "attributes", "macs"),
    [
        # 6 outputs a pixel of 5×4 pixels, each of 4 / 2 channels of 3×3
        ("Conv", ["n", 4, 9, 7], [(6, 2, 3, 3), (6,)], {"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 2},
         6 * 5 * 4 * 2 * 3 * 3),
        # 2×3 pixels of 4 channels, each to 5 channels of 3×3
        ("ConvTranspose", [1, 4, 2, 3], [(4, 5, 3, 3)], {"strides": [2, 2]}, 2 * 3 * 4 * 5 * 3 * 3),
        ("Gemm", ["n", 7], [(7, 3)], {}, 7 * 3),
        ("Gemm", [7, 2], [(3, 7)], {"transA": 1, "transB": 1}, 2 * 7 * 3),
        ("MatMul", [2, 5, 7], [(7, 3)], {}, 2 * 5 * 7 * 3),
        ("Relu", [2, 5], [], {}, 0),
    ],
)  # fmt: skip
def test_one_node_by_hand(tmp_path, operator, x, weights, attributes, macs):
    assert multiply_adds(one_node(tmp_path / "one.onnx", operator, x, *weights, **attributes)) == macs


def test_the_tiny_model(write_model):
    assert multiply_adds(write_model()) == 2 * 4  # its one matrix product


def test_a_fixed_number_of_streams_counts_as_one(write_model):
    assert multiply_adds(write_model("three.onnx", batch=3)) == 2 * 4


class Frames(CalibrationDataReader):
    def __init__(self):
        self.left = [{"x": np.random.default_rng(0).random((1, 4, 9, 7), np.float32)}]

    def get_next(self):
        return self.left.pop() if self.left else None


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_int8_counts_as_float(tmp_path, form):
    path = one_node(tmp_path / "one.onnx", "Conv", [1, 4, 9, 7], (6, 4, 3, 3))
    onnx.shape_inference.infer_shapes_path(str(path), str(path))
    quantize_static(path, tmp_path / "int8.onnx", Frames(), quant_format=form)
    operators = {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    assert ("QLinearConv" in operators) == (form == QuantFormat.QOperator)
    assert multiply_adds(tmp_path / "int8.onnx") == multiply_adds(path) == 6 * 7 * 5 * 4 * 3 * 3


def test_what_cannot_be_counted_is_told(tmp_path, caplog):
    path = tmp_path / "no.onnx"
    path.write_bytes(b"no model")
    assert multiply_adds(path) is None
    assert multiply_adds(tmp_path / "not there.onnx") is None
    # Both axes 1 long, as neither is fixed: it loads, and does not run.
    broken = one_node(tmp_path / "broken.onnx", "MatMul", ["n", "k"], (7, 3))
    assert multiply_adds(broken) is None
    first, second, third = caplog.messages
    assert first.startswith(f"{path}: its multiply-adds could not be counted (it is damaged or not an ONNX model (")
    assert second.endswith("(there is no such model file).")
    assert "[ONNXRuntimeError]" in third


def test_nothing_is_left_behind(tmp_path, monkeypatch, write_model):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TMPDIR", str(folder))
    assert multiply_adds(write_model()) is not None
    assert list(folder.iterdir()) == []
