from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
import torch

from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file

FIELDS = [
    "stream", "source", "frame", "t_us", "class_id", "label", "score", "accepted", "probabilities", "reset",
    "latency_us",
]  # fmt: skip


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def without_latency(lines):
    return [{key: value for key, value in line.items() if key != "latency_us"} for line in lines]


@pytest.fixture
def recording(write_dat, random_events):
    """A recording of 6 frames from 120,000 µs on, one of them empty, in a file whose name has a space."""
    events = random_events(600, 30_000, 1, start=120_000) + random_events(400, 20_000, 2, start=160_000)
    return write_dat("a ä.dat", events)


@pytest.fixture
def tensors(tmp_path):
    made = TensorAttributes("histo", 10_000, (32, 24), 40_000, {"max_incr_per_pixel": 2})
    frames = np.random.default_rng(3).random((4, 2, 24, 32)).astype(np.float32)
    write_tensor_file(tmp_path / "frames.h5", frames, made)
    return tmp_path / "frames.h5"


# What comes out.


def test_lines_on_standard_output(edgeclf, write_model, recording, random_events, by_loop, outputs_by_hand):
    ended = edgeclf("run-stream", write_model(), recording, "--threshold", "0.4")

    events = random_events(600, 30_000, 1, start=120_000) + random_events(400, 20_000, 2, start=160_000)
    frames = torch.from_numpy(by_loop(events, 120_000, 180_000))
    _, probabilities = outputs_by_hand(torch.nn.functional.interpolate(frames, (12, 16), mode="area").numpy())
    labels = ("background", "paper", "rock", "scissors")
    best = probabilities.argmax(axis=1).tolist()
    assert ended.code == 0
    assert ended.out.count("\n") == 6
    found = lines_of(ended.out)
    assert [list(line) for line in found] == [FIELDS] * 6
    assert without_latency(found) == [
        {
            "stream": 0,
            "source": str(recording),
            "frame": k,
            "t_us": 130_000 + 10_000 * k,
            "class_id": best[k],
            "label": labels[best[k]],
            "score": pytest.approx(float(probabilities[k].max()), abs=1e-5),
            "accepted": best[k] != 0 and bool(probabilities[k].max() >= 0.4),
            "probabilities": pytest.approx(probabilities[k].tolist(), abs=1e-5),
            "reset": k == 0,
        }
        for k in range(6)
    ]
    assert all(type(line["latency_us"]) is int and 0 < line["latency_us"] < 10**6 for line in found)
    # Names as they are, not as \\u escapes: people read this.
    assert "a ä.dat" in ended.out


def test_summary_on_standard_error(edgeclf, write_model, recording):
    ended = edgeclf("run-stream", write_model(), recording)
    lines = ended.err.splitlines()
    assert lines[0].startswith("Running on the CPU: ") or lines[0] == "Running on CUDA."
    assert lines[1].split() == ["source", "frames", "predictions"]
    assert lines[2].startswith(f"{recording}       6  ")
    assert lines[3].startswith("latency a frame: p50 ")
    assert len(lines) == 4


def test_quiet(edgeclf, write_model, recording):
    ended = edgeclf("run-stream", write_model(), recording, "-q")
    assert (ended.code, ended.err, len(lines_of(ended.out))) == (0, "", 6)


@pytest.mark.parametrize("output", ["new folder/ä.jsonl", "plain.jsonl"])
def test_output_file(edgeclf, write_model, recording, tmp_path, output):
    expected = without_latency(lines_of(edgeclf("run-stream", write_model(), recording).out))
    ended = edgeclf("run-stream", write_model(), recording, "--output", tmp_path / output)
    assert (ended.code, ended.out) == (0, "")
    text = (tmp_path / output).read_text(encoding="utf-8")
    assert without_latency(lines_of(text)) == expected
    assert text.endswith("}\n")


def test_output_to_standard_output_by_name(edgeclf, write_model, recording, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert len(lines_of(edgeclf("run-stream", write_model(), recording, "--output", "-").out)) == 6
    assert not Path("-").exists()


def test_json_summary(edgeclf, write_model, recording, tensors, tmp_path):
    path = tmp_path / "summary.json"
    ended = edgeclf("run-stream", write_model(), recording, tensors, "--device", "cpu", "--json", path)
    found = lines_of(ended.out)
    assert len(found) == 10
    summary = json.loads(path.read_text(encoding="utf-8"))
    assert list(summary) == ["device", "frames", "latency", "streams"]
    assert (summary["device"], summary["frames"]) == ("cpu", 10)
    for i, source in enumerate((recording, tensors)):
        labels = [line["label"] for line in found if line["stream"] == i]
        assert summary["streams"][i] == {
            "source": str(source),
            "frames": len(labels),
            "predictions": {label: labels.count(label) for label in labels},
        }
    latencies = [line["latency_us"] for line in found]
    assert summary["latency"]["frames"] == 10
    assert summary["latency"]["p50_us"] == pytest.approx(np.median(latencies), abs=1)
    assert summary["latency"]["max_us"] == pytest.approx(max(latencies), abs=1)


def test_json_on_standard_output_asks_for_another_place_for_the_predictions(edgeclf, write_model, recording, tmp_path):
    ended = edgeclf("run-stream", write_model(), recording, "--json", "-")
    assert (ended.code, ended.out) == (2, "")
    assert "give --output FILE.jsonl" in ended.error
    ended = edgeclf("run-stream", write_model(), recording, "--json", "-", "--output", tmp_path / "a.jsonl")
    assert json.loads(ended.out)["frames"] == 6
    assert len(lines_of((tmp_path / "a.jsonl").read_text())) == 6


def test_streams_in_time_order_and_as_each_alone(edgeclf, write_model, recording, tensors):
    model = write_model()
    together = lines_of(edgeclf("run-stream", model, tensors, recording).out)
    assert [(line["frame"], line["stream"]) for line in together] == [
        (k, i) for k in range(6) for i, count in enumerate([4, 6]) if k < count
    ]
    for i, source in enumerate((tensors, recording)):
        alone = without_latency(lines_of(edgeclf("run-stream", model, source).out))
        assert without_latency(line for line in together if line["stream"] == i) == [
            line | {"stream": i} for line in alone
        ]


def test_start_and_duration(edgeclf, write_model, recording):
    ended = edgeclf("run-stream", write_model(), recording, "--start-ts", "135000", "--max-duration-ms", "25")
    assert [line["t_us"] for line in lines_of(ended.out)] == [145_000, 155_000, 165_000]


def start(*arguments):
    """Starts `edgeclf` in a process of its own, with pipes as its standard output and error."""
    script = f"import sys; sys.argv = {['edgeclf', *map(str, arguments)]!r}; from edgeclf.cli import main; main()"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_follower_sees_each_line_at_once(write_model, write_dat):
    # A frame a second: a reader that had to wait for a buffer of 8 KiB to fill would see nothing for half a minute.
    path = write_dat("slow.dat", [(k * 1_000_000, 0, 0, 0) for k in range(60)])
    begin = time.monotonic()
    with start("run-stream", write_model(delta_t=1_000_000), path, "--realtime", "-q") as process:
        assert json.loads(process.stdout.readline())["frame"] == 0
        assert time.monotonic() - begin < 15
        process.kill()


def test_reader_that_leaves_early_is_no_error_to_speak_of(write_model, write_dat):
    path = write_dat("long.dat", [(k * 100, 0, 0, 0) for k in range(300_000)])
    with start("run-stream", write_model(), path, "-q") as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.parametrize("name", ["evt2", "evt3"])
def test_real_recordings(edgeclf, shared_data, write_model, name):
    model = write_model(delta_t=1_000, sensor_size=(640, 480))
    ended = edgeclf(
        "run-stream", model, shared_data / "recordings" / f"{name}_sample.raw",
        *(["--sensor-size", 640, 480] if name == "evt2" else []),
    )  # fmt: skip
    assert ended.code == 0
    t = np.load(shared_data / "recordings" / f"{name}_sample.npz")["t"]
    assert [line["t_us"] for line in lines_of(ended.out)] == list(
        range(int(t[0]) // 1000 * 1000 + 1000, int(t[-1]) // 1000 * 1000 + 1001, 1000)
    )
    assert ("is squeezed into frames" in ended.err) == (name == "evt3")


# What is wrong with a source.


def test_truncated_recording(edgeclf, write_model, write_dat, random_events, tmp_path):
    events = random_events(300, 50_000, 1)
    path = write_dat("cut.dat", events, cut=5)
    whole = write_dat("whole.dat", events[:-1])
    ended = edgeclf("run-stream", write_model(), path, "--output", tmp_path / "a.jsonl", "--json", tmp_path / "a.json")
    assert ended.code == 1
    assert "cut.dat was cut off" in ended.error
    found = lines_of((tmp_path / "a.jsonl").read_text())
    expected = lines_of(edgeclf("run-stream", write_model(), whole).out)
    assert without_latency(found) == [line | {"source": str(path)} for line in without_latency(expected)]
    assert json.loads((tmp_path / "a.json").read_text())["frames"] == len(found) == 5


def test_truncated_evt3(edgeclf, shared_data, write_model, tmp_path):
    data = (shared_data / "recordings" / "evt3_sample.raw").read_bytes()
    (tmp_path / "cut.raw").write_bytes(data[: len(data) // 2 * 2 - 1])
    ended = edgeclf("run-stream", write_model(delta_t=1000), tmp_path / "cut.raw")
    assert ended.code == 1
    assert "cut off" in ended.error
    assert len(lines_of(ended.out)) == 10


def test_problems_of_all_sources_are_one_error(edgeclf, write_model, write_dat, random_events):
    paths = [write_dat(name, random_events(300, 50_000, 1), cut=5) for name in ("a.dat", "b.dat")]
    ended = edgeclf("run-stream", write_model(), *paths)
    assert ended.code == 1
    assert "a.dat was cut off" in ended.error
    assert "b.dat was cut off" in ended.error
    assert len(lines_of(ended.out)) == 10


def damage(path, frame):
    with h5py.File(path) as file:
        chunk = file["data"].id.get_chunk_info_by_coord((frame, 0, 0, 0))
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(data)


def test_error_in_the_middle_keeps_what_was_before(edgeclf, write_model, tensors, recording, tmp_path):
    damage(tensors, 2)
    ended = edgeclf("run-stream", write_model(), recording, tensors, "--json", tmp_path / "a.json")
    assert ended.code == 1
    assert "frames.h5: frame 2 cannot be read" in ended.error
    assert [(line["frame"], line["stream"]) for line in lines_of(ended.out)] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert json.loads((tmp_path / "a.json").read_text())["frames"] == 4


def test_nan_in_a_tensor_file(edgeclf, write_model, tmp_path):
    made = TensorAttributes("histo", 10_000, (32, 24), 0, {"max_incr_per_pixel": 2})
    frames = np.zeros((3, 2, 24, 32), np.float32)
    frames[1, 1, 1, 1] = np.nan
    write_tensor_file(tmp_path / "nan.h5", frames, made)
    ended = edgeclf("run-stream", write_model(), tmp_path / "nan.h5")
    assert ended.code == 1
    assert "frame 1 holds values that are not finite" in ended.error
    assert len(lines_of(ended.out)) == 1
    assert "NaN" not in ended.out


@pytest.mark.parametrize("options", [["--start-ts", "10000000"], []])
def test_no_frame_at_all(edgeclf, write_model, write_dat, recording, options):
    empty = write_dat("empty.dat", [(20, 0, 0, 0)] if options else [])
    ended = edgeclf("run-stream", write_model(), empty, *options)
    assert (ended.code, ended.out) == (1, "")
    assert ended.error.endswith(
        "empty.dat: there was no frame to predict, as no event lies in the part that was asked for."
    )
    # The other stream is not held up by it.
    if not options:
        ended = edgeclf("run-stream", write_model(), empty, recording)
        assert (ended.code, [line["stream"] for line in lines_of(ended.out)]) == (1, [1] * 6)


HEADER = b"% evt 3.0\n% geometry 32x24\n% end\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.raw", None, "there is no such file"),
        ("a.h5", None, "there is no such file"),
        ("a.raw", b"", "is empty"),
        ("a.raw", b"These are notes\nabout an experiment.\n", "is not a Prophesee recording"),
        ("a.raw", HEADER[:15], "ends within its header"),
        ("a.raw", HEADER.replace(b"evt 3.0", b"evt 4.0"), "is encoded as EVT 4.0, which is not read"),
        ("a.raw", HEADER.replace(b"% geometry 32x24\n", b""), "--sensor-size WIDTH HEIGHT"),
        ("a.h5", b"", "not an HDF5 file"),
        ("a.h5", HEADER, "not an HDF5 file"),
    ],
)
def test_file_that_is_no_source(edgeclf, write_model, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    ended = edgeclf("run-stream", write_model(), tmp_path / name, "--output", tmp_path / "out.jsonl")
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.error
    assert name in ended.error
    assert not (tmp_path / "out.jsonl").exists()


def test_folder_as_source(edgeclf, write_model, tmp_path):
    ended = edgeclf("run-stream", write_model(), tmp_path)
    assert ended.code == 2
    assert f"{tmp_path}: this is a folder" in ended.error


def test_hdf5_of_another_layout(edgeclf, write_model, tmp_path):
    with h5py.File(tmp_path / "events.h5", "w") as file:
        file["CD/events"] = np.zeros(9, [("x", "u2"), ("t", "i8")])
    ended = edgeclf("run-stream", write_model(), tmp_path / "events.h5")
    assert ended.code == 2
    assert "is not a tensor file" in ended.error


def test_hdf5_cut_short(edgeclf, write_model, tensors):
    tensors.write_bytes(tensors.read_bytes()[:-1000])
    ended = edgeclf("run-stream", write_model(), tensors)
    assert ended.code == 2
    assert "damaged or cut short" in ended.error


def test_hdf5_of_other_channels(edgeclf, write_model, tensors, tiny):
    model = write_model(graph_of=replace(tiny, frame_shape=(3, 12, 16), state=()), frame_shape=(3, 12, 16), state=())
    ended = edgeclf("run-stream", model, tensors)
    assert ended.code == 2
    assert "have channels: 2, the model's 3" in ended.error


def test_sizes_that_cannot_be_reconciled(edgeclf, write_model, recording):
    model = write_model(frame_shape=(2, 48, 64), state=())
    ended = edgeclf("run-stream", model, recording)
    assert ended.code == 2
    assert "a ä.dat does not fit the model. Frames of 24×32 (height × width) would have to be enlarged" in ended.error


def test_sensor_size_against_the_header(edgeclf, write_model, recording):
    ended = edgeclf("run-stream", write_model(), recording, "--sensor-size", "64", "48")
    assert ended.code == 2
    assert "contradicts the header" in ended.error


# What is wrong with the model.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such model file"),
        (b"", "not an ONNX model"),
        (b"text\n", "not an ONNX model"),
    ],
)
def test_file_that_is_no_model(edgeclf, tmp_path, recording, content, message):
    if content is not None:
        (tmp_path / "a.onnx").write_bytes(content)
    ended = edgeclf("run-stream", tmp_path / "a.onnx", recording)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.error


def test_folder_as_model(edgeclf, tmp_path, recording):
    ended = edgeclf("run-stream", tmp_path, recording)
    assert ended.code == 2
    assert "this is a folder" in ended.error


def test_model_of_somebody_elses(edgeclf, write_model, recording):
    ended = edgeclf("run-stream", write_model(metadata={}), recording)
    assert ended.code == 2
    assert "was not exported by edgeclf" in ended.error


def test_contract_of_another_version(edgeclf, write_model, tiny, recording):
    document = json.loads(tiny.to_json()) | {"contract_version": 99}
    ended = edgeclf("run-stream", write_model(metadata={"edgeclf": json.dumps(document)}), recording)
    assert ended.code == 2
    assert "its contract is of version 99" in ended.error


def test_model_and_recording_swapped(edgeclf, write_model, recording):
    ended = edgeclf("run-stream", recording, write_model())
    assert ended.code == 2
    assert "not an ONNX model" in ended.error


def test_cuda_that_is_not_there(edgeclf, write_model, recording, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    ended = edgeclf("run-stream", write_model(), recording, "--device", "cuda")
    assert (ended.code, ended.out) == (1, "")
    assert "--device cpu" in ended.error


# What is wrong with where it is to be written.


@pytest.mark.parametrize("option", ["--output", "--json"])
def test_place_that_cannot_be_written_to(edgeclf, write_model, recording, tmp_path, option):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "a.json"):
        ended = edgeclf("run-stream", write_model(), recording, option, path)
        assert ended.code == 2
        assert str(path) in ended.error


@pytest.mark.parametrize("option", ["--output", "--json"])
@pytest.mark.parametrize("which", ["model", "recording"])
def test_input_is_not_overwritten(edgeclf, write_model, recording, option, which):
    model = write_model()
    path = {"model": model, "recording": recording}[which]
    before = path.read_bytes()
    ended = edgeclf("run-stream", model, recording, option, os.path.relpath(path))
    assert ended.code == 2
    assert "would overwrite what is read" in ended.error
    assert path.read_bytes() == before


@pytest.mark.parametrize("target", ["-", "same"])
def test_output_and_json_to_one_place(edgeclf, write_model, recording, tmp_path, target):
    target = target if target == "-" else tmp_path / target
    ended = edgeclf("run-stream", write_model(), recording, "--output", target, "--json", target)
    assert (ended.code, ended.out) == (2, "")
    assert "cannot both be written there" in ended.error


def test_disk_that_is_full(edgeclf, write_model, recording):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    ended = edgeclf("run-stream", write_model(), recording, "--output", "/dev/full")
    assert ended.code == 1
    assert "No space left on device" in ended.error


# Options.


@pytest.mark.parametrize(
    "options",
    [
        ["--threshold", "1.5"],
        ["--threshold", "x"],
        ["--device", "tpu"],
        ["--threads", "0"],
        ["--max-duration-ms", "0"],
        ["--sensor-size", "0", "5"],
        ["--no-such-option"],
    ],
)
def test_wrong_option(edgeclf, write_model, recording, options):
    ended = edgeclf("run-stream", write_model(), recording, *options)
    assert (ended.code, ended.out) == (2, "")
    assert options[0] in ended.error


def test_no_source_given(edgeclf, write_model):
    ended = edgeclf("run-stream", write_model())
    assert (ended.code, ended.out) == (2, "")
    assert "There is no SOURCE" in ended.error
    assert "--self-test" in ended.error


# The self-test.


def test_self_test_alone(edgeclf, write_model, tmp_path):
    ended = edgeclf(
        "run-stream", write_model(vectors=True), "--self-test", "--device", "cpu", "--json", tmp_path / "a.json"
    )
    assert (ended.code, ended.out) == (0, "")
    lines = ended.err.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [
        "output", "logits", "probabilities", "next_state.acc", "next_state.conv.last", "tolerance",
    ]  # fmt: skip
    assert lines[-1] == "golden vectors: passed, 6 steps, the same class named for 100.00% of the frames"
    document = json.loads((tmp_path / "a.json").read_text())
    assert list(document) == ["device", "self_test"]
    assert (document["device"], document["self_test"]["passed"]) == ("cpu", True)
    assert document["self_test"]["outputs"]["logits"]["max_absolute"] < 1e-5


def test_self_test_alone_on_standard_output(edgeclf, write_model):
    ended = edgeclf("run-stream", write_model(vectors=True), "--self-test", "-q", "--json", "-")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["self_test"]["passed"] is True


def test_self_test_before_streaming(edgeclf, write_model, recording, tmp_path):
    path = write_model(vectors=True)
    plain = without_latency(lines_of(edgeclf("run-stream", path, recording).out))
    ended = edgeclf("run-stream", path, recording, "--self-test", "--json", tmp_path / "a.json")
    assert ended.code == 0
    assert without_latency(lines_of(ended.out)) == plain
    assert "golden vectors: passed" in ended.err
    summary = json.loads((tmp_path / "a.json").read_text())
    assert (summary["frames"], summary["self_test"]["passed"]) == (6, True)


@pytest.mark.parametrize("streams", [True, False])
def test_self_test_that_fails(edgeclf, write_model, vectors_by_hand, tiny, recording, tmp_path, streams):
    vectors = vectors_by_hand(tiny)
    vectors["logits"] = vectors["logits"] + 0.01
    path = write_model(vectors=vectors)
    given = [recording] if streams else []
    ended = edgeclf("run-stream", path, *given, "--self-test", "--json", tmp_path / "a.json")
    assert (ended.code, ended.out) == (1, "")
    assert f"{path}: on this machine it does not compute what it did where it was exported: logits" in ended.error
    assert "golden vectors: not passed" in ended.err
    assert json.loads((tmp_path / "a.json").read_text())["self_test"]["passed"] is False


def test_self_test_sees_memory_that_does_not_change(edgeclf, write_model):
    # A graph whose state is passed on unchanged.
    path = write_model(vectors=True)
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.output[0] == "next_state.acc")
    node.output[0] = "computed"
    for other in model.graph.node:
        other.input[:] = ["computed" if name == "next_state.acc" else name for name in other.input]
    model.graph.node.append(onnx.helper.make_node("Identity", ["acc"], ["next_state.acc"]))
    onnx.save(model, path)
    ended = edgeclf("run-stream", path, "--self-test")
    assert ended.code == 1
    assert "next_state.acc differs by" in ended.error


def test_self_test_without_golden_vectors(edgeclf, write_model, recording, tmp_path):
    ended = edgeclf("run-stream", write_model(), recording, "--self-test")
    assert (ended.code, ended.out) == (2, "")
    assert "was exported without golden vectors" in ended.error
    path = write_model(vectors=True)
    (tmp_path / "tiny.golden.npz").unlink()
    ended = edgeclf("run-stream", path, "--self-test")
    assert (ended.code, ended.out) == (2, "")
    assert "tiny.golden.npz: the model's golden vectors cannot be read" in ended.error


def test_self_test_of_a_model_for_a_server(edgeclf, write_model, recording):
    path = write_model(keep_memory=False, vectors=True)
    assert edgeclf("run-stream", path, "--self-test").code == 0
    ended = edgeclf("run-stream", path, recording, "--self-test")
    assert (ended.code, ended.out) == (2, "")
    assert "for programs without edgeclf" in ended.error


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_self_test_needs_no_torch(write_model, device):
    arguments = ["edgeclf", "run-stream", str(write_model(vectors=True)), "--self-test", "--device", device]
    script = (
        "import sys; sys.modules |= dict.fromkeys(['torch', 'onnx', 'lightning', 'matplotlib']); "
        f"sys.argv = {arguments!r}; "
        "from edgeclf.cli import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "golden vectors: passed" in ended.stderr


def test_weights_from_outside_of_the_folder(edgeclf, write_model, recording):
    path = write_model()
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    path.write_bytes(model.SerializeToString())
    ended = edgeclf("run-stream", path, recording)
    assert (ended.code, ended.out) == (2, "")
    assert "wants its weights read from '../secret', which leads out of the model's folder" in ended.error


def test_help_has_a_worked_example(edgeclf):
    ended = edgeclf("run-stream", "--help")
    assert ended.code == 0
    assert "Example: edgeclf run-stream gestures.onnx recording.raw" in " ".join(ended.out.split())
    for option in (
        "--device", "--output", "--threshold", "--realtime", "--sensor-size", "--start-ts", "--max-duration-ms",
        "--threads", "--self-test", "--json", "--quiet", "--verbose",
    ):  # fmt: skip
        assert option in ended.out
