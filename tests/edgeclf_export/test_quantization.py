"""int8: held against PyTorch's own states and weights, and by hand."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from edgeclf.checkpoint import load_checkpoint
from edgeclf.models import Classifier, State
from edgeclf_export.formats.base import ExportJob, ExportOptions
from edgeclf_export.formats.onnx import OnnxFormat
from edgeclf_export.formats.onnx_graph import finished, step_model
from edgeclf_export.quantization import calibration_feeds, quantized
from edgeclf_export.step_graph import contract_of
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.golden import Array


@dataclass(frozen=True)
class Made:
    classifier: Classifier
    contract: Contract
    in_float: onnx.ModelProto
    in_int8: onnx.ModelProto


def step_graph(path: Path, batch: int | None = None) -> tuple[Classifier, Contract, onnx.ModelProto]:
    loaded = load_checkpoint(path)
    classifier = loaded.build_model()
    contract = OnnxFormat().contract(contract_of(loaded, classifier), ExportOptions(batch=batch))
    return classifier, contract, step_model(ExportJob(classifier, contract))


@pytest.fixture(scope="module")
def recordings(dataset: Path) -> list[Array]:
    """The frames of the data set's recordings, read with h5py alone."""
    found = []
    for path in sorted((dataset / "test").glob("*.h5")):
        with h5py.File(path) as file:
            found.append(file["data"][:].astype(np.float32))
    return found


@pytest.fixture(scope="module")
def made(case_name: str, checkpoints: dict[str, Path], recordings: list[Array]) -> Made:
    classifier, contract, model = step_graph(checkpoints[case_name])
    return Made(classifier, contract, model, quantized(model, contract, recordings))


@pytest.fixture(scope="module")
def conv_rnn(checkpoints: dict[str, Path]) -> tuple[Classifier, Contract, onnx.ModelProto]:
    return step_graph(checkpoints["ConvRNNClassifier"])


def states_in_torch(classifier: Classifier, recordings: list[Array]) -> list[State]:
    """The state that each frame meets: a loop over `step`, from zero in every recording."""
    found = []
    with torch.inference_mode():
        for recording in recordings:
            state = classifier.initial_state(1, *recording.shape[-2:])
            for frame in recording:
                found.append(state)
                state = classifier.step(torch.from_numpy(frame)[None], state)[1]
    return found


def by_output(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in model.graph.node for output in node.output}


def weights(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_inputs_and_outputs_stay_what_they_are(made: Made) -> None:
    content = finished(made.in_int8, made.contract)  # checks with full shape inference
    assert list(made.in_int8.graph.input) == list(made.in_float.graph.input)
    assert list(made.in_int8.graph.output) == list(made.in_float.graph.output)
    assert list(made.in_int8.opset_import) == list(made.in_float.opset_import)
    assert len(content) < 0.6 * len(made.in_float.SerializeToString())
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == made.contract.input_names
    assert [value.name for value in session.get_outputs()] == made.contract.output_names


def test_every_convolution_but_the_first_has_int8_weights_with_a_scale_for_each_channel(made: Made) -> None:
    producers, held, right = by_output(made.in_int8), weights(made.in_int8), weights(made.in_float)
    first, *others = [node for node in made.in_int8.graph.node if node.op_type == "Conv"]
    assert held[first.input[1]].dtype == np.float32
    in_float = {node.name: node for node in made.in_float.graph.node if node.op_type == "Conv"}
    assert len(others) == len(in_float) - 1
    for node in others:
        dequantize = producers[node.input[1]]
        assert dequantize.op_type == "DequantizeLinear"
        steps, scale, zero = (held[name] for name in dequantize.input)
        wanted = right[in_float[node.name].input[1]]
        assert steps.dtype == np.int8
        assert np.abs(steps.astype(int)).max() <= 64  # 7 bits: two products of 255 · 64 fit into 16 bits
        assert scale.shape == (len(wanted),)
        assert not zero.any()
        scale = scale.reshape(-1, 1, 1, 1)
        # Rounded to the nearest step: -64 to 63 of them, the largest weight being 63.5.
        assert (np.abs(steps * scale - wanted) <= 0.5001 * scale).all()


def test_gates_and_state_stay_in_float(made: Made) -> None:
    """The nodes that give the state, and those that they compute it from, are those of the graph in float."""
    producers, before = by_output(made.in_int8), by_output(made.in_float)
    for tensor in made.contract.state:
        name = tensor.output_name
        assert producers[name].op_type == before[name].op_type
        assert producers[name].input == before[name].input
    rounded = {node.input[0] for node in made.in_int8.graph.node if node.op_type == "QuantizeLinear"}
    gates = [node for node in made.in_int8.graph.node if node.op_type in ("Sigmoid", "Tanh")]
    recurrent = sum(tensor.name.endswith(".c") for tensor in made.contract.state)
    assert len(gates) == 5 * recurrent
    assert rounded.isdisjoint(output for node in gates for output in node.output)
    assert "Identity" not in {node.op_type for node in made.in_int8.graph.node}


def test_the_runtime_computes_all_of_them_in_int8(made: Made, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(made.in_int8.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node)
    wanted = Counter(node.op_type for node in made.in_float.graph.node)
    assert (found["QLinearConv"], found["Conv"] + found["FusedConv"]) == (wanted["Conv"] - 1, 1)


def chained_outputs(model: onnx.ModelProto, contract: Contract, frames: Array) -> list[Array]:
    """What a graph gives for frames, `[T, ...]` an output, its own state fed back."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    state = [np.zeros((1, *tensor.shape), np.float32) for tensor in contract.state]
    keep = [np.ones(1, np.float32)] if state else []
    steps = []
    for frame in frames:
        given = dict(zip(contract.input_names, [frame[None], *keep, *state], strict=True))
        steps.append(session.run(contract.output_names, given))
        state = steps[-1][2:]
    return [np.concatenate(values) for values in zip(*steps, strict=True)]


def test_outputs_stay_near_those_in_float_over_chained_steps(made: Made, recordings: list[Array]) -> None:
    frames = np.concatenate(recordings)[:50]
    right = chained_outputs(made.in_float, made.contract, frames)
    found = chained_outputs(made.in_int8, made.contract, frames)
    assert not np.array_equal(found[0], right[0])  # it is another arithmetic
    for name, a, b in zip(made.contract.output_names, found, right, strict=True):
        # Measured: up to 0.052 for logits, 0.025 for the states.
        assert np.linalg.norm(a - b) <= 0.1 * np.linalg.norm(b), name
    named = found[1].argmax(1), right[1].argmax(1)
    sure = np.ptp(np.sort(right[1])[:, -2:], axis=1) > 0.05
    np.testing.assert_array_equal(named[0][sure], named[1][sure])


def test_calibration_carries_the_state_along(conv_rnn, recordings: list[Array]) -> None:
    classifier, contract, model = conv_rnn
    feeds = list(calibration_feeds(model, contract, recordings))
    assert len(feeds) == sum(map(len, recordings))
    np.testing.assert_array_equal(np.concatenate([feed["frames"] for feed in feeds]), np.concatenate(recordings))
    begins = np.cumsum([0, *map(len, recordings[:-1])])
    keep = np.ones(len(feeds))
    keep[begins] = 0
    np.testing.assert_array_equal([feed["keep_memory"][0] for feed in feeds], keep)
    for feed, right in zip(feeds, states_in_torch(classifier, recordings), strict=True):
        for name, value in right.items():
            np.testing.assert_allclose(feed[f"state.{name}"], value.numpy(), atol=1e-4)
    assert np.abs(feeds[begins[1] - 1]["state.conv2.0.h"]).max() > 0.1


def test_the_scale_of_the_memory_is_that_of_the_states_it_has(conv_rnn, recordings: list[Array]) -> None:
    """Were the state zero at every step of the calibration, this scale would not know how large it gets."""
    classifier, contract, model = conv_rnn
    found = quantized(model, contract, recordings)
    held = weights(found)
    states = states_in_torch(classifier, recordings)
    for i in range(2):
        kept = np.stack([state[f"conv2.{i}.h"].numpy() for state in states])
        right = (max(kept.max(), 0) - min(kept.min(), 0)) / 255
        masked = next(node.output[0] for node in found.graph.node if f"state.conv2.{i}.h" in node.input)
        node = next(n for n in found.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == masked)
        assert held[node.input[1]] == pytest.approx(right, rel=1e-3)
        assert held[node.input[2]].dtype == np.uint8


def test_streams_of_a_fixed_batch_play_the_recordings_side_by_side(checkpoints: dict[str, Path]) -> None:
    classifier, contract, model = step_graph(checkpoints["LeNetClassifier"], batch=2)
    rng = np.random.default_rng(0)
    a, b, c = ((rng.random((n, *contract.frame_shape)) < 0.1).astype(np.float32) for n in (3, 2, 2))
    feeds = list(calibration_feeds(model, contract, [a, b, c]))
    np.testing.assert_array_equal([feed["keep_memory"] for feed in feeds], [[0, 0], [1, 1], [1, 0], [0, 1], [1, 0]])
    np.testing.assert_array_equal([feed["frames"][0] for feed in feeds], [*a, *c])
    np.testing.assert_array_equal([feed["frames"][1] for feed in feeds], [*b, *b, b[0]])
    right = [*states_in_torch(classifier, [a, c])], [*states_in_torch(classifier, [b, b, b[:1]])]
    for k, feed in enumerate(feeds):
        for stream in range(2):
            for name, value in right[stream][k].items():
                np.testing.assert_allclose(feed[f"state.{name}"][stream], value[0].numpy(), atol=1e-4)


def test_a_fixed_batch_is_kept_where_there_are_fewer_recordings(checkpoints: dict[str, Path]) -> None:
    _, contract, model = step_graph(checkpoints["LeNetClassifier"], batch=3)
    frames = (np.random.default_rng(1).random((2, *contract.frame_shape)) < 0.1).astype(np.float32)
    found = quantized(model, contract, [frames])
    finished(found, contract)
    assert [value.type.tensor_type.shape.dim[0].dim_value for value in found.graph.input] == [3] * 4


def test_a_graph_without_keep_memory_starts_from_zero_state(conv_rnn, checkpoints, recordings) -> None:
    """As a server that holds the state gives it."""
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    classifier = loaded.build_model()
    contract = replace(OnnxFormat().contract(contract_of(loaded, classifier), ExportOptions()), keep_memory=False)
    model = step_model(ExportJob(classifier, contract))
    feeds = list(calibration_feeds(model, contract, recordings[:2]))
    assert sorted(feeds[0]) == sorted(contract.input_names)
    assert not feeds[len(recordings[0])]["state.conv2.1.c"].any()
    with_it = list(calibration_feeds(conv_rnn[2], conv_rnn[1], recordings[:2]))
    np.testing.assert_allclose(feeds[-1]["state.conv2.1.c"], with_it[-1]["state.conv2.1.c"], atol=1e-5)


def test_the_same_arguments_give_the_same_bytes_and_the_graph_given_stays(conv_rnn, recordings: list[Array]) -> None:
    _, contract, model = conv_rnn
    before = model.SerializeToString(deterministic=True)
    contents = {finished(quantized(model, contract, recordings[:2]), contract) for _ in range(2)}
    assert len(contents) == 1
    assert model.SerializeToString(deterministic=True) == before
    other = finished(quantized(model, contract, [0.5 * recordings[0]]), contract)
    assert other not in contents


def test_nothing_is_printed_and_logging_stays_as_it_was(conv_rnn, recordings, capfd, tmp_path, monkeypatch) -> None:
    """The quantiser logs to the root logger, which would set it up for the whole program."""
    _, contract, model = conv_rnn
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    before = list(root.handlers), list(root.filters), root.level
    quantized(model, contract, recordings[:1])
    assert (list(root.handlers), list(root.filters), root.level) == before
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_without_frames_it_is_refused(conv_rnn) -> None:
    _, contract, model = conv_rnn
    for none in ([], [np.zeros((0, *contract.frame_shape), np.float32)]):
        with pytest.raises(UsageError, match="give --dataset"):
            quantized(model, contract, none)
