"""The documents' code runs as it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from edgeclf.hyperparameters import HyperParameters
from edgeclf_export.demo import export_sample, find_samples
from edgeclf_export.export import export_checkpoint

ROOT = Path(__file__).parents[1]


def _python_of(document: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)
    return str(code)


@pytest.fixture(scope="module")
def gestures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_sample(find_samples(), tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def without_memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    hyper = HyperParameters("SqueezenetClassifier", ("background", "a"), 48, 48, 10_000, "histo")
    weights = {f"net.{name}": value for name, value in hyper.build_model().state_dict().items()}
    torch.save({"hyper_parameters": hyper.to_dict(), "state_dict": weights}, folder / "a.ckpt")
    return next(iter(export_checkpoint(folder / "a.ckpt", folder, ["onnx"]))).path


@pytest.mark.parametrize("model", ["gestures", "without_memory"])
def test_the_contracts_program_runs_any_exported_model(
    model: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(request.getfixturevalue(model), tmp_path / "best.onnx")
    monkeypatch.chdir(tmp_path)
    exec(_python_of("docs/contract.md"), {})
    assert capsys.readouterr().out.count("[[") == 5


def test_the_readmes_program_streams_a_recording(
    gestures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(gestures, tmp_path / "best.onnx")
    shutil.copy(find_samples().recording, tmp_path / "recording.raw")
    monkeypatch.chdir(tmp_path)
    exec(_python_of("README.md"), {})
    assert "scissors" in capsys.readouterr().out
