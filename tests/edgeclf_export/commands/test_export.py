from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeclf_export.commands.export import export
from edgeclf_export.formats import FORMATS
from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.precision import PRECISIONS


def test_each_format_that_is_asked_for_is_written_and_reported(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    arguments = [str(checkpoints["LeNetClassifier"]), str(tmp_path / "out"), "--name", "möwe"]
    ended = CliRunner().invoke(
        export, [*arguments, "--format", "torchscript", "--format", "onnx", "--json", str(tmp_path / "made.json")]
    )
    assert ended.exit_code == 0, ended.output
    made = json.loads((tmp_path / "made.json").read_text())["files"]
    assert [(Path(file["path"]).name, file["format"]) for file in made] == [
        ("möwe.ts", "torchscript"),
        ("möwe.onnx", "onnx"),
    ]
    for file in made:
        assert Path(file["path"]).is_file()
        validation = file["validation"]
        assert validation["passed"]
        assert validation["steps"] >= 50
        assert validation["tolerance"] == vars(PRECISIONS["fp32"])
        for difference in validation["outputs"].values():
            assert difference["mean_absolute"] <= difference["max_absolute"] <= 1e-4
        assert file["path"] in ended.stdout


def test_precisions_are_written_each_and_their_accuracy_shown(
    checkpoints: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    arguments = [str(checkpoints["LeNetClassifier"]), str(tmp_path), "--dataset", str(dataset)]
    ended = CliRunner().invoke(export, [*arguments, "--precision", "fp16", "--precision", "fp32", "--float32-edges"])
    assert ended.exit_code == 0, ended.output
    assert {path.name for path in tmp_path.glob("*.onnx")} == {"LeNetClassifier.onnx", "LeNetClassifier.fp16.onnx"}
    of_half, of_single = ended.stdout.split("\n\n")
    assert of_half.startswith(str(tmp_path / "LeNetClassifier.fp16.onnx"))
    assert re.search(r"accuracy: 0\.\d+ in PyTorch, 0\.\d+ here \(may fall by 0\.01\)", of_half)
    assert "accuracy" not in of_single
    assert "next_state.bottleneck_rnn.1.c" in of_single
    assert "beside PyTorch: passed, 60 steps" in of_single


def test_what_was_made_before_a_failure_is_reported(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("an operator is missing\nand a long report")

    monkeypatch.setattr("edgeclf_export.formats.torchscript.StepGraph", fails)
    arguments = [str(checkpoints["LeNetClassifier"]), str(tmp_path / "out"), "--json", str(tmp_path / "made.json")]
    ended = CliRunner().invoke(export, [*arguments, "--format", "onnx", "--format", "torchscript"])
    assert isinstance(ended.exception, EdgeclfError)
    assert "cannot be written as torchscript (RuntimeError: an operator is missing)" in str(ended.exception)
    made = json.loads((tmp_path / "made.json").read_text())["files"]
    assert [file["format"] for file in made] == ["onnx"]
    assert "LeNetClassifier.onnx" in ended.stdout


def test_formats_are_listed_from_the_registry() -> None:
    ended = CliRunner().invoke(export, ["--list-formats"])
    assert ended.exit_code == 0
    lines = {line.split()[0]: line for line in ended.stdout.splitlines()}
    for name, known in FORMATS.items():
        assert known.summary in lines[name]
        assert str(known.path("NAME", "fp32")) in lines[name]
        assert ", ".join(known.precisions) in lines[name]


def test_wrong_usage(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    arguments = [str(checkpoints["LeNetClassifier"]), str(tmp_path)]
    for wrong in (["--format", "tflite"], ["--opset", "9"], ["--batch", "0"], ["--precision", "int4"]):
        assert CliRunner().invoke(export, [*arguments, *wrong]).exit_code == 2
    assert list(tmp_path.iterdir()) == []
