"""What ONNX Runtime made of a graph on this machine, and what it left unfused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeclf_runtime.onnx_file import OnnxFile, OnnxNode

CONVOLUTIONS = frozenset({"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "QLinearConv"})

FOLDED = frozenset({"BatchNormalization", "Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "Tanh", "Max"})
"""What ONNX Runtime makes part of the convolution before it; `Max` is what it makes of a Relu that it has no float16
kernel for."""

IN_FLOAT = frozenset({"Conv", "FusedConv", "ConvTranspose", "MatMul", "FusedMatMul", "Gemm", "FusedGemm"})

MOVING = frozenset({"Cast", "Transpose", "Shape", "Gather", "ReorderInput", "ReorderOutput"})
"""What computes nothing: it converts values, brings them into another order, or asks for their shape. The last two are
ONNX Runtime's own, to and from the layout of its fastest convolutions."""

_LET_THROUGH = MOVING | {"QuantizeLinear", "DequantizeLinear"}
"""What may stand between a convolution and what belongs into it."""


@dataclass(frozen=True)
class Fusion:
    """A graph before and after ONNX Runtime's optimisations.

    Attributes:
        before: How many nodes the file has of each operator.
        after: How many of each run.
        not_fused: What could have become part of its neighbour and did not, with how often: an activation or batch
            normalisation right behind a convolution (but for conversions), or a convolution or matrix product that
            computes in float although its weights are kept in 8 bits.
        moving: Operators among those that run which compute nothing, with how often.
    """

    before: Mapping[str, int]
    after: Mapping[str, int]
    not_fused: Mapping[str, int]
    moving: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Returns what a JSON document says of it."""
        return {
            "operators": {name: {"file": in_file, "after_fusion": after} for name, in_file, after in self.rows()},
            "not_fused": dict(self.not_fused),
            "moving": dict(self.moving),
        }

    def rows(self) -> list[tuple[str, int, int]]:
        """Returns each operator with how many the file has and how many run, those of the file first."""
        names = [*sorted(self.before), *sorted(self.after.keys() - self.before.keys())]
        return [(name, self.before.get(name, 0), self.after.get(name, 0)) for name in names]


def compare_graphs(before: OnnxFile, after: OnnxFile) -> Fusion:
    """Compares the graph of a file with what ONNX Runtime made of it."""
    producers = {(node.graph, name): node for node in after.nodes for name in node.outputs}
    not_fused: Counter[str] = Counter()
    for node in after.nodes:
        if node.op_type in FOLDED and _source(node, 0, producers) in CONVOLUTIONS:
            not_fused[f"{node.op_type} behind a convolution"] += 1
        if node.op_type in IN_FLOAT and _is_made_by(node, 1, "DequantizeLinear", producers):
            not_fused[f"{node.op_type} in float with 8-bit weights"] += 1
    moving = Counter(node.op_type for node in after.nodes if node.op_type in MOVING)
    return Fusion(before.operators, after.operators, not_fused, moving)


def _is_made_by(node: OnnxNode, which: int, op_type: str, producers: Mapping[tuple[int, str], OnnxNode]) -> bool:
    producer = producers.get((node.graph, node.inputs[which])) if which < len(node.inputs) else None
    return producer is not None and producer.op_type == op_type


def _source(node: OnnxNode, which: int, producers: Mapping[tuple[int, str], OnnxNode]) -> str | None:
    """Returns the operator that made an input, conversions let through; None for an input of the graph."""
    seen: set[str] = set()
    name = node.inputs[which] if which < len(node.inputs) else ""
    while name not in seen:
        seen.add(name)  # a damaged graph may go round in circles
        producer = producers.get((node.graph, name))
        if producer is None:
            return None
        if producer.op_type not in _LET_THROUGH or not producer.inputs:
            return producer.op_type
        name = producer.inputs[0]
    return None
