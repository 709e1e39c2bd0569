from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeclf_runtime.onnx_writing import model_bytes, node_bytes, tensor_bytes


def test_what_is_written_is_what_onnx_writes():
    rng = np.random.default_rng(0)
    kernel, matrix = (rng.normal(size=shape).astype(np.float32) for shape in ((150, 3, 3, 3), (300, 1)))
    ours = model_bytes(
        [
            node_bytes("Conv", ["x", "kernel"], ["seen"], pads=(1, 1, 1, 1), strides=(2, 200)),
            node_bytes("MatMul", ["seen", "matrix"], ["y"]),
        ],
        {"x": (1, 3, 600, 60000)},
        {"y": (1, 150, 300, 1)},
        [tensor_bytes("kernel", kernel.shape, kernel.tobytes()), tensor_bytes("matrix", (300, 1), matrix.tobytes())],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "kernel"], ["seen"], pads=[1, 1, 1, 1], strides=[2, 200]),
            helper.make_node("MatMul", ["seen", "matrix"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 3, 600, 60000])],
        [helper.make_tensor_value_info("y", 1, [1, 150, 300, 1])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(matrix, "matrix")],
    )
    theirs = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    assert onnx.load_from_string(ours) == theirs
    onnx.checker.check_model(onnx.load_from_string(ours), full_check=True)
