"""Multiply-adds of a model, counted from the shapes that ONNX Runtime's profile tells of each node.

A device has no package that infers shapes, and ONNX Runtime knows them all once it has run the graph. So the graph is
run once, not optimised, which keeps its operators those of the file.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.backends.providers import import_onnxruntime
from edgeclf_runtime.contract import FRAMES
from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.machine.providers import CPU_PROVIDER, first_line
from edgeclf_runtime.onnx_file import check_external_data, read_onnx

Shape = Sequence[int]

_CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Operators, and which of their inputs is the weights `[out channels, in channels of a group, …]`."""

_PRODUCTS = ("MatMul", "MatMulInteger", "QLinearMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")
"""Operators whose first input `[…, K]` is multiplied by a second one `[…, K, N]`."""

_COUNTED = {*_CONVOLUTIONS, *_PRODUCTS, "ConvTranspose", "Gemm"}

_log = logging.getLogger(__name__)


def multiply_adds(path: Path) -> int | None:
    """Returns the multiply-adds of one step of one stream of an ONNX file: its convolutions and matrix products.

    Biases, activations and all that works element by element is not counted, as is usual. Where ONNX Runtime cannot run
    the file on this machine's CPU, the log says why, and there is no count.

    Args:
        path: The `.onnx` file. Of a file with a fixed number of streams, an equal part is counted.
    """
    try:
        check_external_data(read_onnx(path))
        events, streams = _profile(path)
    except EdgeclfError as error:
        reason = str(error).removeprefix(f"{path}: ").rstrip(".")
    except Exception as error:  # onnxruntime's own classes have no public base
        reason = first_line(error)
    else:
        return sum(_of_node(event["args"]) for event in events if event.get("cat") == "Node") // streams
    _log.warning("%s: its multiply-adds could not be counted (%s).", path, reason)
    return None


def _profile(path: Path) -> tuple[list[Mapping[str, Any]], int]:
    """Runs a file once; returns the events of its profile, and of how many streams it was.

    The format of the profile: https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Weights that a kernel has packed its own way are let go, and the profile does not tell of them.
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=[CPU_PROVIDER])
        try:
            session.run(None, {value.name: _zeros(value) for value in session.get_inputs()})
        finally:  # it holds the file open until then
            profile = session.end_profiling()
        events: list[Mapping[str, Any]] = json.loads(Path(profile).read_text(encoding="utf-8"))
    fixed = [
        value.shape[0] for value in session.get_inputs() if value.name == FRAMES and isinstance(value.shape[0], int)
    ]
    return events, fixed[0] if fixed else 1


def _zeros(value: Any) -> np.ndarray[Any, Any]:
    """Returns an input of zeros, its axes of no fixed size 1 long."""
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    shape = [size if isinstance(size, int) else 1 for size in value.shape]
    return np.zeros(shape, {"float": "float32", "double": "float64"}.get(kind, kind))


def _of_node(node: Mapping[str, Any]) -> int:
    """Returns the multiply-adds of a node, 0 of one that is no convolution or matrix product."""
    operator = node["op_name"]
    if operator not in _COUNTED:
        return 0
    given, (made, *_) = _shapes(node["input_type_shape"]), _shapes(node["output_type_shape"])
    if operator in _CONVOLUTIONS:  # every element of the output is of a kernel's worth of inputs
        return prod(made) * prod(given[_CONVOLUTIONS[operator]][1:])
    if operator == "ConvTranspose":  # every element of the input goes to a kernel's worth of outputs
        return prod(given[0]) * prod(given[1][1:])
    if operator == "Gemm":  # the first input may be transposed: what is not among its output's rows is summed over
        return prod(made) * (prod(given[0]) // made[0])
    return prod(made) * given[0][-1]


def _shapes(values: Sequence[Mapping[str, Shape]]) -> list[Shape]:
    """Returns the shapes of a profile's values, each told as `{type: shape}`."""
    return [shape for value in values for shape in value.values()]
