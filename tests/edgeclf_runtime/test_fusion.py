from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeclf_runtime.fusion import compare_graphs
from edgeclf_runtime.onnx_file import OnnxFile, OnnxNode
from edgeclf_runtime.session import optimised_graph


def graph(*nodes):
    found = tuple(OnnxNode(domain, kind, tuple(i), tuple(o), g) for kind, i, o, domain, g in nodes)
    return OnnxFile(Path("a.onnx"), found, (), (), {}, ())


def node(kind, inputs, outputs, domain="", graph_number=0):
    return kind, inputs.split(), outputs.split(), domain, graph_number


def test_counts_before_and_after():
    before = graph(node("Conv", "x w", "a"), node("Relu", "a", "b"), node("Add", "b b", "y"))
    after = graph(node("FusedConv", "x w", "b", "com.microsoft"), node("Add", "b b", "y"))
    found = compare_graphs(before, after)
    assert found.rows() == [("Add", 1, 1), ("Conv", 1, 0), ("Relu", 1, 0), ("com.microsoft:FusedConv", 0, 1)]
    assert (dict(found.not_fused), dict(found.moving)) == ({}, {})
    assert found.to_dict() == {
        "operators": {
            "Add": {"file": 1, "after_fusion": 1},
            "Conv": {"file": 1, "after_fusion": 0},
            "Relu": {"file": 1, "after_fusion": 0},
            "com.microsoft:FusedConv": {"file": 0, "after_fusion": 1},
        },
        "not_fused": {},
        "moving": {},
    }


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (
            [node("Conv", "x w", "a"), node("BatchNormalization", "a s", "y")],
            {"BatchNormalization behind a convolution": 1},
        ),
        ([node("Conv", "x w", "a"), node("Relu", "a", "b"), node("Relu", "a", "y")], {"Relu behind a convolution": 2}),
        # With conversions between them.
        (
            [
                node("Conv", "x w", "a"), node("ReorderOutput", "a", "b"), node("Cast", "b", "c"),
                node("Clip", "c lo hi", "y"),
            ],
            {"Clip behind a convolution": 1},
        ),
        # Not right behind one.
        ([node("Conv", "x w", "a"), node("Split", "a", "b c"), node("Sigmoid", "b", "y")], {}),
        ([node("Conv", "x w", "a"), node("Add", "a x", "b"), node("Relu", "b", "y")], {}),
        ([node("Relu", "x", "a"), node("Conv", "a w", "y")], {}),
        # Names are a graph's own.
        ([node("Conv", "x w", "a"), node("Relu", "a", "y", graph_number=1)], {}),
        # 8-bit weights, and weights that were left in float on purpose.
        (
            [node("DequantizeLinear", "q s z", "w"), node("DequantizeLinear", "i s z", "x"), node("Conv", "x w", "y")],
            {"Conv in float with 8-bit weights": 1},
        ),
        ([node("DequantizeLinear", "i s z", "x"), node("Conv", "x w", "a"), node("QuantizeLinear", "a s", "y")], {}),
        ([node("DequantizeLinear", "q s z", "w"), node("Gemm", "x w b", "y")], {"Gemm in float with 8-bit weights": 1}),
        # A graph that goes round in circles, and nodes without inputs.
        ([node("Cast", "b", "a"), node("Cast", "a", "b"), node("Relu", "a", "y")], {}),
        ([node("Relu", "", "y"), node("Conv", "x", "z")], {}),
    ],
)  # fmt: skip
def test_what_is_not_fused(nodes, expected):
    assert dict(compare_graphs(graph(), graph(*nodes)).not_fused) == expected


def test_what_computes_nothing():
    nodes = [
        node("Cast", "x", "a"), node("Cast", "a", "b"), node("Gather", "b i", "c"), node("Shape", "c", "d"),
        node("ReorderInput", "c", "e", "com.microsoft.nchwc"), node("Mul", "e e", "y"),
    ]  # fmt: skip
    found = compare_graphs(graph(*nodes), graph(*nodes))
    assert dict(found.moving) == {"Cast": 2, "Gather": 1, "Shape": 1, "ReorderInput": 1}


# What ONNX Runtime really makes of it.


def weights(name, *shape):
    rng = np.random.default_rng(len(name))
    return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)


@pytest.fixture
def optimised(tmp_path):
    def run(nodes, constants):
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *s]) for name, s in SHAPES.items()]
        model = helper.make_model(
            helper.make_graph(nodes, "g", values[:1], values[1:], constants),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        )
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, tmp_path / "a.onnx")
        return compare_graphs(*optimised_graph(tmp_path / "a.onnx", "cpu"))

    return run


SHAPES = {"x": (8, 16, 16), "y": (8, 14, 14)}


def test_relu_becomes_part_of_the_convolution(optimised):
    found = optimised(
        [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])],
        [weights("w", 8, 8, 3, 3)],
    )
    assert (found.before, found.not_fused) == ({"Conv": 1, "Relu": 1}, {})
    assert "Relu" not in found.after


def test_relu_of_a_convolution_that_others_read_as_well_is_left(optimised):
    found = optimised(
        [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Tanh", ["a"], ["c"]),
            helper.make_node("Mul", ["b", "c"], ["y"]),
        ],
        [weights("w", 8, 8, 3, 3)],
    )
    assert found.not_fused == {"Relu behind a convolution": 1, "Tanh behind a convolution": 1}


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_with_8_bit_weights(optimised, groups):
    # ONNX Runtime computes in 8 bits where the result is put into 8 bits again, and in float where it is not.
    scale, zero = numpy_helper.from_array(np.float32(0.05), "s"), numpy_helper.from_array(np.uint8(128), "z")
    rng = np.random.default_rng(0)
    kernel = numpy_helper.from_array(rng.integers(-99, 99, (8, 8 // groups, 3, 3)).astype(np.int8), "q")
    signed = numpy_helper.from_array(np.int8(0), "z8")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z8"], ["w"]),
        helper.make_node("Conv", ["xd", "w"], ["a"], group=groups),
    ]
    back = [
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["aq"]),
        helper.make_node("DequantizeLinear", ["aq", "s", "z"], ["y"]),
    ]
    constants = [scale, zero, kernel, signed]
    assert optimised([*nodes, *back], constants).not_fused == {}
    left = optimised([*nodes, helper.make_node("Neg", ["a"], ["y"])], constants)
    assert left.not_fused == {"Conv in float with 8-bit weights": 1}
