from __future__ import annotations

import gc
import weakref
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from onnx import helper

from edgeclf_runtime.contract import StateTensor
from edgeclf_runtime.errors import ContractError, EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.session import Classifier, DeviceOptions, open_model, optimised_graph


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
            predictions = classifier.step(np.stack([frames[i][used[i]] for i in streams]), streams=streams)
            for row, i in enumerate(streams):
                found[i].append(predictions.logits[row])
                used[i] += 1
    for i in range(3):
        assert_near(found[i], outputs_by_hand(frames[i][: used[i]])[0])


@pytest.mark.parametrize("batch", [None, 3])
def test_keep_makes_streams_start_anew_with_a_frame(write_model, outputs_by_hand, batch):
    frames = [frames_of(8, seed=seed) for seed in range(3)]
    resets = [(0, 4), (0,), (0, 2, 6)]
    with Classifier.load(write_model(batch=batch), "cpu", streams=3) as classifier:
        found = []
        for k in range(8):
            keep = np.array([k not in reset for reset in resets], np.float32)
            found.append(classifier.step(np.stack([f[k] for f in frames]), keep if k else None).logits)
    for i in range(3):
        assert_near(np.array(found)[:, i], outputs_by_hand(frames[i], resets=resets[i])[0])


@pytest.mark.parametrize("batch", [None, 8])
def test_eight_streams_are_as_each_alone(write_model, outputs_by_hand, batch):
    frames = [frames_of(12, seed=seed) for seed in range(8)]
    with Classifier.load(write_model(batch=batch), "cpu", streams=8) as classifier:
        found = []
        for k in range(12):
            if k:
                classifier.reset(k % 8)
            found.append(classifier.step(np.stack([f[k] for f in frames])).logits)
    for i in range(8):
        resets = (0, *(k for k in range(1, 12) if k % 8 == i))
        assert_near(np.array(found)[:, i], outputs_by_hand(frames[i], resets)[0])


@pytest.mark.parametrize("batch", [None, 2])
def test_threads_share_a_classifier(write_model, outputs_by_hand, batch):
    frames = [frames_of(300, seed) for seed in range(2)]
    with Classifier.load(write_model(batch=batch), "cpu", streams=2, threads=1) as classifier:

        def logits_of(stream):
            return [classifier.step(frame[None], streams=[stream]).logits[0] for frame in frames[stream]]

        with ThreadPoolExecutor(2) as threads:
            found = list(threads.map(logits_of, range(2)))
    for stream in range(2):
        assert_near(found[stream], outputs_by_hand(frames[stream])[0])


@pytest.mark.parametrize("batch", [None, 2])
def test_warm_up_leaves_the_streams_alone(write_model, outputs_by_hand, batch):
    frames = frames_of(4)
    with Classifier.load(write_model(batch=batch), "cpu", warm_up=2) as classifier:
        found = []
        for frame in frames:
            found.append(classifier.step(frame[None]).logits[0])
            classifier.warm_up()
    assert_near(found, outputs_by_hand(frames)[0])


# The mean of the last probabilities.


def test_rolling_window(write_model):
    frames = [frames_of(9, seed=seed) for seed in range(2)]
    starts = [(0,), (0, 3, 7)]  # reset at 3, by keep at 7
    path = write_model(state=())
    with (
        Classifier.load(path, "cpu", streams=2, rolling_window=4) as rolling,
        Classifier.load(path, "cpu", streams=2) as plain,
    ):
        single, found = [], []
        for k in range(9):
            if k == 3:
                rolling.reset(1)
            given = np.stack([frames[0][k], frames[1][k]])
            single.append(plain.step(given))
            found.append(rolling.step(given, keep=[1, k != 7]))
    np.testing.assert_array_equal([p.logits for p in found], [p.logits for p in single])
    for i in range(2):
        for k in range(9):
            begin = max(k - 3, *(start for start in starts[i] if start <= k))
            mean = np.mean([p.probabilities[i] for p in single[begin : k + 1]], axis=0)
            assert_near(found[k].probabilities[i], mean)
    assert found[0].probabilities.dtype == np.float32


def test_rolling_window_of_streams_that_are_not_in_step(write_model):
    frames = frames_of(4)
    with Classifier.load(write_model(state=()), "cpu", streams=3, rolling_window=2) as classifier:
        first = classifier.step(frames[:1], streams=[2])
        both = classifier.step(frames[1:3], streams=[2, 0])
    with Classifier.load(write_model(state=()), "cpu", streams=3) as plain:
        alone = plain.step(frames[:3]).probabilities
    assert_near(first.probabilities[0], alone[0])
    assert_near(both.probabilities, [(alone[0] + alone[1]) / 2, alone[2]])


def test_rolling_window_of_nothing(write_model):
    with pytest.raises(UsageError, match="at least one frame"):
        Classifier.load(write_model(), "cpu", rolling_window=0)


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


@pytest.mark.parametrize("streams", [[1], [-1], [0, 2]])
def test_streams_that_are_not_there(write_model, streams):
    with Classifier.load(write_model(), "cpu") as classifier:
        with pytest.raises(UsageError, match=r"There is no stream (1|-1|2); the classifier keeps 1, from 0 on"):
            classifier.step(frames_of(len(streams)), streams=streams)
        with pytest.raises(UsageError, match="There is no stream"):
            classifier.reset(streams[-1])


def test_a_stream_named_twice(write_model):
    with (
        Classifier.load(write_model(), "cpu", streams=2) as classifier,
        pytest.raises(UsageError, match="name one twice"),
    ):
        classifier.step(frames_of(2), streams=[1, 1])


def test_keep_of_another_length(write_model):
    with (
        Classifier.load(write_model(), "cpu", streams=2) as classifier,
        pytest.raises(UsageError, match="A step of 2 streams takes as many values of keep, not 1"),
    ):
        classifier.step(frames_of(2), keep=[1])


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
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as archive:
        archive.writestr("a/data.pkl", b"")
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


def test_only_of_onnx_the_graph_is_shown(tmp_path):
    (tmp_path / "a.ts").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputFileError, match=r"a\.ts: this is not an ONNX file, .* give the \.onnx"):
        optimised_graph(tmp_path / "a.ts", "cpu")


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
    for use in (lambda: classifier.run([]), lambda: classifier.step(frames[:1]), classifier.reset, classifier.warm_up):
        with pytest.raises(UsageError, match="was closed"):
            use()


def test_the_end_of_the_block_releases_the_session(write_model):
    with Classifier.load(write_model(), "cpu", streams=2) as classifier:
        classifier.step(frames_of(2))
        released = weakref.ref(classifier._model.session)
    gc.collect()
    assert released() is None


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
        last = classifier.step(b[3:], streams=[1]).logits
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


# Options.


def test_options_or_device_and_threads(write_model):
    path = write_model()
    with Classifier.load(path, options=DeviceOptions("cpu", threads=1)) as classifier:
        assert classifier.device == "cpu"
        assert classifier.placement.nodes["CPUExecutionProvider"] > 0
    for more in ({"device": "cpu"}, {"threads": 2}):
        with pytest.raises(UsageError, match="among the options, or without"):
            Classifier.load(path, options=DeviceOptions("cpu"), **more)


def test_state_names_are_matched_by_name(write_model, tiny, outputs_by_hand):
    # The contract's order is its own; the graph's may differ.
    path = write_model(graph_of=tiny, state=tuple(reversed(tiny.state)))
    frames = frames_of(4)
    with Classifier.load(path, "cpu") as classifier:
        assert classifier.contract == replace(tiny, state=tuple(reversed(tiny.state)))
        assert_near([classifier.step(frame[None]).logits[0] for frame in frames], outputs_by_hand(frames)[0])
