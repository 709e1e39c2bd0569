from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.formats.onnx import OPSET, OnnxFormat
from edgeclf_export.step_graph import StepGraph, contract_of
from edgeclf_runtime.contract import METADATA_KEY, Contract

# What is needed to compute the models, and nothing that only moves data about (Shape, Gather, Cast, Transpose).
ALLOWED = {
    "Add", "AveragePool", "Clip", "Concat", "Conv", "Gemm", "MaxPool", "Mul", "ReduceMean", "Relu", "Reshape",
    "Sigmoid", "Slice", "Softmax", "Split", "Tanh", "Unsqueeze",
}  # fmt: skip


@pytest.fixture(scope="module")
def written(case_name: str, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    loaded = load_checkpoint(checkpoints[case_name])
    classifier = loaded.build_model()
    contract = contract_of(loaded, classifier)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    inside = OnnxFormat().write(StepGraph(classifier, contract), contract, path)
    return path, inside, classifier


def test_checker_accepts_it_with_full_shape_inference(written) -> None:
    path, _, _ = written
    onnx.checker.check_model(onnx.load(path), full_check=True)


def test_graph_has_the_names_and_shapes_of_the_contract(written) -> None:
    path, contract, _ = written
    graph = onnx.load(path).graph
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert [value.name for value in graph.input] == contract.input_names
    assert [value.name for value in graph.output] == contract.output_names
    assert shapes["frames"] == ["batch", *contract.frame_shape]
    assert shapes["logits"] == shapes["probabilities"] == ["batch", len(contract.labels)]
    for tensor in contract.state:
        assert shapes[tensor.input_name] == shapes[tensor.output_name] == ["batch", *tensor.shape]
    assert ("keep_memory" in shapes) == bool(contract.state)


def test_state_inputs_and_outputs_pair_up_when_sorted_by_name(written) -> None:
    _, contract, _ = written
    inputs = sorted(name for name in contract.input_names if name.startswith("state."))
    outputs = sorted(name for name in contract.output_names if name.startswith("next_state."))
    assert [f"next_{name}" for name in inputs] == outputs


def test_batch_norm_is_folded_and_nothing_needless_is_left(written) -> None:
    path, _, _ = written
    model = onnx.load(path)
    assert {node.op_type for node in model.graph.node} <= ALLOWED
    assert [(imported.domain, imported.version) for imported in model.opset_import if imported.domain == ""] == [
        ("", OPSET)
    ]


def test_metadata_is_the_contract(written) -> None:
    path, inside, _ = written
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    contract = Contract.from_metadata(metadata, "model.onnx")
    assert contract == inside
    assert contract.opset == OPSET
    assert contract.precision == "float32"
    assert METADATA_KEY in metadata
    assert len(contract.checkpoint_sha256) == 64


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_one_step_equals_pytorch_at_any_batch_size(written, batch: int) -> None:
    path, contract, classifier = written
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    frames = rng.random((batch, *contract.frame_shape), np.float32)
    feed = {"frames": frames}
    state = {}
    for tensor in contract.state:
        feed[tensor.input_name] = rng.standard_normal((batch, *tensor.shape), np.float32)
        state[tensor.name] = torch.from_numpy(feed[tensor.input_name])
    if contract.state:
        feed["keep_memory"] = np.ones(batch, np.float32)
    found = session.run(contract.output_names, feed)
    with torch.inference_mode():
        logits, after = classifier.step(torch.from_numpy(frames), state)
    expected = [logits, logits.softmax(1), *(after[tensor.name] for tensor in contract.state)]
    for name, value, right in zip(contract.output_names, found, expected, strict=True):
        np.testing.assert_allclose(value, right.numpy(), atol=1e-4, rtol=1e-4, err_msg=name)
