from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import zipfile
from collections import Counter
from dataclasses import replace
from xml.sax.saxutils import quoteattr

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgeclf_runtime.backends.openvino import import_openvino
from edgeclf_runtime.contract_file import read_contract


def rows_of(text):
    return [(line[:16].strip(), line[16:]) for line in text.split("\n\n")[0].splitlines()]


TEXT = [
    ("architecture", "Tiny"),
    ("labels", "background, paper, rock, scissors"),
    ("input", "frames [batch, 2, 12, 16] float32"),
    ("input", "keep_memory [batch] float32"),
    ("input", "state.acc [batch, 2] float32"),
    ("input", "state.conv.last [batch, 2, 12, 16] float32"),
    ("output", "logits [batch, 4] float32"),
    ("output", "probabilities [batch, 4] float32"),
    ("output", "next_state.acc [batch, 2] float32"),
    ("output", "next_state.conv.last [batch, 2, 12, 16] float32"),
    ("memory", "state.acc -> next_state.acc, 2"),
    ("memory", "state.conv.last -> next_state.conv.last, 2×12×16"),
    ("event frame", "2 channels, 12 rows, 16 columns, every 10000 µs"),
    ("preprocessing", "histo(max_incr_per_pixel=2)"),
    ("sensor", "32×24 (width × height)"),
    ("precision", "fp32"),
    ("streams", "any number"),
    ("opset", "17"),
    ("checkpoint", f"sha256 {'ab' * 32}"),
    ("made by", "edgeclf 0.1.0, torch 2.9"),
    ("command", "edgeclf export tiny.ckpt out"),
    ("golden vectors", "none"),
]


def test_text(edgeclf, write_model):
    ended = edgeclf("inspect", write_model())
    assert (ended.code, ended.err) == (0, "")
    assert rows_of(ended.out) == TEXT


@pytest.mark.parametrize("suffix", ["ts", "xml"])
def test_text_of_other_formats_is_the_same(edgeclf, tmp_path, tiny, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "ts":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/extra/edgeclf", tiny.to_json())
    else:
        path.write_text(f"<net><rt_info><edgeclf value={quoteattr(tiny.to_json())}/></rt_info></net>")
    assert rows_of(edgeclf("inspect", path).out) == TEXT


def test_text_of_a_folder_for_triton(edgeclf, write_model, tmp_path):
    (tmp_path / "triton" / "1").mkdir(parents=True)
    write_model(keep_memory=False).rename(tmp_path / "triton" / "1" / "model.onnx")
    rows = rows_of(edgeclf("inspect", tmp_path / "triton").out)
    assert ("memory", "no keep_memory: the server sets a new stream's state to zero") in rows
    assert "keep_memory [batch] float32" not in dict(rows).values()


def test_text_of_a_model_that_has_or_says_less(edgeclf, write_model):
    rows = rows_of(
        edgeclf("inspect", write_model(state=(), sensor_size=None, opset=None, command="", checkpoint_sha256="")).out
    )
    for row in (
        ("sensor", "not stated"), ("memory", "none"), ("opset", "none"), ("command", "not stated"),
        ("checkpoint", "not stated"),
    ):  # fmt: skip
        assert row in rows
    assert [value for name, value in rows if name == "input"] == ["frames [batch, 2, 12, 16] float32"]


def test_text_of_a_fixed_batch_in_half_precision(edgeclf, write_model):
    rows = rows_of(edgeclf("inspect", write_model(batch=3, precision="fp16", state_type="float16")).out)
    for row in (
        ("precision", "fp16"), ("streams", "3 in every step"), ("input", "frames [3, 2, 12, 16] float32"),
        ("input", "state.acc [3, 2] float16"),
    ):  # fmt: skip
        assert row in rows


def test_inputs_that_the_graph_lacks(edgeclf, write_model, tiny):
    rows = rows_of(edgeclf("inspect", write_model(graph_of=replace(tiny, state=()))).out)
    assert ("input", "state.acc [] missing in the graph") in rows


def test_control_characters_of_a_label_do_not_reach_the_terminal(edgeclf, write_model):
    ended = edgeclf("inspect", write_model(labels=("background", "a\x1b[2J\nb", "é", "日本")))
    assert "\x1b" not in ended.out
    assert rows_of(ended.out)[1] == ("labels", r"background, a\x1b[2J\nb, é, 日本")


@pytest.mark.parametrize("target", ["-", "a b.json"])
def test_json_is_the_contract_with_what_the_graph_takes(edgeclf, write_model, tiny, tmp_path, target):
    path = tmp_path / target
    ended = edgeclf("inspect", write_model(), "--json", "-" if target == "-" else path)
    assert (ended.code, ended.err) == (0, "")
    if target != "-":
        assert ended.out == ""
    document = json.loads(ended.out if target == "-" else path.read_text(encoding="utf-8"))
    tensors = document.pop("tensors")
    assert document == json.loads(tiny.to_json()) | {"golden_vectors": {"file": None, "state": "none"}}
    assert list(tensors) == [*tiny.input_names, *tiny.output_names]
    assert tensors["state.acc"] == {"type": "float32", "shape": ["batch", 2]}


def test_the_folder_is_left_as_it_was(edgeclf, write_model, tmp_path):
    path = write_model(vectors=True)
    before = sorted(tmp_path.iterdir())
    assert edgeclf("inspect", path, "--graph", "--check").code == 0
    assert sorted(tmp_path.iterdir()) == before


# --graph.


def test_graph(edgeclf, write_model):
    path = write_model()
    ended = edgeclf("inspect", path, "--graph")
    lines = ended.out.split("\n\n")[1].splitlines()
    assert lines[0].split() == ["operator", "in", "the", "file", "after", "fusion"]
    counts = {words[0]: int(words[1]) for words in map(str.split, lines[1:-2])}
    in_file = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert {name: count for name, count in counts.items() if count} == in_file
    assert lines[-2] == "everything that can be fused is"
    document = json.loads(edgeclf("inspect", path, "--graph", "--json", "-").out)
    assert {name: found["file"] for name, found in document["graph"]["operators"].items()} == counts
    assert document["graph"]["not_fused"] == {}


def test_graph_with_what_is_not_fused(edgeclf, tmp_path, tiny):
    kernel = numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["frames", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Transpose", ["c"], ["y"], perm=[1, 0, 3, 2]),
    ]
    values = [helper.make_tensor_value_info(name, 1, ["batch", 2, 12, 16]) for name in ("frames", "y")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:], [kernel]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(model, {"edgeclf": replace(tiny, state=()).to_json()})
    onnx.save(model, tmp_path / "a.onnx")
    lines = edgeclf("inspect", tmp_path / "a.onnx", "--graph").out.splitlines()
    assert lines[-4] == "not fused: Relu behind a convolution (1)"
    assert lines[-3].startswith("computes nothing: ")
    assert "Transpose (1)" in lines[-3]


# --check.


def test_check(edgeclf, write_model):
    path = write_model(vectors=True)
    ended = edgeclf("inspect", path, "--check")
    assert (ended.code, ended.err) == (0, "")
    assert rows_of(ended.out)[-1] == ("", "tiny.golden.npz is beside the file")
    lines = [line.split() for line in ended.out.split("\n\n")[1].splitlines()]
    assert lines[0] == ["output", "max", "abs", "mean", "abs", "relative"]
    assert [line[0] for line in lines[1:-1]] == [
        "logits", "probabilities", "next_state.acc", "next_state.conv.last", "tolerance",
    ]  # fmt: skip
    assert all(float(line[1]) < 1e-5 for line in lines[1:-2])
    assert " ".join(lines[-1]) == "golden vectors: passed, 6 steps, the same class named for 100.00% of the frames"
    document = json.loads(edgeclf("inspect", path, "--check", "--json", "-").out)
    assert document["golden_vectors"] == {"file": "tiny.golden.npz", "state": "there"}
    assert (document["check"]["passed"], document["check"]["device"], document["check"]["steps"]) == (True, "cpu", 6)


def test_check_of_a_model_whose_memory_a_server_keeps(edgeclf, write_model):
    assert edgeclf("inspect", write_model(keep_memory=False, vectors=True), "--check").code == 0


def test_check_of_a_model_that_takes_events(edgeclf, write_events_model, tmp_path, tiny):
    rng = np.random.default_rng(0)
    weights = rng.random((4, 4)).astype(np.float32) / 50
    events = rng.integers(0, 30, (3, 40, 4))
    logits = (events.mean(axis=1) @ weights.astype(float))[:, None]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.savez(tmp_path / "e.golden.npz", events=events, logits=logits, probabilities=probabilities)
    digest = hashlib.sha256((tmp_path / "e.golden.npz").read_bytes()).hexdigest()
    write_events_model("e.onnx", replace(tiny, takes="events", state=(), golden_sha256=digest), weights)
    ended = edgeclf("inspect", tmp_path / "e.onnx", "--check")
    assert ended.code == 0
    assert ("input", "events [n, 4] int64") in rows_of(ended.out)
    assert ("preprocessing", "histo(max_incr_per_pixel=2), inside the graph") in rows_of(ended.out)


def test_check_that_fails_shows_what_it_found(edgeclf, write_model, vectors_by_hand, tiny, tmp_path):
    vectors = vectors_by_hand(tiny)
    vectors["next_state.acc"] = vectors["next_state.acc"] + 0.25
    path = write_model(vectors=vectors)
    ended = edgeclf("inspect", path, "--check", "--json", tmp_path / "a.json")
    assert (ended.code, ended.out) == (1, "")
    assert f"{path}: on this machine it does not compute what it did where it was exported" in ended.error
    assert "next_state.acc differs by up to 0.25," in ended.error
    check = json.loads((tmp_path / "a.json").read_text())["check"]
    assert check["passed"] is False
    assert check["outputs"]["next_state.acc"]["max_absolute"] == pytest.approx(0.25, abs=1e-5)
    ended = edgeclf("inspect", path, "--check")
    assert "golden vectors: not passed" in ended.out
    assert "next_state.acc" in ended.error


def test_golden_vectors_that_are_missing_or_of_another_export(edgeclf, write_model, tmp_path):
    path = write_model(vectors=True)
    (tmp_path / "tiny.golden.npz").write_bytes(b"other")
    ended = edgeclf("inspect", path, "--check")
    assert (ended.code, ended.out) == (2, "")
    assert "not the golden vectors that" in ended.error
    assert rows_of(edgeclf("inspect", path).out)[-1] == ("", "tiny.golden.npz beside the file is of another export")
    (tmp_path / "tiny.golden.npz").unlink()
    assert "copy them beside the model" in edgeclf("inspect", path, "--check").error
    assert rows_of(edgeclf("inspect", path).out)[-1] == ("", "tiny.golden.npz is not beside the file")


def test_check_without_golden_vectors(edgeclf, write_model):
    ended = edgeclf("inspect", write_model(), "--check")
    assert ended.code == 2
    assert "it was exported without golden vectors" in ended.error


def test_graph_of_another_format(edgeclf, tmp_path, tiny):
    with zipfile.ZipFile(tmp_path / "a.ts", "w") as archive:
        archive.writestr("a/extra/edgeclf", tiny.to_json())
    ended = edgeclf("inspect", tmp_path / "a.ts", "--graph")
    assert (ended.code, ended.out) == (2, "")
    assert "this is not an ONNX file, and the graph of no other is shown; give the .onnx" in ended.error


def test_check_of_another_format(edgeclf, write_model, tmp_path):
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    openvino = import_openvino()
    source = write_model(vectors=True)
    contract = read_contract(source)
    model = openvino.convert_model(source)
    model.set_rt_info(contract.to_json(), ["edgeclf"])
    openvino.save_model(model, tmp_path / "a.xml", compress_to_fp16=False)
    source.with_name("tiny.golden.npz").rename(tmp_path / "a.xml.golden.npz")
    ended = edgeclf("inspect", tmp_path / "a.xml", "--check")
    assert (ended.code, ended.err) == (0, "")
    assert "golden vectors: passed, 6 steps" in ended.out
    assert ended.out.endswith("\n\nruns on cpu: OpenVINO\n")


@pytest.mark.parametrize("option", ["--check", "--graph"])
def test_what_runs_it_is_shown(edgeclf, write_model, option):
    path = write_model(vectors=True)
    assert re.search(r"\n\nruns on cpu: CPUExecutionProvider \(\d+ nodes\)\n$", edgeclf("inspect", path, option).out)
    runs_on = json.loads(edgeclf("inspect", path, option, "--json", "-").out)["runs_on"]
    assert (runs_on["device"], runs_on["providers"], runs_on["on_cpu"]) == ("cpu", ["CPUExecutionProvider"], {})
    assert runs_on["nodes"]["CPUExecutionProvider"] > 10


def test_device_that_is_not_there(edgeclf, write_model, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    path = write_model(vectors=True)
    for option in ("--check", "--graph"):
        ended = edgeclf("inspect", path, option, "--device", "cuda")
        assert (ended.code, ended.out) == (1, "")
        assert "--device cpu" in ended.error


# What is wrong with the model, or where it is to be written.


def test_model_that_is_not_there(edgeclf, tmp_path):
    ended = edgeclf("inspect", tmp_path / "a.onnx")
    assert (ended.code, ended.out) == (2, "")
    assert "there is no such model file" in ended.error


def test_model_of_somebody_elses(edgeclf, write_model):
    ended = edgeclf("inspect", write_model(metadata={"author": "me"}))
    assert (ended.code, ended.out) == (2, "")
    assert "was not exported by edgeclf" in ended.error


def test_json_that_cannot_be_written(edgeclf, write_model, tmp_path):
    ended = edgeclf("inspect", write_model(), "--json", tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert "is a folder" in ended.error


def test_help_has_a_worked_example(edgeclf):
    ended = edgeclf("inspect", "--help")
    assert ended.code == 0
    assert "Example: edgeclf inspect gestures.onnx" in ended.out
    for option in ("--graph", "--check", "--device", "--json", "--quiet", "--verbose"):
        assert option in ended.out
