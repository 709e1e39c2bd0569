from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import edgeclf
from edgeclf.checkpoint import load_checkpoint
from edgeclf.hyperparameters import HyperParameters
from edgeclf_export.formats import ExportFormat, ExportJob, ExportOptions
from edgeclf_export.formats.metavision import MetavisionFormat, info_document
from edgeclf_export.formats.onnx import OnnxFormat
from edgeclf_export.step_graph import contract_of
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.golden import Step
from edgeclf_runtime.session import Classifier
from tests.edgeclf_export.conftest import settle_statistics

pytestmark = pytest.mark.slow  # exports every case

FORMAT = MetavisionFormat()
STEPS, STREAMS = 60, 3
Weights = dict[str, Tensor]
Memory = list[Tensor]
Network = Callable[[Weights, Tensor, Memory], tuple[Tensor, Memory]]


def _write(format_: ExportFormat, checkpoint: Path, folder: Path) -> Path:
    loaded = load_checkpoint(checkpoint)
    classifier = loaded.build_model()
    path = folder / format_.path("model", "fp32")
    path.parent.mkdir(parents=True)
    format_.write(ExportJob(classifier, format_.contract(contract_of(loaded, classifier), ExportOptions())), path)
    return path


# ConvRNN and LeNet once more, a frame at a time, from the layers' names and shapes in Metavision's checkpoints and what
# they are documented to do: nothing of edgeclf's classifiers, and in float64.


def _block(w: Weights, name: str, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    """Convolution and batch normalisation, without the activation."""
    x = functional.conv2d(x, w[f"{name}.0.weight"], w.get(f"{name}.0.bias"), stride, padding)
    statistics = (w[f"{name}.1.running_mean"], w[f"{name}.1.running_var"])
    return functional.batch_norm(x, *statistics, w[f"{name}.1.weight"], w[f"{name}.1.bias"])


def _lstm(w: Weights, name: str, x: Tensor, h: Tensor, c: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    hidden = functional.conv2d(h, w[f"{name}.timepool.conv_h2h.weight"], w[f"{name}.timepool.conv_h2h.bias"], padding=1)
    gates = _block(w, f"{name}.conv_x2h.module", x, stride) + hidden
    i, f, o, g = gates.split(h.shape[1], dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _head(w: Weights, x: Tensor, padding: int) -> Tensor:
    x = functional.conv2d(x, w["head.module.0.weight"], w["head.module.0.bias"], padding=padding).relu()
    return functional.conv2d(x, w["head.module.2.weight"], w["head.module.2.bias"], padding=padding).mean((2, 3))


def _conv_rnn(w: Weights, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    for i, stride in enumerate((1, 2, 1, 2, 1)):
        x = _block(w, f"conv1.module.{i}", x, stride).relu()
    h0, c0 = _lstm(w, "conv2.0", x, memory[0], memory[1], stride=2)
    h1, c1 = _lstm(w, "conv2.1", h0, memory[2], memory[3], stride=2)
    return _head(w, h1, padding=1), [h0, c0, h1, c1]


def _lenet(w: Weights, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    x = functional.avg_pool2d(_block(w, "lenet.module.0", x, padding=0).relu(), 2)
    x = functional.avg_pool2d(_block(w, "lenet.module.2", x, padding=0).relu(), 2)
    x = _block(w, "lenet.module.4", x, padding=0).relu()
    squeezed = _block(w, "bottleneck_rnn.0.module", x, padding=0).relu()
    h, c = _lstm(w, "bottleneck_rnn.1", squeezed, memory[0], memory[1], stride=1)
    return _head(w, x + _block(w, "bottleneck_rnn.2.module", h, padding=0).relu(), padding=0), [h, c]


HEIGHT, WIDTH, CLASSES = 52, 69, ("paper", "rock", "scissor")

# Blocks (name, input and output channels, kernel, whether with bias) of ConvRNN with 4 channels in its first block, and
# of LeNet; of both, the channels of the recurrent layers, and those that go into a head of 8.
Layers = dict[str, Any]
CONV_RNN: Layers = {
    "blocks": [
        *((f"conv1.module.{i}", a, b, 3, True) for i, (a, b) in enumerate([(2, 4), (4, 8), (8, 8), (8, 16), (16, 16)])),
        ("conv2.0.conv_x2h.module", 16, 4 * 32, 3, True),
        ("conv2.1.conv_x2h.module", 32, 4 * 64, 3, True),
    ],
    "recurrent": {"conv2.0.timepool.conv_h2h": 32, "conv2.1.timepool.conv_h2h": 64},
    "memory": [(32, 7, 9), (32, 7, 9), (64, 4, 5), (64, 4, 5)],
    "head": 64,
}
LENET: Layers = {
    "blocks": [
        ("lenet.module.0", 2, 6, 5, False),
        ("lenet.module.2", 6, 16, 5, False),
        ("lenet.module.4", 16, 120, 5, False),
        ("bottleneck_rnn.0.module", 120, 32, 1, True),
        ("bottleneck_rnn.1.conv_x2h.module", 32, 4 * 32, 3, True),
        ("bottleneck_rnn.2.module", 32, 120, 1, True),
    ],
    "recurrent": {"bottleneck_rnn.1.timepool.conv_h2h": 32},
    "memory": [(32, 6, 10), (32, 6, 10)],
    "head": 120,
}


def _weights(layers: Layers) -> Weights:
    """Returns random weights under Metavision's names, with statistics as after training."""
    random = torch.Generator().manual_seed(7)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(shape, generator=random) * (high - low) + low

    weights: Weights = {}

    def convolution(name: str, cin: int, cout: int, kernel: int, bias: bool = True, gain: float = 1.0) -> None:
        bound = gain * (3 / (cin * kernel**2)) ** 0.5
        weights[f"{name}.weight"] = uniform(-bound, bound, cout, cin, kernel, kernel)
        if bias:
            weights[f"{name}.bias"] = uniform(-bound, bound, cout)

    for name, cin, cout, kernel, bias in layers["blocks"]:
        convolution(f"{name}.0", cin, cout, kernel, bias)
        weights[f"{name}.1.weight"], weights[f"{name}.1.bias"] = uniform(0.5, 1.5, cout), uniform(-0.3, 0.3, cout)
        weights[f"{name}.1.running_mean"] = uniform(-0.3, 0.3, cout)
        weights[f"{name}.1.running_var"] = uniform(0.1, 0.5, cout)
        weights[f"{name}.1.num_batches_tracked"] = torch.tensor(1000)
    for name, channels in layers["recurrent"].items():
        convolution(name, channels, 4 * channels, 3)
    # A wide head, so that the classes' outputs lie well apart.
    convolution("head.module.0", layers["head"], 8, 3, gain=4.0)
    convolution("head.module.2", 8, len(CLASSES) + 1, 3, gain=4.0)
    return weights


def _metavision_checkpoint(path: Path, model: str, weights: Weights) -> Path:
    """Writes a checkpoint as Metavision does: hyper-parameters in a namespace, some of them NumPy numbers."""
    hyper = argparse.Namespace(
        models=model,
        classes=list(CLASSES),
        height=HEIGHT,
        width=WIDTH,
        delta_t=10_000,
        in_channels=2,
        preprocess="histo",
        max_incr_per_pixel=np.float64(5),
        feature_base=4 if model == "ConvRNNClassifier" else 16,
        feature_channels_out=8,
        label_delta_t=10_000,
        use_label_freq=False,
        num_tbins=12,
        lr=1e-3,
        wd=1e-4,
    )
    torch.save({"hyper_parameters": hyper, "state_dict": {f"net.{n}": v for n, v in weights.items()}}, path)
    return path


def _inputs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields a frame a stream, of counts over 5, and which streams keep their memory; now and then none does."""
    rng = np.random.default_rng(0)
    for k in range(STEPS):
        frames = (rng.random((STREAMS, 2, HEIGHT, WIDTH)) < 0.05) * rng.integers(1, 6, (STREAMS, 2, HEIGHT, WIDTH)) / 5
        keep = (rng.random(STREAMS) > 0.08).astype(np.float32) if k % 25 else np.zeros(STREAMS, np.float32)
        yield frames, keep


def _streamed(runtime: Classifier, frames: np.ndarray, keep: np.ndarray) -> list[np.ndarray]:
    """Returns logits and probabilities, as a program on a device gets them."""
    for stream in np.flatnonzero(keep == 0):
        runtime.reset(int(stream))
    predictions = runtime.step(frames.astype(np.float32))
    return [predictions.logits, predictions.probabilities]


def _script_step(path: Path, contract: Contract) -> Step:
    """Returns the exported module as Metavision's programs use it: reset by mask, then forward; no state goes in."""
    script = torch.jit.load(str(path))
    script.reset_all()

    def step(inputs: list[np.ndarray]) -> list[np.ndarray]:
        script.reset(torch.from_numpy(inputs[1]).reshape(-1, 1, 1, 1))
        logits = script(torch.from_numpy(inputs[0])[None])[0]
        return [value.numpy() for value in (logits, logits.softmax(-1), *script.memory)]

    assert contract.state
    return step


@pytest.mark.parametrize(
    ("model", "layers", "network"),
    [("ConvRNNClassifier", CONV_RNN, _conv_rnn), ("LeNetClassifier", LENET, _lenet)],
    ids=["ConvRNN", "LeNet"],
)
@pytest.mark.parametrize("kind", ["onnx", "onnx in the runtime", "metavision", "metavision's step"])
@pytest.mark.filterwarnings("ignore:.*torch.jit.load. is deprecated:DeprecationWarning")
def test_metavision_checkpoints_give_what_their_layers_say(
    tmp_path: Path, model: str, layers: Layers, network: Network, kind: str
) -> None:
    weights = _weights(layers)
    checkpoint = _metavision_checkpoint(tmp_path / "model.ckpt", model, weights)
    format_: ExportFormat = OnnxFormat() if kind.startswith("onnx") else FORMAT
    path = _write(format_, checkpoint, tmp_path / "out")
    step, contract = format_.load(path)
    if kind == "metavision":
        step = _script_step(path, contract)
    runtime = Classifier.load(path, device="cpu", streams=STREAMS) if kind == "onnx in the runtime" else None
    exact = {name: value.double() for name, value in weights.items()}
    memory = [torch.zeros(STREAMS, *shape, dtype=torch.float64) for shape in layers["memory"]]
    state = [np.zeros((STREAMS, *shape), np.float32) for shape in layers["memory"]]
    seen = []
    for frames, keep in _inputs():
        kept = torch.from_numpy(keep).double().reshape(-1, 1, 1, 1)
        logits, memory = network(exact, torch.from_numpy(frames), [value * kept for value in memory])
        if runtime is not None:
            found = _streamed(runtime, frames, keep)
            wanted = [logits, logits.softmax(-1)]  # its memory is its own affair
        else:
            found = step([frames.astype(np.float32), keep, *state])
            state = list(found[2:])
            wanted = [logits, logits.softmax(-1), *memory]
        for value, expected in zip(found, wanted, strict=True):
            np.testing.assert_allclose(value, expected.numpy(), rtol=0, atol=1e-4)
        seen.append(logits)
    assert torch.stack(seen).std(dim=(0, 1)).min() > 0.01  # the outputs depend on the frames by far more than 1e-4
    assert torch.stack(seen).abs().max() > 1


WINDOW = 3
LABELS = ("background", *CLASSES)


def _feed_forward_checkpoint(path: Path, model: str) -> Path:
    """Writes one as Metavision does: the classes are the whole label map, which is there twice more as dictionaries."""
    forward = dict(enumerate(LABELS)) | {255: "ignore"}
    hyper = argparse.Namespace(
        models=model,
        classes=list(LABELS),
        forward_label_dict=forward,
        backward_label_dict={label: number for number, label in forward.items()},
        height=np.int64(HEIGHT),
        width=WIDTH,
        delta_t=np.int64(10_000),
        in_channels=2,
        num_ev_reps=np.int64(WINDOW),
        width_mul=np.float64(0.25),
        preprocess="histo",
        max_incr_per_pixel=np.float64(5),
        label_delta_t=10_000,
        use_label_freq=np.bool_(False),
        batch_size=4,
        lr=1e-3,
        wd=1e-4,
    )
    torch.manual_seed(11)
    network = HyperParameters.from_mapping(vars(hyper)).build_model()
    settle_statistics(network)
    with torch.no_grad():
        list(network.parameters())[-2].mul_(10)  # so that the classes' outputs lie well apart
    weights = {f"net.{name}": value for name, value in network.state_dict().items()}
    torch.save({"hyper_parameters": hyper, "state_dict": weights, "epoch": 4}, path)
    return path


@pytest.mark.parametrize("model", ["Mobilenetv2Classifier", "SqueezenetClassifier"])
@pytest.mark.filterwarnings("ignore:.*torch.jit.load. is deprecated:DeprecationWarning")
def test_streams_of_metavisions_feed_forward_checkpoints_see_their_last_frames(tmp_path: Path, model: str) -> None:
    """The network, without anything that streams, on windows `[B, WINDOW * C, H, W]` that are put together here."""
    checkpoint = _feed_forward_checkpoint(tmp_path / "model.ckpt", model)
    network = load_checkpoint(checkpoint).build_model().double().model
    onnx, ptjit = _write(OnnxFormat(), checkpoint, tmp_path / "onnx"), _write(FORMAT, checkpoint, tmp_path)
    runtime = Classifier.load(onnx, device="cpu", streams=STREAMS)
    assert runtime.contract.labels == LABELS
    assert json.loads((ptjit.parent / "info_classifier_jit.json").read_text(encoding="utf-8"))["label_map"] == [*LABELS]
    script = torch.jit.load(str(ptjit))
    seen: list[list[np.ndarray]] = [[] for _ in range(STREAMS)]  # of each stream, its frames since it began
    logits_seen = []
    for frames, keep in _inputs():
        for stream, since in enumerate(seen):
            if not keep[stream]:
                since.clear()
            since.append(frames[stream])
        nothing = np.zeros((2, HEIGHT, WIDTH))
        windows = [np.concatenate([*[nothing] * (WINDOW - len(since)), *since[-WINDOW:]]) for since in seen]
        with torch.inference_mode():
            expected = network(torch.from_numpy(np.stack(windows)))
            script.reset(torch.from_numpy(keep).reshape(-1, 1, 1, 1))
            logits = script(torch.from_numpy(frames[None].astype(np.float32)))[0]
            at_once = script(torch.from_numpy(np.stack(windows).astype(np.float32)))
        by_runtime, probabilities = _streamed(runtime, frames, keep)
        for found in (by_runtime, logits.numpy(), at_once.numpy()):
            np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4)
        np.testing.assert_allclose(probabilities, expected.softmax(-1).numpy(), rtol=0, atol=1e-4)
        logits_seen.append(expected)
    assert max(len(since) for since in seen) > WINDOW
    assert torch.stack(logits_seen).std(dim=(0, 1)).min() > 0.01  # by far more than 1e-4


def test_document_has_the_fields_of_metavisions_script(tmp_path: Path) -> None:
    checkpoint = _metavision_checkpoint(tmp_path / "model.ckpt", "LeNetClassifier", _weights(LENET))
    path = _write(FORMAT, checkpoint, tmp_path)
    assert path == tmp_path / "metavision/model/model_classifier.ptjit"
    assert sorted(p.name for p in path.parent.iterdir()) == ["info_classifier_jit.json", "model_classifier.ptjit"]
    expected = """{
    "delta_t": 10000,
    "height": 52,
    "label_delta_t": 10000,
    "label_map": [
        "background",
        "paper",
        "rock",
        "scissor"
    ],
    "models": "LeNetClassifier",
    "num_classes": 4,
    "preprocess": "histo",
    "preprocess_channels": 2,
    "preprocess_kwargs": {
        "max_incr_per_pixel": 5.0
    },
    "use_label_freq": false,
    "width": 69
}"""
    assert (path.parent / "info_classifier_jit.json").read_text(encoding="utf-8") == expected


def test_document_of_a_feed_forward_model_lists_its_classes(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    path = _write(FORMAT, checkpoints["Mobilenetv2Classifier"], tmp_path)
    document = json.loads((path.parent / "info_classifier_jit.json").read_text(encoding="utf-8"))
    assert document["label_map"] == ["background", "left", "right"]
    assert (document["num_classes"], document["models"]) == (3, "Mobilenetv2Classifier")
    assert document["preprocess_channels"] == 2


def test_document_calls_arguments_as_metavision_does(checkpoints: dict[str, Path]) -> None:
    loaded = load_checkpoint(checkpoints["LeNetClassifier"])
    contract = replace(
        contract_of(loaded, loaded.build_model()),
        preprocess="histo_quantized",
        preprocess_kwargs={"neg_bit_len_quantized": 3, "total_bit_len_quantized": 7, "preprocess_dtype": "float32"},
    )
    document = info_document(contract, label_delta_t=20_000, use_label_freq=True)
    assert document["preprocess_kwargs"] == {"negative_bit_length": 3, "total_bit_length": 7}
    assert (document["label_delta_t"], document["use_label_freq"]) == (20_000, True)


def test_document_without_a_labelling_interval_says_that_every_frame_is_labelled(checkpoints: dict[str, Path]) -> None:
    loaded = load_checkpoint(checkpoints["LeNetClassifier"])
    document = info_document(contract_of(loaded, loaded.build_model()))
    assert (document["label_delta_t"], document["use_label_freq"]) == (10_000, False)


def test_step_computes_what_the_classifier_does(case_name: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Two chains one after the other and of other batches: the second must know nothing of the first."""
    loaded = load_checkpoint(checkpoints[case_name])
    classifier = loaded.build_model()
    step, contract = FORMAT.load(_write(FORMAT, checkpoints[case_name], tmp_path))
    assert contract == FORMAT.contract(contract_of(loaded, classifier), ExportOptions())
    rng = np.random.default_rng(1)
    for batch in (2, 2, 3):
        state = [np.zeros((batch, *tensor.shape), np.float32) for tensor in contract.state]
        reference = classifier.initial_state(batch, *contract.frame_shape[1:])
        for _ in range(6):
            frames = rng.random((batch, *contract.frame_shape), np.float32)
            with torch.inference_mode():
                logits, reference = classifier.step(torch.from_numpy(frames), reference)
            keep = [np.ones(batch, np.float32)] if state else []
            found = step([frames, *keep, *state])
            state = list(found[2:])
            for value, expected in zip(found, [logits, logits.softmax(1), *reference.values()], strict=True):
                np.testing.assert_allclose(value, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit.load. is deprecated:DeprecationWarning")
def test_file_has_the_methods_that_programs_call_and_no_memory(
    case_name: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    path = _write(FORMAT, checkpoints[case_name], tmp_path)
    extra = {"edgeclf": ""}
    script = torch.jit.load(str(path), _extra_files=extra)
    assert {"forward", "get_probas", "reset", "reset_all"} <= set(script._c._method_names())
    assert script.memory == []
    assert not script.training
    assert (
        json.loads(extra["edgeclf"])["architecture"] == load_checkpoint(checkpoints[case_name]).hyperparameters.models
    )


def test_file_does_not_say_in_which_folders_it_was_made(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    content = _write(FORMAT, checkpoints["ConvRNNClassifier"], tmp_path).read_bytes()
    for source in (torch.__file__, edgeclf.__file__, __file__):
        assert str(Path(source).parent).encode() not in content
