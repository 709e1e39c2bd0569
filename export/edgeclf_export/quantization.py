"""int8: static quantisation of the step graph, its ranges chosen by the frames of a data set.

What ONNX Runtime's quantiser writes is kept as it is, a graph of standard operators with a `QuantizeLinear` and a
`DequantizeLinear` (QDQ) around what a runtime may compute in int8. Which nodes those are was found by measuring
(`benchmarks/precisions.py`): every convolution but the first, with the activation after it, and, in the recurrent
models, the sum and the split before the gates. The gates themselves, and with them the state, stay in float32.

- The first convolution has so few channels that it is slower in int8 than in float32, conversions included.
- Activations are uint8 with a zero point of their own, as a ReLU then is part of the rounding and costs nothing.
- Weights are int8, a scale for each output channel, in 7 bits (`reduce_range`): a CPU without VNNI instructions adds
  two products in 16 bits, and 255 * 127 * 2 does not fit there; 255 * 64 * 2 does. So nothing saturates with or without
  VNNI, at the same speed; with 8 bits LeNet's logits were twice as far from PyTorch's on a CPU without.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

from edgeclf_runtime.contract import FRAMES, KEEP_MEMORY, Contract
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.golden import Array

_QUANTIZED_TYPES = ("Conv", "Relu", "Clip", "Add", "Split")
_DETOUR = ".read"


def quantized(model: onnx.ModelProto, contract: Contract, recordings: Sequence[Array]) -> onnx.ModelProto:
    """Returns a step graph with its convolutions in int8; inputs, outputs and state stay what they are.

    Ranges are the smallest and largest value that a tensor takes while the graph runs over the recordings. The same
    arguments give the same model.

    Args:
        model: The step graph in fp32, without external data. It is left as it is.
        contract: The contract of the file that will hold it.
        recordings: Event frames `[T, C, H, W]` of some recordings.

    Raises:
        UsageError: Where there are no frames.
    """
    if not any(len(recording) for recording in recordings):
        raise UsageError("int8 chooses its ranges by the frames of a data set, and there are none; give --dataset.")
    with tempfile.TemporaryDirectory() as folder, _quiet_quantizer():
        source, target = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(_prepared(model).SerializeToString())
        quantize_static(
            source,
            target,
            _Reader(calibration_feeds(model, contract, recordings)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTIZED_TYPES),
            nodes_to_quantize=int8_nodes(model.graph),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        made = onnx.load(target)
    _without_detours(made.graph)
    del made.metadata_props[:]
    made.metadata_props.extend(model.metadata_props)
    made.producer_name, made.producer_version = model.producer_name, model.producer_version
    return made


def int8_nodes(graph: onnx.GraphProto) -> list[str]:
    """Returns the names of the nodes that are computed in int8, in the graph's order; see the module."""
    producers = {output: node for node in graph.node for output in node.output}
    first = _first_convolutions(graph)
    chosen: dict[str, str] = {}
    for node in graph.node:
        before = [producers[value].name for value in node.input if value in producers]
        types = [chosen.get(name) for name in before]
        is_chosen = {
            "Conv": node.name not in first,
            "Relu": types == ["Conv"],
            "Clip": types[:1] == ["Conv"],
            "Add": types == ["Conv", "Conv"] and _is_split(graph, node),
            "Split": types[:1] == ["Add"],
        }
        if is_chosen.get(node.op_type, False):
            chosen[node.name] = node.op_type
    return list(chosen)


def calibration_feeds(
    model: onnx.ModelProto, contract: Contract, recordings: Sequence[Array]
) -> Iterator[Mapping[str, Array]]:
    """Yields the graph's inputs, by name, for every frame of some recordings, the state that it gave carried along.

    A graph of a fixed batch plays that many recordings side by side, and those of a stream one after the other. A
    stream that is done before the longest begins again, and recordings are played twice where there are more streams.
    The state is zero, and `keep_memory` too, where a recording begins. One step is held in memory at a time.
    """
    streams = contract.batch or 1
    known = [recording for recording in recordings if len(recording)]
    # Stream b plays recordings b, b + streams, and so on.
    playlists = [known[b::streams] or [known[b % len(known)]] for b in range(streams)]
    steps = max(sum(map(len, playlist)) for playlist in playlists)
    players = [itertools.cycle(_frames(playlist)) for playlist in playlists]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    state: Sequence[Array] = [np.zeros((streams, *s.shape), np.float32) for s in contract.state]
    for _ in range(steps):
        frames, keep = (np.stack(values).astype(np.float32) for values in zip(*map(next, players), strict=True))
        state = [np.where(keep.reshape(-1, *[1] * (s.ndim - 1)) > 0, s, np.float32(0)) for s in state]
        feed = {FRAMES: frames, **{tensor.input_name: s for tensor, s in zip(contract.state, state, strict=True)}}
        if KEEP_MEMORY in contract.input_names:
            feed[KEEP_MEMORY] = keep
        yield feed
        state = session.run([tensor.output_name for tensor in contract.state], feed) if contract.state else []


class _Reader:
    """What the quantiser reads the graph's inputs from: a step at a call, None at the end."""

    def __init__(self, feeds: Iterator[Mapping[str, Array]]) -> None:
        self._feeds = feeds

    def get_next(self) -> Mapping[str, Array] | None:
        return next(self._feeds, None)


def _frames(recordings: Sequence[Array]) -> Iterator[tuple[Array, float]]:
    """Yields the frames of recordings, one after the other, each with its `keep_memory`."""
    for recording in recordings:
        for k, frame in enumerate(recording):
            yield frame, float(k > 0)


def _first_convolutions(graph: onnx.GraphProto) -> set[str]:
    """Returns the names of the convolutions that see the frames before any other does."""
    seen, found = {FRAMES}, set()
    for node in graph.node:
        if seen.isdisjoint(node.input):
            continue
        if node.op_type == "Conv":
            found.add(node.name)
        else:
            seen.update(node.output)
    return found


def _is_split(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """Whether what a node gives is split: into the gates of a recurrent layer."""
    return any(reader.op_type == "Split" for reader in graph.node if node.output[0] in reader.input)


def _prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a copy that the quantiser takes as it is.

    - It says that it went through the quantiser's preparation, which would change nothing here: that folds batch
      normalisation and constants, which the exporter did, and infers shapes, which the quantiser does.
    - Where a convolution reads an output of the graph (a state), it reads it by a detour: the quantiser rounds what a
      convolution reads for everybody, and the state that is given out is not to be rounded.
    """
    prepared = onnx.ModelProto()
    prepared.CopyFrom(model)
    onnx.helper.set_model_props(prepared, {"onnx.quant.pre_process": "onnxruntime.quant"})
    given_out = {value.name for value in model.graph.output}
    nodes: list[onnx.NodeProto] = []
    for node in list(prepared.graph.node):
        if node.op_type == "Conv" and (value := node.input[0]) in given_out:
            detour = value + _DETOUR
            if not any(detour in known.output for known in nodes):
                nodes.append(onnx.helper.make_node("Identity", [value], [detour], detour))
            node.input[0] = detour
        nodes.append(node)
    _replace_nodes(prepared.graph, nodes)
    return prepared


def _without_detours(graph: onnx.GraphProto) -> None:
    """Takes the detours of `_prepared` out again."""
    ways = {node.output[0]: node.input[0] for node in graph.node if node.name.endswith(_DETOUR)}
    nodes = [node for node in graph.node if node.output[0] not in ways]
    for node in nodes:
        node.input[:] = [ways.get(name, name) for name in node.input]
    _replace_nodes(graph, nodes)
    for value in [value for value in graph.value_info if value.name in ways]:
        graph.value_info.remove(value)


def _replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


@contextlib.contextmanager
def _quiet_quantizer() -> Iterator[None]:
    """Keeps the quantiser's remarks from the user, and it from setting up logging: it logs to the root logger itself.

    Records of other loggers do not pass the root logger's filters; its errors are exceptions.
    """
    root, handler = logging.getLogger(), logging.NullHandler()

    def is_error(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    root.addFilter(is_error)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.removeFilter(is_error)
