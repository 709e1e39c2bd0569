from __future__ import annotations

import json

import pytest


def rows_of(text):
    return [(line[:15].strip(), line[15:]) for line in text.splitlines()]


def test_text(edgeclf, write_model):
    ended = edgeclf("inspect", write_model())
    assert (ended.code, ended.err) == (0, "")
    assert rows_of(ended.out) == [
        ("architecture", "Tiny"),
        ("labels", "background, paper, rock, scissors"),
        ("inputs", "frames, keep_memory, state.acc, state.conv.last"),
        ("outputs", "logits, probabilities, next_state.acc, next_state.conv.last"),
        ("event frame", "2 channels, 12 rows, 16 columns, every 10000 µs"),
        ("preprocessing", "histo(max_incr_per_pixel=2)"),
        ("sensor", "32×24 (width × height)"),
        ("precision", "float32, opset 17"),
        ("checkpoint", f"sha256 {'ab' * 32}"),
        ("made by", "edgeclf 0.1.0, torch 2.9"),
        ("memory", "state.acc -> next_state.acc, 2"),
        ("memory", "state.conv.last -> next_state.conv.last, 2×12×16"),
    ]


def test_text_of_a_model_that_has_or_says_less(edgeclf, write_model):
    rows = rows_of(edgeclf("inspect", write_model(state=(), sensor_size=None)).out)
    assert ("sensor", "not stated") in rows
    assert rows[-1] == ("memory", "none")
    assert ("inputs", "frames") in rows


@pytest.mark.parametrize("target", ["-", "a b.json"])
def test_json_is_the_contract_with_the_graphs_names(edgeclf, write_model, tiny, tmp_path, target):
    path = tmp_path / target
    ended = edgeclf("inspect", write_model(), "--json", "-" if target == "-" else path)
    assert (ended.code, ended.err) == (0, "")
    if target != "-":
        assert ended.out == ""
    document = json.loads(ended.out if target == "-" else path.read_text(encoding="utf-8"))
    assert document == json.loads(tiny.to_json()) | {
        "inputs": ["frames", "keep_memory", "state.acc", "state.conv.last"],
        "outputs": ["logits", "probabilities", "next_state.acc", "next_state.conv.last"],
    }


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
