from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.formats.base import OPSET, ExportJob, ExportOptions
from edgeclf_export.formats.onnx import OnnxFormat
from edgeclf_export.step_graph import contract_of
from edgeclf_runtime.contract import METADATA_KEY, Contract
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.precision import Precision
from edgeclf_runtime.session import Classifier

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
    contract = OnnxFormat().contract(contract, ExportOptions())
    OnnxFormat().write(ExportJob(classifier, contract), path)
    return path, contract, classifier


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
    assert contract.precision == "fp32"
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


def _write(checkpoint: Path, path: Path, options: ExportOptions, precision: Precision = "fp32") -> Contract:
    loaded = load_checkpoint(checkpoint)
    classifier = loaded.build_model()
    contract = OnnxFormat().contract(replace(contract_of(loaded, classifier), precision=precision), options)
    OnnxFormat().write(ExportJob(classifier, contract), path)
    return contract


def test_nothing_says_where_it_was_made(written) -> None:
    """Or the same checkpoint would give other bytes on another machine."""
    content = written[0].read_bytes()
    assert b"site-packages" not in content
    assert str(Path(__file__).parents[3]).encode() not in content


def test_the_batch_axis_is_the_only_one_with_a_name(written) -> None:
    graph = onnx.load(written[0]).graph
    for value in (*graph.input, *graph.output):
        assert [d.dim_param for d in value.type.tensor_type.shape.dim if d.dim_param] == ["batch"]


@pytest.mark.parametrize("model", ["ConvRNNClassifier", "Mobilenetv2Classifier"])
def test_a_batch_can_be_fixed_and_an_opset_chosen(checkpoints: dict[str, Path], tmp_path: Path, model: str) -> None:
    path = tmp_path / "model.onnx"
    contract = _write(checkpoints[model], path, ExportOptions(opset=20, batch=3))
    found = onnx.load(path)
    assert [imported.version for imported in found.opset_import if imported.domain == ""] == [20]
    for value in (*found.graph.input, *found.graph.output):
        dims = value.type.tensor_type.shape.dim
        assert dims[0].dim_value == 3
        assert not any(d.dim_param for d in dims)
    assert {node.op_type for node in found.graph.node} <= ALLOWED
    with Classifier.load(path, "cpu", streams=2) as classifier:
        frames = np.random.default_rng(0).random((2, *contract.frame_shape), np.float32)
        both = classifier.step(frames).logits
        classifier.reset()
        one_by_one = [classifier.step(frames[i : i + 1], streams=[i]).logits[0] for i in range(2)]
    np.testing.assert_allclose(both, np.stack(one_by_one), atol=1e-5)
    with pytest.raises(UsageError, match="exported for 3 streams"):
        Classifier.load(path, "cpu", streams=4)


@pytest.mark.parametrize("float32_edges", [False, True])
@pytest.mark.parametrize("model", ["ConvRNNClassifier", "LeNetClassifier", "SqueezenetClassifier"])
def test_half_precision_is_half_all_through(
    checkpoints: dict[str, Path], tmp_path: Path, model: str, float32_edges: bool
) -> None:
    path = tmp_path / "model.onnx"
    contract = _write(checkpoints[model], path, ExportOptions(float32_edges=float32_edges), "fp16")
    graph = onnx.load(path).graph
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    edges = {"frames", "keep_memory", "logits", "probabilities"}
    for name, kind in types.items():
        assert kind == (single if name in edges and float32_edges else half), name
    assert {tensor.data_type for tensor in graph.initializer} - {onnx.TensorProto.INT64} == {half}
    casts = [node.op_type for node in graph.node].count("Cast")
    assert casts == (3 if float32_edges else 0)  # of the frames, of keep_memory and of the logits
    with Classifier.load(path, "cpu") as classifier:
        prediction = classifier.step(np.zeros((1, *contract.frame_shape), np.float32))
    assert prediction.logits.dtype == prediction.probabilities.dtype == np.float32
