from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from edgeclf_export.commands.parity import parity
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_export.formats import FORMATS
from edgeclf_runtime.errors import CheckFailedError, InputFileError, UsageError

KPIS = {"accuracy", "recording_accuracy", "mean_recording_accuracy", "t2p_median_ms", "t2p_std_ms", "precision_left"}


@pytest.fixture(scope="module")
def arguments(checkpoints: dict[str, Path], dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out = tmp_path_factory.mktemp("out")
    checkpoint = checkpoints["ConvRNNClassifier"]
    model = next(iter(export_checkpoint(ExportRequest(checkpoint, out)))).path
    return [str(checkpoint), str(model), str(dataset)]


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(parity, list(arguments), catch_exceptions=False)


def test_table_and_document_say_the_same(arguments: list[str], tmp_path: Path) -> None:
    ended = _run(*arguments, "--json", str(tmp_path / "p.json"))
    assert ended.exit_code == 0
    assert ended.stdout.rstrip().endswith("parity: passed")
    document = json.loads((tmp_path / "p.json").read_text())
    assert document["passed"] is True
    assert set(document["kpis"]) >= KPIS
    for name in document["kpis"]:
        assert name in ended.stdout
    assert "compared: PyTorch and ConvRNNClassifier.onnx, cpu\n" in ended.stdout
    assert f"over: {document['frames']} frames of 5 recordings\n" in ended.stdout
    assert "same class: 100.0000% of the frames\n" in ended.stdout
    assert "first parting: Both name the same class in every frame." in ended.stdout
    assert f"{document['drift']['late']:.1e} late in it: it does not go on growing.\n" in ended.stdout
    assert "McNemar's test: No recording is named rightly by one side alone" in ended.stdout
    assert document["sides"] == {"reference": "PyTorch", "exported": "ConvRNNClassifier.onnx, cpu"}


def test_document_alone_on_standard_output(arguments: list[str]) -> None:
    ended = _run(*arguments, "--json", "-", "--no-drift")
    document = json.loads(ended.stdout)
    assert document["passed"] is True
    assert document["drift"] is None


def test_the_page_stands_where_it_was_asked_for(arguments: list[str], tmp_path: Path) -> None:
    _run(*arguments, "--report", str(tmp_path / "a page"))
    page = (tmp_path / "a page" / "parity.html").read_text(encoding="utf-8")
    for name in KPIS:
        assert name.replace("_", "_<wbr>") in page
    assert arguments[1] in page


def test_what_was_found_is_told_whatever_befalls_the_page(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise UsageError("this page is broken")

    monkeypatch.setattr("edgeclf_export.commands.parity.write_parity_page", fails)
    target = tmp_path / "p.json"
    ended = CliRunner().invoke(parity, [*arguments, "--no-drift", "--report", str(tmp_path), "--json", str(target)])
    assert str(ended.exception) == "this page is broken"
    assert ended.stdout.rstrip().endswith("parity: passed")
    assert json.loads(target.read_text())["passed"] is True


@pytest.fixture(scope="module")
def wrong(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model of another checkpoint, with another bias in its head."""
    out = tmp_path_factory.mktemp("wrong")
    content = torch.load(arguments[0], weights_only=True)
    content["state_dict"]["net.head.module.2.bias"] += torch.tensor([0.0, 3.0, -3.0])
    torch.save(content, out / "wrong.ckpt")
    return str(next(iter(export_checkpoint(ExportRequest(out / "wrong.ckpt", out)))).path)


def test_another_model_fails_the_command_which_says_why_and_still_tells_all(
    arguments: list[str], wrong: str, tmp_path: Path
) -> None:
    target = tmp_path / "p.json"
    given = [arguments[0], wrong, arguments[2], "--json", str(target), "--report", str(tmp_path), "--no-drift"]
    ended = CliRunner().invoke(parity, given)
    assert isinstance(ended.exception, CheckFailedError)
    assert ended.exception.exit_code == 1
    document: dict[str, Any] = json.loads(target.read_text())
    assert document["passed"] is False
    failed = [name for name, kpi in document["kpis"].items() if not kpi["passed"]]
    assert f"is in PyTorch: {', '.join(failed[:3])}" in str(ended.exception)
    assert "differ beyond tolerance" in str(ended.exception)
    assert ended.stdout.rstrip().endswith("parity: failed")
    assert f"all but {document['disagreements']}; " in ended.stdout
    assert "drift of the state: Not compared: " in ended.stdout
    assert "KPI parity: failed</title>" in (tmp_path / "parity.html").read_text(encoding="utf-8")


def test_a_tolerance_says_by_how_much_a_kpi_may_differ(arguments: list[str], wrong: str, tmp_path: Path) -> None:
    found = []
    for given in ((), ("--tolerance", "accuracy=1")):
        target = tmp_path / "p.json"
        CliRunner().invoke(parity, [arguments[0], wrong, arguments[2], "--json", str(target), "--no-drift", *given])
        accuracy = json.loads(target.read_text())["kpis"]["accuracy"]
        found.append((accuracy["tolerance"], accuracy["passed"]))
    assert found == [(1e-3, False), (1.0, True)]


@pytest.mark.parametrize("text", ["precision", "=0.1", "precision=", "precision=much"])
def test_a_tolerance_that_cannot_be_read_is_wrong_usage(arguments: list[str], text: str) -> None:
    ended = _run(*arguments, "--tolerance", text)
    assert ended.exit_code == 2
    assert f"'{text}' is not NAME=VALUE" in ended.stderr


def test_a_tolerance_of_no_kpi_is_a_sentence_before_anything_runs(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("edgeclf_export.parity.ParityCheck.run")
    with pytest.raises(UsageError, match="There is no KPI 'speed'"):
        _run(*arguments, "--tolerance", "speed=1")


def test_against_an_export_for_metavision(arguments: list[str], tmp_path: Path) -> None:
    folder = next(iter(export_checkpoint(ExportRequest(Path(arguments[0]), tmp_path, ("metavision",))))).path.parent
    ended = _run(*arguments, "--against", "metavision", str(folder))
    assert f"Metavision, {folder.name}" in ended.stdout
    assert "drift of the state: Not compared: " in ended.stdout
    assert ended.stdout.rstrip().endswith("parity: passed")
    assert _run(*arguments, "--against", "somebody", str(folder)).exit_code == 2
    with pytest.raises(InputFileError, match="this is no folder"):
        _run(*arguments, "--against", "metavision", str(tmp_path / "nowhere"))


def test_it_runs_on_the_cpu_unless_told(arguments: list[str]) -> None:
    ended = _run(*arguments, "--no-drift", "--provider", "CPUExecutionProvider", "--threads", "1")
    assert ended.stdout.rstrip().endswith("parity: passed")
    with pytest.raises(UsageError, match="were both asked for"):
        _run(*arguments, "--no-drift", "--provider", "CPUExecutionProvider", "--device", "cpu")
    assert "by default cpu" in " ".join(_run("--help").stdout.split())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchscript", "pt2", "openvino"])
def test_files_of_other_programs(name: str, arguments: list[str], tmp_path: Path) -> None:
    if name == "openvino":
        pytest.importorskip("openvino")
    assert name in FORMATS
    model = next(iter(export_checkpoint(ExportRequest(Path(arguments[0]), tmp_path, (name,))))).path
    target = tmp_path / "p.json"
    _run(arguments[0], str(model), arguments[2], "--threads", "1", "--json", str(target))
    document = json.loads(target.read_text())
    assert document["passed"] is True
    assert max(document["drift"]["largest"]) < 1e-4
    assert document["sides"]["exported"] == f"{model.name}, cpu"


@pytest.mark.slow
def test_coarser_precisions_have_tolerances_of_their_own(tmp_path: Path) -> None:
    """The trained sample: fp32's tolerances would not let int8 through."""
    from edgeclf_export.accuracy import DataSet
    from edgeclf_export.shipped import find_samples

    samples = find_samples()
    data = DataSet(samples.dataset, "test", "test")
    request = ExportRequest(samples.checkpoint, tmp_path, ("onnx",), ("fp16", "int8"), data=data)
    for file in export_checkpoint(request):
        target = tmp_path / f"{file.path.name}.json"
        arguments = [str(samples.checkpoint), str(file.path), str(samples.dataset)]
        assert _run(*arguments, "--json", str(target)).exit_code == 0
        document = json.loads(target.read_text())
        assert document["tolerance"]["precision"] == file.contract.precision
        assert 1e-4 < document["drift"]["late"] < 0.5
        if file.contract.precision == "int8":
            strict = ["--tolerance", "expected_calibration_error=0.001", "--tolerance", "precision=0.001", "--no-drift"]
            with pytest.raises(CheckFailedError):
                _run(*arguments, *strict)
