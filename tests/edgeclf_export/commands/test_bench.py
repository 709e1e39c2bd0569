from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeclf_export.accuracy import DataSet
from edgeclf_export.commands.bench import bench
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_runtime.commands.run_stream import run_stream
from edgeclf_runtime.errors import CheckFailedError, InputFileError, UsageError

QUICK = ("--frames", "4", "--rounds", "2", "--processes", "1", "--warmup", "2", "--threads", "1")
FIELDS = {
    "model", "backend", "device", "streams", "threads", "p50_us", "p95_us", "p99_us", "max_us", "frames_per_second",
    "first_us", "load_ms", "peak_rss_mb",
}  # fmt: skip
"""Of a result, as cli.md fixes them."""


@pytest.fixture(scope="module")
def model(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    return next(iter(export_checkpoint(ExportRequest(checkpoints["ConvRNNClassifier"], out)))).path


@pytest.fixture(scope="module")
def measured(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A real run, small as it is: what it printed, and its document."""
    out = tmp_path_factory.mktemp("measured")
    ended = CliRunner().invoke(
        bench,
        [str(model), "--against", "ort", *QUICK, "--paced", "--paced-frames", "2", "--streams", "2", "--streams", "1",
         "--json", str(out / "a.json"), "--markdown", str(out / "a.md"), "--report", str(out / "page")],
        catch_exceptions=False,
    )  # fmt: skip
    assert ended.exit_code == 0
    return ended.stdout, out / "a.json"


def test_document_has_what_is_fixed(measured: tuple[str, Path]) -> None:
    document = json.loads(measured[1].read_text())
    assert document["machine"]["processor"]
    assert document["timing_overhead_us"] > 0
    results = document["results"]
    assert all(set(row) >= FIELDS for row in results)
    asked = {(row["backend"], row["streams"], row["pace"]) for row in results}
    paces = ("back-to-back", "paced")
    assert asked == {(name, n, pace) for name in ("edgeclf", "ort") for n in (1, 2) for pace in paces}
    assert len(results) == len(asked)
    assert all(0 < row["p50_us"] <= row["p99_us"] <= row["max_us"] for row in results)
    assert all(sum(row["counts"]) == row["steps"] for row in results)
    assert {row["steps"] for row in results if row["pace"] == "back-to-back"} == {8}
    assert all((row["ratio"] is None) == (row["backend"] == "edgeclf") for row in results)
    assert all(row["macs"] > 0 and row["share_of_limit"] > 0 for row in results)
    assert [limit["threads"] for limit in document["limits"]] == [1]
    assert set(document["stages"][0]["stages"]) == {"decode", "preprocess", "inference", "output"}


def test_tables_and_page_say_the_same(measured: tuple[str, Path]) -> None:
    text, document = measured
    assert "latency of a step in ms, paced" in text
    assert "| ConvRNNClassifier | ort | fp32 |" in document.with_suffix(".md").read_text()
    assert "ConvRNNClassifier" in (document.parent / "page" / "bench.html").read_text()


def test_an_earlier_run_is_shown_again(measured: tuple[str, Path], tmp_path: Path) -> None:
    text, document = measured
    again = CliRunner().invoke(
        bench, ["--show", str(document), "--json", str(tmp_path / "b.json")], catch_exceptions=False
    )
    assert again.stdout == text
    assert json.loads((tmp_path / "b.json").read_text()) == json.loads(document.read_text())


def slowed(document: Path, path: Path, times: float) -> Path:
    content = json.loads(document.read_text())
    for row in content["results"]:
        if row["backend"] == "edgeclf":
            row["p50_us"] *= times
            row["burst_p50_us"] = [[value * times for value in bursts] for bursts in row["burst_p50_us"]]
    path.write_text(json.dumps(content))
    return path


def test_what_got_slower_fails_a_comparison(measured: tuple[str, Path], tmp_path: Path) -> None:
    old, new = measured[1], slowed(measured[1], tmp_path / "new.json", 50)
    compared = ["--compare", str(old), str(new), "--json", str(tmp_path / "c.json")]
    ended = CliRunner().invoke(bench, compared, catch_exceptions=False)
    assert ended.stdout.count(" slower\n") == 4
    changes = json.loads((tmp_path / "c.json").read_text())["changes"]
    assert {one["verdict"] for one in changes if one["backend"] == "edgeclf"} == {"slower"}
    with pytest.raises(CheckFailedError, match="edgeclf") as failed:
        CliRunner().invoke(bench, [*compared, "--fail-over", "10%"], catch_exceptions=False)
    assert failed.value.exit_code == 1
    unchanged = ["--compare", str(old), str(old), "--fail-over", "0.1"]
    assert CliRunner().invoke(bench, unchanged, catch_exceptions=False).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Give exported models"),
        (["a.onnx", "--show", "a.json"], "MODEL and --show"),
        (["a.onnx", "--fail-over", "10%"], "--compare"),
        (["a.onnx", "--against", "eager"], "--checkpoint"),
        (["a.onnx", "--baseline", "ort"], "--against ort"),
        (["a.onnx", "--json", "-", "--markdown", "-"], "standard output"),
        (["--compare", "a.json", "b.json", "--report", "out"], "no page"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        CliRunner().invoke(bench, arguments, catch_exceptions=False)


@pytest.mark.parametrize("content", ["{}", "[1]", "not JSON", '{"results": [{}]}'])
def test_what_is_no_result_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputFileError, match=r"a\.json"):
        CliRunner().invoke(bench, ["--show", str(tmp_path / "a.json")], catch_exceptions=False)


def test_shares() -> None:
    for wrong in ("ten", "-1%", "nan", "inf"):
        ended = CliRunner().invoke(bench, ["--compare", "a", "b", "--fail-over", wrong])
        assert ended.exit_code == 2
        assert "such as 10%" in ended.output


def test_a_device_needs_no_pytorch(model: Path, tmp_path: Path) -> None:
    """Neither does it need the ONNX tools or Matplotlib where no page is asked for."""
    hidden = tmp_path / "hidden"
    for name in ("torch", "onnx", "matplotlib", "lightning", "torchmetrics"):
        (hidden / name).mkdir(parents=True)
        (hidden / name / "__init__.py").write_text(f"raise ModuleNotFoundError('no {name} here', name='{name}')")
    done = subprocess.run(
        [sys.executable, "-m", "edgeclf", "bench", model, "--against", "ort", *QUICK, "--json", "-"],
        env=os.environ | {"PYTHONPATH": str(hidden)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {row["backend"] for row in document["results"]} == {"edgeclf", "ort"}
    assert document["left_out"] == []


def test_recommended_profile_runs(
    model: Path, checkpoints: dict[str, Path], dataset: Path, tmp_path: Path, shared_data: Path
) -> None:
    """Of the fp32 file and one whose numbers are too far from it; the profile then streams a recording."""
    out, checkpoint = tmp_path / "models", checkpoints["ConvRNNClassifier"]
    (fp16,) = export_checkpoint(ExportRequest(checkpoint, out, precisions=("fp16",), data=DataSet(dataset)))
    arguments = [str(model), str(fp16.path), "--recommend", str(dataset), *QUICK]
    profile, document = tmp_path / "p.json", tmp_path / "r.json"
    ended = CliRunner().invoke(
        bench, [*arguments, "--profile", str(profile), "--json", str(document)], catch_exceptions=False
    )
    assert ended.exit_code == 0
    found = json.loads(document.read_text())
    assert {Path(row["model"]).name for row in found["choices"]} == {model.name, fp16.path.name}
    assert all(set(row["kpis"]) >= {"accuracy", "recording_accuracy"} for row in found["choices"])
    assert [row["verdict"] for row in found["choices"]].count("recommended") == 1
    assert found["recommended"]["threads"] == 1
    lines = tmp_path / "p.jsonl"
    recording = shared_data / "recordings" / "evt2_sample.raw"
    streamed = CliRunner().invoke(
        run_stream,
        ["--profile", str(profile), str(recording), "--max-duration-ms", "60", "--output", str(lines)],
        catch_exceptions=False,
    )
    assert streamed.exit_code == 0
    assert lines.read_text().count("\n") > 0
