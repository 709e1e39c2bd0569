from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from edgeclf.checkpoint import load_checkpoint
from edgeclf.models import Classifier
from edgeclf_export.formats import ExportJob, ExportOptions
from edgeclf_export.formats.triton import TritonFormat, config_text, labels_text
from edgeclf_export.step_graph import contract_of
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.precision import Precision

FORMAT = TritonFormat()
ONNX_TYPES = {model_config_pb2.TYPE_FP32: onnx.TensorProto.FLOAT, model_config_pb2.TYPE_FP16: onnx.TensorProto.FLOAT16}
NUMPY_TYPES = {model_config_pb2.TYPE_FP32: np.float32, model_config_pb2.TYPE_FP16: np.float16}


@dataclass
class Exported:
    """A model in a repository, read back by Triton's own definition of its configuration."""

    path: Path
    classifier: Classifier
    contract: Contract

    @property
    def config(self) -> Any:
        text = self.path.parents[1].joinpath("config.pbtxt").read_text(encoding="utf-8")
        return text_format.Parse(text, model_config_pb2.ModelConfig())


def _contract(checkpoint: Path, precision: Precision, options: ExportOptions) -> tuple[Classifier, Contract]:
    loaded = load_checkpoint(checkpoint)
    classifier = loaded.build_model()
    step_graph = replace(contract_of(loaded, classifier), precision=precision)
    return classifier, FORMAT.contract(step_graph, options)


def _export(checkpoint: Path, repository: Path, precision: Precision, options: ExportOptions) -> Exported:
    classifier, contract = _contract(checkpoint, precision, options)
    path = repository / FORMAT.path("my model", precision)
    path.parent.mkdir(parents=True)
    FORMAT.write(ExportJob(classifier, contract), path)
    return Exported(path, classifier, contract)


@pytest.fixture(scope="module")
def exported(case_name: str, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return _export(checkpoints[case_name], tmp_path_factory.mktemp("repository"), "fp32", ExportOptions())


def _assert_config_fits_the_graph(exported: Exported) -> None:
    """Holds every name, type and shape of a configuration against the graph, both ways."""
    graph, config = onnx.load(exported.path).graph, exported.config

    def described(value: Any) -> tuple[int, list[int | str]]:
        tensor = value.type.tensor_type
        return tensor.elem_type, [d.dim_value or d.dim_param for d in tensor.shape.dim]

    states = config.sequence_batching.state
    inputs = [*config.input, *states]
    outputs = [*config.output, *states]
    in_config = [(getattr(t, "input_name", "") or t.name, t) for t in inputs]
    out_config = [(getattr(t, "output_name", "") or t.name, t) for t in outputs]
    for of_config, of_graph in ((in_config, graph.input), (out_config, graph.output)):
        found = {value.name: described(value) for value in of_graph}
        assert sorted(found) == sorted(name for name, _ in of_config)
        for name, tensor in of_config:
            kind, (batch, *shape) = found[name]
            assert isinstance(batch, str)  # a dynamic axis, which Triton counts by max_batch_size
            assert (kind, shape) == (ONNX_TYPES[tensor.data_type], list(tensor.dims))


def test_config_fits_the_graph(exported: Exported) -> None:
    _assert_config_fits_the_graph(exported)
    config = exported.config
    assert config.name == "my model" == exported.path.parents[1].name
    assert config.backend == "onnxruntime"
    assert config.max_batch_size > 1
    assert [tensor.name for tensor in config.input] == ["frames"]
    assert [tensor.name for tensor in config.output] == ["logits", "probabilities"]
    assert "keep_memory" not in exported.contract.input_names


def test_server_keeps_the_state_of_models_that_have_one(exported: Exported) -> None:
    config = exported.config
    if not exported.contract.state:
        assert config.WhichOneof("scheduling_choice") == "dynamic_batching"
        return
    batching = config.sequence_batching
    assert config.WhichOneof("scheduling_choice") == "sequence_batching"
    assert batching.WhichOneof("strategy_choice") == "oldest"
    assert batching.oldest.max_candidate_sequences >= config.max_batch_size
    assert batching.max_sequence_idle_microseconds == 60 * 60 * 1_000_000
    for state in batching.state:
        (initial,) = state.initial_state
        assert initial.zero_data
        assert initial.name
        assert (initial.data_type, list(initial.dims)) == (state.data_type, list(state.dims))


def test_names_of_the_state_sort_alike_on_both_sides(exported: Exported) -> None:
    states = exported.config.sequence_batching.state
    ins, outs = ([getattr(s, side) for s in states] for side in ("input_name", "output_name"))
    assert len(ins) == len(exported.contract.state)
    assert [sorted(ins).index(name) for name in ins] == [sorted(outs).index(name) for name in outs]


class _Server:
    """What Triton does with a repository's model, by its documents: state by sequence, batches of the oldest.

    Everything that it knows, it has from the configuration.
    """

    def __init__(self, path: Path, config: Any) -> None:
        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._config = config
        self._sequences: dict[int, dict[str, np.ndarray]] = {}

    def infer(self, requests: list[tuple[int, bool, np.ndarray]]) -> np.ndarray:
        """Runs one batch of requests (correlation id, `sequence_start`, frame); returns their logits."""
        states = self._config.sequence_batching.state
        for sequence, start, _ in requests:
            if start:
                self._sequences[sequence] = {
                    s.input_name: np.zeros(tuple(s.initial_state[0].dims), NUMPY_TYPES[s.initial_state[0].data_type])
                    for s in states
                }
        feeds = {self._config.input[0].name: np.stack([frame for _, _, frame in requests])}
        for s in states:
            feeds[s.input_name] = np.stack([self._sequences[sequence][s.input_name] for sequence, _, _ in requests])
        names = [tensor.name for tensor in self._config.output] + [s.output_name for s in states]
        found = dict(zip(names, self._session.run(names, feeds), strict=True))
        for row, (sequence, _, _) in enumerate(requests):
            for s in states:
                self._sequences[sequence][s.input_name] = found[s.output_name][row]
        logits: np.ndarray = found["logits"]
        return logits


def test_a_server_that_follows_the_config_computes_what_the_classifier_does(exported: Exported) -> None:
    """Two streams, in batches of one or both, one of them started anew after a while."""
    server = _Server(exported.path, exported.config)
    rng = np.random.default_rng(0)
    frames = rng.random((2, 30, *exported.contract.frame_shape), np.float32)
    found: list[list[np.ndarray]] = [[], []]
    for k in range(30):
        due = [stream for stream in (1, 0) if stream == 0 or k % 3]
        logits = server.infer([(7 + s, not found[s] or (s == 1 and k == 20), frames[s, k]) for s in due])
        for stream, values in zip(due, logits, strict=True):
            found[stream].append(values)
    seen = [k for k in range(30) if k % 3]
    first, again = [k for k in seen if k < 20], [k for k in seen if k >= 20]
    with torch.inference_mode():
        of_0 = exported.classifier(torch.from_numpy(frames[0])[:, None])
        parts = [exported.classifier(torch.from_numpy(frames[1, ks])[:, None]) for ks in (first, again)]
    np.testing.assert_allclose(np.stack(found[0]), of_0[:, 0].numpy(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(np.stack(found[1]), torch.cat(parts)[:, 0].numpy(), rtol=0, atol=1e-4)


def test_loaded_step_is_that_of_the_file(exported: Exported) -> None:
    step, contract = FORMAT.load(exported.path)
    assert contract == exported.contract
    state = [np.zeros((2, *tensor.shape), np.float32) for tensor in contract.state]
    frames = np.random.default_rng(3).random((2, *contract.frame_shape), np.float32)
    logits, probabilities, *after = step([frames, *state])
    with torch.inference_mode():
        expected = exported.classifier(torch.from_numpy(frames)[None])[0]
    np.testing.assert_allclose(logits, expected.numpy(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(probabilities, expected.softmax(1).numpy(), rtol=0, atol=1e-4)
    assert len(after) == len(contract.state)


def test_labels_stand_in_the_order_of_the_outputs(exported: Exported) -> None:
    (probabilities,) = (tensor for tensor in exported.config.output if tensor.label_filename)
    assert probabilities.name == "probabilities"
    text = exported.path.parents[1].joinpath(probabilities.label_filename).read_text(encoding="utf-8")
    assert text == "background\nleft\nright\n"


@pytest.mark.parametrize("float32_edges", [False, True])
def test_config_of_a_graph_in_fp16_fits_it(
    checkpoints: dict[str, Path], tmp_path: Path, *, float32_edges: bool
) -> None:
    options = ExportOptions(float32_edges=float32_edges)
    exported = _export(checkpoints["LeNetClassifier"], tmp_path, "fp16", options)
    _assert_config_fits_the_graph(exported)
    assert exported.config.name == "my model_fp16"
    kinds = {tensor.data_type for tensor in (*exported.config.input, *exported.config.output)}
    assert kinds == {model_config_pb2.TYPE_FP32 if float32_edges else model_config_pb2.TYPE_FP16}
    assert {s.data_type for s in exported.config.sequence_batching.state} == {model_config_pb2.TYPE_FP16}


def test_config_is_text_that_people_can_read(checkpoints: dict[str, Path]) -> None:
    _, contract = _contract(checkpoints["SqueezenetClassifier"], "int8", ExportOptions())
    assert (
        config_text(contract, "squeeze_int8")
        == """name: "squeeze_int8"
backend: "onnxruntime"
max_batch_size: 16
input {
  name: "frames"
  data_type: TYPE_FP32
  dims: [2, 48, 48]
}
output {
  name: "logits"
  data_type: TYPE_FP32
  dims: [3]
}
output {
  name: "probabilities"
  data_type: TYPE_FP32
  dims: [3]
  label_filename: "labels.txt"
}
sequence_batching {
  max_sequence_idle_microseconds: 3600000000
  oldest {
    max_candidate_sequences: 64
  }
  state {
    input_name: "state.history"
    output_name: "next_state.history"
    data_type: TYPE_FP32
    dims: [4, 48, 48]
    initial_state {
      name: "zeros"
      data_type: TYPE_FP32
      dims: [4, 48, 48]
      zero_data: true
    }
  }
}
"""
    )


def test_names_with_special_characters_come_through(checkpoints: dict[str, Path]) -> None:
    _, contract = _contract(checkpoints["LeNetClassifier"], "fp32", ExportOptions())
    name = 'caméra "1" \\ 北'
    assert text_format.Parse(config_text(contract, name), model_config_pb2.ModelConfig()).name == name


def test_every_precision_has_a_model_of_its_own_in_the_repository() -> None:
    paths = [FORMAT.path("hands", precision).as_posix() for precision in FORMAT.precisions]
    assert paths == ["triton/hands/1/model.onnx", "triton/hands_fp16/1/model.onnx", "triton/hands_int8/1/model.onnx"]


@pytest.mark.parametrize("label", ["two\nlines", ""])
def test_labels_that_fit_on_no_line_are_refused(label: str) -> None:
    with pytest.raises(UsageError, match="class on each line"):
        labels_text(("background", label))
