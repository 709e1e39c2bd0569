from __future__ import annotations

from pathlib import Path

import pytest

from edgeclf_export.accuracy import DataSet
from edgeclf_export.benchmark.request import BenchRequest, contenders_of, models_of
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_runtime.errors import UsageError


@pytest.fixture(scope="module")
def files(checkpoints: dict[str, Path], dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small ConvRNN as ONNX in two precisions, and as TorchScript."""
    out, checkpoint = tmp_path_factory.mktemp("out"), checkpoints["ConvRNNClassifier"]
    requests = [
        ExportRequest(checkpoint, out, ("onnx", "torchscript")),
        ExportRequest(checkpoint, out, precisions=("fp16",), data=DataSet(dataset)),
    ]
    paths = [one.path for request in requests for one in export_checkpoint(request)]
    return {path.name.removeprefix("ConvRNNClassifier."): path for path in paths}


def test_names_leave_precisions_out(files: dict[str, Path]) -> None:
    models = models_of([files["onnx"], files["fp16.onnx"], files["ts"]])
    assert {model.name for model in models} == {"ConvRNNClassifier"}
    assert [model.contract.precision for model in models] == ["fp32", "fp16", "fp32"]


def test_files_that_results_could_not_tell_apart(files: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / files["onnx"].name
    copy.write_bytes(files["onnx"].read_bytes())
    with pytest.raises(UsageError, match="rename one"):
        models_of([files["onnx"], copy])


def test_every_number_of_threads_and_streams(
    files: dict[str, Path], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    request = BenchRequest(
        [files["onnx"], files["fp16.onnx"], files["ts"]],
        Path("a.raw"),
        ("ort", "eager"),
        checkpoints["ConvRNNClassifier"],
        threads=(1, 2),
        streams=(1, 4),
    )
    settings = [one.setting for one in contenders_of(request, models_of(request.models), tmp_path)]
    assert len(settings) == len(set(settings)) == 4 * (3 + 2 + 1)
    assert {(one.threads, one.streams) for one in settings} == {(1, 1), (1, 4), (2, 1), (2, 4)}
    assert [one.backend for one in settings if one.threads == 1 and one.streams == 1 and one.precision == "fp16"] == [
        "edgeclf",
        "ort",
    ]


def test_pytorch_wants_a_checkpoint() -> None:
    with pytest.raises(UsageError, match="--checkpoint"):
        BenchRequest([Path("a.onnx")], Path("a.raw"), ("ort", "eager"))


def test_the_baseline_must_be_measured() -> None:
    with pytest.raises(UsageError, match="--against ort"):
        BenchRequest([Path("a.onnx")], Path("a.raw"), baseline="ort")
