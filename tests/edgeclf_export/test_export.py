from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgeclf_export.export import export_checkpoint
from edgeclf_export.formats import FORMATS
from edgeclf_runtime.errors import CheckFailedError, InputFileError, UsageError
from edgeclf_runtime.session import Classifier


def test_writes_the_files_and_the_runtime_loads_the_onnx(
    case_name: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    files = list(export_checkpoint(checkpoints[case_name], tmp_path / "with space", ["onnx", "torchscript"]))
    assert [file.path.name for file in files] == [f"{case_name}.onnx", f"{case_name}.ts"]
    assert all(file.validation for file in files)
    assert sorted(p.name for p in (tmp_path / "with space").iterdir()) == sorted(f.path.name for f in files)
    with Classifier.load(files[0].path, "cpu") as classifier:
        assert classifier.contract == files[0].contract
        assert bool(classifier.contract.state) == ("WithoutMemory" not in case_name)


def test_a_file_that_fails_validation_is_not_left_behind(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tmp_path / "ConvRNNClassifier.ts"
    before.write_text("an older file")
    written = FORMATS["torchscript"].write

    def write_another_model(graph, contract, path):
        with torch.no_grad():
            next(graph.parameters()).mul_(1.5)
        return written(graph, contract, path)

    monkeypatch.setattr(FORMATS["torchscript"], "write", write_another_model)
    with pytest.raises(CheckFailedError, match="does not compute what PyTorch does"):
        list(export_checkpoint(checkpoints["ConvRNNClassifier"], tmp_path, ["torchscript"]))
    assert [p.name for p in tmp_path.iterdir()] == [before.name]
    assert before.read_text() == "an older file"


def test_unknown_format_and_missing_checkpoint(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no format 'tflite'"):
        list(export_checkpoint(checkpoints["LeNetClassifier"], tmp_path, ["tflite"]))
    with pytest.raises(InputFileError, match="no such checkpoint"):
        list(export_checkpoint(tmp_path / "none.ckpt", tmp_path, ["onnx"]))
    assert list(tmp_path.iterdir()) == []
