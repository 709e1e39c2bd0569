from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeclf_export.accuracy import DataSet
from edgeclf_export.benchmark.request import BenchRequest
from edgeclf_export.benchmark.run import run_bench
from edgeclf_export.commands import bench_options
from edgeclf_export.commands.bench import bench
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_export.shipped import find_samples
from edgeclf_runtime.benchmark.document import from_document
from edgeclf_runtime.commands.run_stream import run_stream
from edgeclf_runtime.errors import CheckFailedError, DeviceError, EdgeclfError, InputFileError, UsageError

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
    assert "how long a step takes, paced" in text
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


def test_what_cannot_be_measured_any_more_fails_a_comparison(
    measured: tuple[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "edgeclf")  # remarks are for who has not said -q
    content = json.loads(measured[1].read_text())
    gone = from_document(content, "a.json").results[-1].setting
    content["results"] = [row for row in content["results"] if row["backend"] != gone.backend]
    content["left_out"] = [{"name": replace(gone, pace="back-to-back").name, "reason": "It died."}]
    (tmp_path / "new.json").write_text(json.dumps(content))
    compared = ["--compare", str(measured[1]), str(tmp_path / "new.json")]
    ended = CliRunner().invoke(bench, compared, catch_exceptions=False)
    assert "Not measured in the newer run" in ended.stderr
    with pytest.raises(CheckFailedError, match=f"{gone.backend} .*not measured any more"):
        CliRunner().invoke(bench, [*compared, "--fail-over", "1000%"], catch_exceptions=False)


def test_a_run_without_the_runtime_itself_is_a_failure(
    model: Path, measured: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured of the others is written first."""
    report = from_document(json.loads(measured[1].read_text()), "a.json")
    for backend, fails in (("edgeclf", True), ("edgeclf .ts", True), ("ort", False)):
        lost = replace(report.results[0].setting, backend=backend).name
        left = replace(report, left_out=[(lost, "It died.")])
        monkeypatch.setattr("edgeclf_export.commands.bench.run_bench", lambda *_, left=left: left)
        out = tmp_path / f"{backend}.json"
        with pytest.raises(EdgeclfError, match="It died") if fails else nullcontext():
            CliRunner().invoke(bench, [str(model), "--json", str(out)], catch_exceptions=False)
        assert json.loads(out.read_text())["left_out"][0]["reason"] == "It died."


def test_what_comes_before_the_measurement_shows(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, int, int]] = []
    monkeypatch.setattr("edgeclf_export.benchmark.run.measure", lambda *_: shown.append(("measured", 0, 0)) or ([], []))
    request = BenchRequest([model], find_samples().recording, recording_frames=0, with_limit=False)
    run_bench(request, lambda *told: shown.append(told))
    assert shown == [("Preparing", 0, 1), ("Preparing", 1, 1), ("measured", 0, 0)]


def test_a_device_that_is_not_there(model: Path) -> None:
    with pytest.raises(DeviceError, match="NoSuchExecutionProvider"):
        CliRunner().invoke(bench, [str(model), "--provider", "NoSuchExecutionProvider"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "Give exported models"),
        ("a.onnx --show a.json", "MODEL and --show"),
        ("a.onnx --fail-over 10%", "--fail-over goes with --compare"),
        ("a.onnx --against eager", "--checkpoint"),
        ("a.onnx --checkpoint a.ckpt", "Nothing runs the checkpoint"),
        ("a.onnx --baseline ort", "--against ort"),
        ("a.onnx --json - --markdown -", "standard output"),
        ("--recommend data", "Give exported models"),
        ("a.onnx --split val", "--split goes with --recommend"),
        ("a.onnx --tolerance 10%", "--tolerance goes with --recommend"),
        ("a.onnx --profile a.json", "--profile goes with --recommend"),
        ("a.onnx --paced-frames 3", "give --paced, too"),
        ("--show a.json --recommend data", "--recommend goes with --recommend"),
        ("--compare a.json b.json --report out", "--report goes with MODEL alone and --show"),
        *((f"--show a.json {option}", "goes with MODEL alone") for option in (
            "--threads 1", "--frames 50", "--device auto", "--tf32", "--against ort", "--source a.raw", "--no-limit",
            "--streams 1",
        )),
        *((f"a.onnx --recommend data {option}", "has no meaning with --recommend") for option in (
            "--provider X", "--provider-option a=b", "--tf32", "--bfloat16", "--allow-cpu-fallback", "--against ort",
            "--checkpoint a.ckpt", "--baseline edgeclf", "--streams 2", "--no-limit", "--paced", "--report out",
        )),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together(
    arguments: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.onnx").touch()
    with pytest.raises(UsageError, match=says):
        CliRunner().invoke(bench, arguments.split(), catch_exceptions=False)


def test_every_option_has_a_meaning_somewhere() -> None:
    taken = {name for names in bench_options._TAKEN.values() for name in names}
    assert taken == {parameter.name for parameter in bench.params if parameter.expose_value}


@pytest.mark.parametrize(
    "arguments",
    [
        "a.onnx --json a.onnx",
        "a.onnx --markdown ./a.onnx",
        "a.onnx --recommend data --profile a.onnx",
        "a.onnx --json x --markdown x",
        "a.onnx --json out/bench.html --report out",
        "a.onnx --recommend data --json a.profile.json",
        "a.onnx --source a.raw --json a.raw",
        "a.onnx --against eager --checkpoint a.ckpt --markdown a.ckpt",
        "--show a.json --json a.json",
        "--compare b.json a.json --markdown a.json",
    ],
)
def test_nothing_is_written_over_what_is_read(arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.onnx").touch()
    with pytest.raises(UsageError, match=r"would overwrite what is read|cannot both be written"):
        CliRunner().invoke(bench, arguments.split(), catch_exceptions=False)


def test_a_folder_that_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputFileError, match="this is a folder"):
        CliRunner().invoke(bench, [".", "--recommend", "data"], catch_exceptions=False)


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


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a device: without PyTorch, the ONNX tools and Matplotlib."""
    hidden = tmp_path_factory.mktemp("hidden")
    for name in ("torch", "onnx", "matplotlib", "lightning", "torchmetrics"):
        (hidden / name).mkdir(parents=True)
        (hidden / name / "__init__.py").write_text(f"raise ModuleNotFoundError('no {name} here', name='{name}')")
    return os.environ | {"PYTHONPATH": str(hidden)}


def edgeclf_bench(arguments: list[str | Path], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeclf", "bench", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_device_needs_no_pytorch(model: Path, without: dict[str, str]) -> None:
    done = edgeclf_bench([model, "--against", "ort", *QUICK, "--no-limit", "--json", "-"], without)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {row["backend"] for row in document["results"]} == {"edgeclf", "ort"}
    assert document["left_out"] == []


def test_sides_in_pytorch_say_what_they_need(
    model: Path, checkpoints: dict[str, Path], without: dict[str, str]
) -> None:
    sides = ["--against", "torchscript", "--against", "eager", "--checkpoint", checkpoints["ConvRNNClassifier"]]
    done = edgeclf_bench([model, *sides], without)
    assert done.returncode == 1
    assert "--against torchscript --against eager needs the package torch" in done.stderr
    assert "pip install 'edgeclf[export]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_recommended_profile_runs(
    model: Path, checkpoints: dict[str, Path], dataset: Path, tmp_path: Path, shared_data: Path
) -> None:
    """Of the fp32 file, another of its name, and one in fp16; the profile then streams a recording."""
    out, checkpoint = tmp_path / "models", checkpoints["ConvRNNClassifier"]
    (fp16,) = export_checkpoint(ExportRequest(checkpoint, out, precisions=("fp16",), data=DataSet(dataset)))
    other = tmp_path / "other" / model.name
    other.parent.mkdir()
    shutil.copy(model, other)
    files = [str(model), str(fp16.path), str(other)]
    arguments = [*files, "--recommend", str(dataset), "--device", "cpu", *QUICK]
    profile, document = tmp_path / "p.json", tmp_path / "r.json"
    ended = CliRunner().invoke(
        bench, [*arguments, "--profile", str(profile), "--json", str(document)], catch_exceptions=False
    )
    assert ended.exit_code == 0
    found = json.loads(document.read_text())
    assert sorted(row["model"] for row in found["choices"]) == sorted(files)
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
