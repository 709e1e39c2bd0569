from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeclf_export.commands.parity import parity
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_runtime.errors import CheckFailedError


@pytest.fixture(scope="module")
def arguments(checkpoints: dict[str, Path], dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out = tmp_path_factory.mktemp("out")
    checkpoint = checkpoints["ConvRNNClassifier"]
    model = next(iter(export_checkpoint(ExportRequest(checkpoint, out)))).path
    return [str(checkpoint), str(model), str(dataset)]


def test_table_document_and_report_say_the_same(arguments: list[str], tmp_path: Path) -> None:
    ended = CliRunner().invoke(
        parity,
        [*arguments, "--json", str(tmp_path / "p.json"), "--report", str(tmp_path / "r")],
        catch_exceptions=False,
    )
    assert ended.exit_code == 0
    assert ended.stdout.rstrip().endswith("parity: passed")
    document = json.loads((tmp_path / "p.json").read_text())
    assert document["passed"] is True
    page = (tmp_path / "r" / "parity.html").read_text()
    for name in document["kpis"]:
        assert name in ended.stdout
        assert f"<td>{name}</td>" in page
    assert '<span class="passed">passed</span>' in page


def test_document_alone_on_standard_output(arguments: list[str]) -> None:
    ended = CliRunner().invoke(parity, [*arguments, "--json", "-"], catch_exceptions=False)
    assert json.loads(ended.stdout)["passed"] is True


def test_a_kpi_beyond_its_tolerance_fails_the_command(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """No difference at all is within a tolerance below zero."""
    monkeypatch.setattr("edgeclf_export.parity.RATE_TOLERANCE", -1.0)
    with pytest.raises(CheckFailedError, match="accuracy") as failed:
        CliRunner().invoke(parity, arguments, catch_exceptions=False)
    assert failed.value.exit_code == 1
