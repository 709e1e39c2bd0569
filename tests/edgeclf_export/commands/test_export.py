from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from edgeclf_export.commands.export import export
from edgeclf_export.formats import FORMATS


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
        assert file["steps"] >= 50
        assert max(file["max_difference"].values()) <= file["tolerance"] == 1e-4
        assert file["path"] in ended.stdout


def test_formats_are_listed_from_the_registry() -> None:
    ended = CliRunner().invoke(export, ["--list-formats"])
    assert ended.exit_code == 0
    for name, known in FORMATS.items():
        assert f"{name}: {known.summary}" in ended.stdout
        assert f"NAME{known.suffix}" in ended.stdout


def test_an_unknown_format_is_wrong_usage(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    ended = CliRunner().invoke(export, [str(checkpoints["LeNetClassifier"]), str(tmp_path), "--format", "tflite"])
    assert ended.exit_code == 2
    assert list(tmp_path.iterdir()) == []
