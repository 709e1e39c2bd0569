from __future__ import annotations

import logging
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from edgeclf_runtime.contract import StateTensor
from edgeclf_runtime.errors import (
    ContractError,
    DeviceError,
    EdgeclfError,
    InputFileError,
    MissingPackageError,
    UsageError,
)
from edgeclf_runtime.session import Classifier, open_model, optimised_graph


def frames_of(count, seed=0):
    return np.random.default_rng(seed).random((count, 2, 12, 16)).astype(np.float32)


def assert_near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_contract_and_device(write_model, tiny):
    with Classifier.load(str(write_model("ä b.onnx")), "cpu", streams=3, threads=1) as classifier:
        assert (classifier.contract, classifier.device, classifier.streams) == (tiny, "cpu", 3)


# Memory.


def test_state_is_carried_from_frame_to_frame(write_model, outputs_by_hand):
    frames = frames_of(20)
    with Classifier.load(write_model(), "cpu") as classifier:
        found = [classifier.step(frame[None]) for frame in frames]
    logits, probabilities = outputs_by_hand(frames)
    assert_near([p.logits[0] for p in found], logits)
    assert_near([p.probabilities[0] for p in found], probabilities)
    assert [p.class_ids.tolist() for p in found] == probabilities.argmax(axis=1)[:, None].tolist()
    assert {p.logits.dtype for p in found} == {np.dtype("f4")}


def test_reset_makes_a_stream_start_anew(write_model, outputs_by_hand):
    frames = frames_of(9)
    with Classifier.load(write_model(), "cpu") as classifier:
        found = []
        for k, frame in enumerate(frames):
            if k in (4, 5):
                classifier.reset()
            found.append(classifier.step(frame[None]).logits[0])
    assert_near(found, outputs_by_hand(frames, resets=(0, 4, 5))[0])


def test_reset_of_one_stream_leaves_the_others(write_model, outputs_by_hand):
    a, b = frames_of(6, seed=1), frames_of(6, seed=2)
    with Classifier.load(write_model(), "cpu", streams=2) as classifier:
        found = []
        for k in range(6):
            if k == 3:
                classifier.reset(1)
            found.append(classifier.step(np.stack([a[k], b[k]])).logits)
    assert_near(np.array(found)[:, 0], outputs_by_hand(a)[0])
    assert_near(np.array(found)[:, 1], outputs_by_hand(b, resets=(0, 3))[0])


def test_reset_ends_what_is_not_finite(write_model, outputs_by_hand):
    frames = frames_of(3)
    with Classifier.load(write_model(), "cpu") as classifier:
        assert not np.isfinite(classifier.step(np.full_like(frames[:1], np.nan)).logits).any()
        classifier.reset()
        assert_near([classifier.step(frame[None]).logits[0] for frame in frames], outputs_by_hand(frames)[0])


def test_some_of_the_streams_in_any_order(write_model, outputs_by_hand):
    frames = [frames_of(6, seed=seed) for seed in range(3)]
    used, found = [0, 0, 0], [[], [], []]
    with Classifier.load(write_model(), "cpu", streams=3) as classifier:
        for streams in ([0, 1, 2], [2, 0], [1], [2, 1], [0]):
            predictions = classifier.step(np.stack([frames[i][used[i]] for i in streams]), streams)
            for row, i in enumerate(streams):
                found[i].append(predictions.logits[row])
                used[i] += 1
    for i in range(3):
        assert_near(found[i], outputs_by_hand(frames[i][: used[i]])[0])


def test_model_without_memory(write_model):
    frames = frames_of(3)
    with Classifier.load(write_model(state=()), "cpu") as classifier:
        first = [classifier.step(frame[None]).logits for frame in frames]
        again = [classifier.step(frame[None]).logits for frame in frames[::-1]]
        classifier.reset()
    np.testing.assert_array_equal(first, again[::-1])
    assert np.ptp(first, axis=0).max() > 1e-3


@pytest.mark.parametrize("shape", [(2, 12, 16), (1, 1, 12, 16), (1, 2, 16, 12), (2, 2, 12, 16)])
def test_frames_of_another_shape(write_model, shape):
    with (
        Classifier.load(write_model(), "cpu") as classifier,
        pytest.raises(UsageError, match=r"takes frames of shape \(1, 2, 12, 16\)"),
    ):
        classifier.step(np.zeros(shape, np.float32))


def test_failure_of_onnx_runtime_is_a_sentence(write_model, monkeypatch):
    with Classifier.load(write_model(), "cpu") as classifier:
        monkeypatch.setitem(classifier.__dict__, "_state", [np.zeros((1, 5), np.float32)] * 2)
        with pytest.raises(EdgeclfError, match=r"ONNX Runtime failed on a frame \(.+\); try") as raised:
            classifier.step(frames_of(1))
    assert raised.value.exit_code == 1


def test_no_stream(write_model):
    with pytest.raises(UsageError, match="at least one stream"):
        Classifier.load(write_model(), "cpu", streams=0)


# Files that cannot be used.


def test_no_such_file(tmp_path):
    with pytest.raises(InputFileError, match=r"a\.onnx: there is no such model file"):
        Classifier.load(tmp_path / "a.onnx", "cpu")


def test_folder(tmp_path):
    with pytest.raises(InputFileError, match="this is a folder"):
        Classifier.load(tmp_path, "cpu")


def test_a_checkpoint_is_told_apart(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(InputFileError, match=r"a\.ckpt: this is a file of PyTorch's.* `edgeclf export`"):
        Classifier.load(tmp_path / "a.ckpt", "cpu")


@pytest.mark.parametrize("content", [b"", b"this is text\n", b"\x08\x08\x3a"])
def test_not_onnx(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(InputFileError, match=r"a\.onnx: it is damaged or not an ONNX model \(.+\); export"):
        Classifier.load(tmp_path / "a.onnx", "cpu")


def test_cut_short(write_model):
    path = write_model()
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(EdgeclfError, match=r"tiny\.onnx: "):
        Classifier.load(path, "cpu")


@pytest.mark.parametrize("what", [b'"Tiny"', b"batch", b"Softmax"])
def test_text_in_it_that_is_damaged(write_model, capfd, what):
    path = write_model()
    path.write_bytes(path.read_bytes().replace(what, what[:2] + b"\xff" + what[3:]))
    with pytest.raises(EdgeclfError, match=r"tiny\.onnx: .*damaged") as raised:
        Classifier.load(path, "cpu")
    assert raised.value.exit_code == 2
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.ts", "TorchScript"), ("a.ptjit", "TorchScript"), ("a.pt2", r"torch\.export"), ("a.xml", "OpenVINO")],
)
def test_files_that_other_programs_run(tmp_path, name, kind):
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    for load in (Classifier.load, open_model, optimised_graph):
        with pytest.raises(InputFileError, match=rf"this is a {kind} file, .*give the \.onnx"):
            load(tmp_path / name, "cpu")


def test_what_onnx_runtime_refuses(tmp_path, tiny):
    node = helper.make_node("NoSuchOperator", ["a"], ["b"])
    values = [helper.make_tensor_value_info(name, 1, [1]) for name in "ab"]
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]))
    helper.set_model_props(model, {"edgeclf": tiny.to_json()})
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputFileError, match=r"ONNX Runtime cannot load it, .* not an ONNX model \(.+\); export"):
        Classifier.load(tmp_path / "a.onnx", "cpu")


def test_somebody_elses_model(write_model):
    with pytest.raises(ContractError, match=r"tiny\.onnx: this model was not exported by edgeclf"):
        Classifier.load(write_model(metadata={}), "cpu")


@pytest.mark.parametrize(
    "changes",
    [
        {"state": ()},
        {"state": (StateTensor("acc", (2,)),)},
        {"state": (StateTensor("acc", (2,)), StateTensor("last", (2, 12, 16)))},
        {"state": (StateTensor("acc", (3,)), StateTensor("conv.last", (2, 12, 16)))},
        {"frame_shape": (2, 12, 17)},
        {"labels": ("background", "paper", "rock")},
    ],
)
def test_contract_of_another_graph(write_model, tiny, changes):
    path = write_model(graph_of=tiny, **changes)
    with pytest.raises(ContractError, match="not those of its contract; export the checkpoint again"):
        Classifier.load(path, "cpu")


@pytest.mark.parametrize(("in_graph", "stated"), [(1, None), ("batch", 2), (3, 2)])
def test_batch_other_than_stated(write_model, in_graph, stated):
    with pytest.raises(ContractError, match="not those of its contract"):
        Classifier.load(write_model(graph_batch=in_graph, batch=stated), "cpu")


# Files for other programs.


def test_model_that_takes_events(write_events_model, tiny):
    weights = np.arange(16, dtype=np.float32).reshape(4, 4) / 100
    path = write_events_model("events.onnx", replace(tiny, takes="events", state=()), weights)
    with pytest.raises(
        ContractError, match=r"events\.onnx: this file is for programs without edgeclf: it takes events"
    ):
        Classifier.load(path, "cpu")
    events = np.random.default_rng(0).integers(0, 30, (50, 4))
    opened = open_model(path, "cpu", threads=1)
    assert (opened.device, opened.contract.takes) == ("cpu", "events")
    assert_near(opened.run([events])[0], events.mean(axis=0, keepdims=True) @ weights)


def test_model_whose_memory_a_server_keeps(write_model, outputs_by_hand):
    path = write_model(keep_memory=False)
    with pytest.raises(ContractError, match="it takes a server that keeps its state"):
        Classifier.load(path, "cpu")
    opened, frames = open_model(path, "cpu"), frames_of(5)
    state = [np.zeros((1, 2), np.float32), np.zeros((1, 2, 12, 16), np.float32)]
    found = []
    for frame in frames:
        logits, _, *state = opened.run([frame[None], *state])
        found.append(logits[0])
    assert_near(found, outputs_by_hand(frames)[0])


def test_running_without_the_streams_memory(write_model, outputs_by_hand):
    frames = frames_of(2)
    with Classifier.load(write_model(), "cpu") as classifier:
        classifier.step(frames[:1])
        zero = [np.zeros((1, 2), np.float32), np.zeros((1, 2, 12, 16), np.float32)]
        alone = classifier.run([frames[1:], np.ones(1, np.float32), *zero])
        second = classifier.step(frames[1:])
    assert_near(alone[0], outputs_by_hand(frames[1:])[0])
    assert_near(second.logits, outputs_by_hand(frames)[0][1:])
    with pytest.raises(UsageError, match="was closed"):
        classifier.run([])


def test_model_that_lacks_what_its_contract_names(write_model, tiny):
    opened = open_model(write_model(graph_of=replace(tiny, state=())), "cpu")
    zero = [np.zeros((1, *shape), np.float32) for shape in ((2, 12, 16), (), (2,), (2, 12, 16))]
    with pytest.raises(EdgeclfError, match=r"ONNX Runtime failed on a frame"):
        opened.run(zero)


# Other types, and a fixed number of streams.


@pytest.mark.parametrize("edge_type", ["float32", "float16"])
def test_half_precision(write_model, outputs_by_hand, edge_type):
    frames = frames_of(8)
    path = write_model(precision="fp16", edge_type=edge_type, state_type="float16")
    with Classifier.load(path, "cpu") as classifier:
        found = [classifier.step(frame[None]) for frame in frames]
    logits, probabilities = outputs_by_hand(frames)
    np.testing.assert_allclose([p.logits[0] for p in found], logits, rtol=5e-3, atol=5e-3)
    np.testing.assert_allclose([p.probabilities[0] for p in found], probabilities, atol=5e-3)
    assert np.abs(np.array([p.logits[0] for p in found]) - logits).max() > 1e-5  # it is half precision
    assert {p.logits.dtype for p in found} | {p.probabilities.dtype for p in found} == {np.dtype("f4")}


def test_fewer_streams_than_the_model_was_exported_for(write_model, outputs_by_hand):
    a, b = frames_of(4, seed=1), frames_of(4, seed=2)
    with Classifier.load(write_model(batch=3), "cpu", streams=2) as classifier:
        found = [classifier.step(np.stack([a[k], b[k]])).logits for k in range(3)]
        last = classifier.step(b[3:], [1]).logits
    assert np.array(found).shape == (3, 2, 4)
    assert_near(np.array(found)[:, 0], outputs_by_hand(a[:3])[0])
    assert_near([*np.array(found)[:, 1], last[0]], outputs_by_hand(b)[0])


def test_more_streams_than_the_model_was_exported_for(write_model):
    with pytest.raises(UsageError, match=r"was exported for 2 streams .* and 3 were asked for"):
        Classifier.load(write_model(batch=2), "cpu", streams=3)


def test_what_onnx_runtime_makes_of_a_graph(write_model):
    before, after = optimised_graph(write_model(), "cpu")
    assert before.operators["Cast"] == 3
    assert after.operators["Cast"] < 3  # from float32 to float32
    assert after.operators["Softmax"] == 1


# Devices.


@pytest.fixture
def providers(monkeypatch):
    """Pretends that an ONNX Runtime has these providers, of which the second really start; gives what is asked for."""
    real, asked = onnxruntime.InferenceSession, []

    def pretend(available, starting):
        class Session:
            def __init__(self, path, options, providers, **more):
                asked.append((providers, options.intra_op_num_threads))
                if starting is None and CUDA in providers:
                    raise RuntimeError("CUDA failure 35: CUDA driver version is insufficient")
                self._real = real(path, options, providers=["CPUExecutionProvider"], **more)

            def get_providers(self):
                return starting or [CPU]

            def __getattr__(self, name):
                return getattr(self._real, name)

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        return asked

    return pretend


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO, "edgeclf_runtime")
    return caplog


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_cuda_that_starts(write_model, providers, logged, device):
    asked = providers([CUDA, CPU], [CUDA, CPU])
    assert Classifier.load(write_model(), device, threads=2).device == "cuda"
    assert asked == [([CUDA, CPU], 2)]
    assert logged.messages == ["Running on CUDA."]


def test_cpu_asks_for_nothing_else(write_model, providers, logged):
    asked = providers([CUDA, CPU], [CUDA, CPU])
    assert Classifier.load(write_model(), "cpu").device == "cpu"
    assert asked == [([CPU], 0)]
    assert logged.messages == []


def test_auto_on_the_cpu_build(write_model, providers, logged):
    providers([CPU], [CPU])
    assert Classifier.load(write_model()).device == "cpu"
    assert logged.messages == ["Running on the CPU: the installed ONNX Runtime is its CPU build."]


@pytest.mark.parametrize("starting", [[CPU], None])
def test_auto_where_cuda_does_not_start(write_model, providers, logged, starting):
    # ONNX Runtime lists the provider, and the session runs on the CPU in silence, or there is none.
    providers([CUDA, CPU], starting)
    classifier = Classifier.load(write_model(), "auto")
    assert classifier.device == "cpu"
    assert logged.messages == ["Running on the CPU: the CUDA provider of the installed ONNX Runtime does not start."]


@pytest.mark.parametrize(
    ("available", "message"),
    [
        ([CPU], r"is its CPU build; pip uninstall onnxruntime, then pip install 'edgeclf\[gpu\]', or run with"),
        ([CUDA, CPU], r"does not start; install a driver, CUDA and cuDNN .*, or run with --device cpu\.$"),
    ],
)
def test_cuda_that_is_asked_for_and_not_there(write_model, providers, available, message):
    providers(available, [CPU])
    with pytest.raises(DeviceError, match=message):
        Classifier.load(write_model(), "cuda")


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_damaged_file_is_not_put_down_to_cuda(tmp_path, providers, device):
    providers([CUDA, CPU], [CUDA, CPU])
    (tmp_path / "a.onnx").write_bytes(b"text")
    with pytest.raises(InputFileError, match="not an ONNX model"):
        Classifier.load(tmp_path / "a.onnx", device)


def test_without_onnx_runtime(write_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'edgeclf\[cpu\]'"):
        Classifier.load(write_model(), "cpu")


def test_state_names_are_matched_by_name(write_model, tiny, outputs_by_hand):
    # The contract's order is its own; the graph's may differ.
    path = write_model(graph_of=tiny, state=tuple(reversed(tiny.state)))
    frames = frames_of(4)
    with Classifier.load(path, "cpu") as classifier:
        assert classifier.contract == replace(tiny, state=tuple(reversed(tiny.state)))
        assert_near([classifier.step(frame[None]).logits[0] for frame in frames], outputs_by_hand(frames)[0])
