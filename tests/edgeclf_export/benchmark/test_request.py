from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeclf_export.accuracy import DataSet
from edgeclf_export.benchmark import request as request_module
from edgeclf_export.benchmark.request import (
    BenchRequest,
    Model,
    baseline_of,
    check_checkpoint,
    contenders_of,
    models_of,
    settled,
)
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_runtime.backends import DeviceOptions
from edgeclf_runtime.benchmark.candidates import Contender
from edgeclf_runtime.contract_file import read_contract
from edgeclf_runtime.errors import DeviceError, InputFileError, UsageError


@pytest.fixture(scope="module")
def files(checkpoints: dict[str, Path], dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small ConvRNN as ONNX in two precisions, and as TorchScript, and for OpenVINO."""
    out, checkpoint = tmp_path_factory.mktemp("out"), checkpoints["ConvRNNClassifier"]
    requests = [
        ExportRequest(checkpoint, out, ("onnx", "torchscript", "openvino")),
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


def prepared(paths: list[Path], tmp_path: Path, **given: Any) -> tuple[list[Model], list[Contender]]:
    """The models as the runtime opens them, and what is measured of them."""
    request = BenchRequest(paths, Path("a.raw"), **given)
    models = [settled(request, model, place) for model in models_of(paths) for place in request.places]
    return models, contenders_of(request, models, tmp_path)


def opened_on(device: str) -> Any:
    """What the runtime would have opened there."""
    return nullcontext(SimpleNamespace(device=device))


@pytest.mark.parametrize(
    ("options", "device", "of_file"),
    [
        (DeviceOptions(provider="CUDAExecutionProvider", provider_options={"device_id": "1"}), "cpu", "cpu"),
        (DeviceOptions(tf32=True), "cpu", "cpu"),
        (DeviceOptions(tf32=True), "cuda", "cuda"),
        (DeviceOptions("cuda"), "cuda", "cuda"),
        (DeviceOptions(provider="CUDAExecutionProvider"), "cuda", "CUDAExecutionProvider"),
    ],
)
def test_all_sides_are_asked_for_the_device_that_the_runtime_takes(
    options: DeviceOptions,
    device: str,
    of_file: str,
    files: dict[str, Path],
    checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_module.Classifier, "load", lambda *_, **__: opened_on(device))
    given = {"against": ("ort", "eager"), "checkpoint": checkpoints["ConvRNNClassifier"]}
    (model,), contenders = prepared([files["onnx"]], tmp_path, options=options, **given)
    asked = {one.setting.backend: one.setting.device for one in contenders}
    assert asked == {"edgeclf": of_file, "ort": of_file, "eager": device}
    if device == "cpu":
        assert model.options == DeviceOptions("cpu", 1)


def test_devices_side_by_side_in_one_run(
    files: dict[str, Path], checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any, options: DeviceOptions, **__: Any) -> Any:
        return opened_on(options.provider or options.device)

    monkeypatch.setattr(request_module.Classifier, "load", load)
    given = {"against": ("ort", "eager"), "checkpoint": checkpoints["ConvRNNClassifier"]}
    places = {"options": DeviceOptions("cpu"), "also_on": ("cuda", "TensorrtExecutionProvider")}
    models, contenders = prepared([files["onnx"]], tmp_path, **places, **given)
    assert [model.options.device for model in models] == ["cpu", "cuda", "auto"]
    asked = [(one.setting.backend, one.setting.device) for one in contenders]
    assert sorted(asked) == sorted(
        [(name, place) for name in ("edgeclf", "ort") for place in ("cpu", "cuda", "TensorrtExecutionProvider")]
        + [("eager", "cpu"), ("eager", "cuda")]
    )


def test_a_device_that_is_not_there_is_an_error_before_the_run(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="NoSuchExecutionProvider"):
        prepared([files["onnx"]], tmp_path, options=DeviceOptions(provider="NoSuchExecutionProvider"))


def test_precision_is_what_is_computed_in(files: dict[str, Path], tmp_path: Path) -> None:
    rough = DeviceOptions("cpu", bfloat16=True)
    _, contenders = prepared([files["onnx"]], tmp_path, against=("openvino", "ort"), options=rough)
    asked = {one.setting.backend: one.setting.precision for one in contenders}
    assert asked == {"edgeclf": "fp32", "openvino": "bf16", "ort": "fp32"}
    with pytest.raises(UsageError, match="bfloat16 is for OpenVINO"):
        prepared([files["onnx"]], tmp_path, options=rough)
    _, (of_xml,) = prepared([files["xml"]], tmp_path, options=rough)
    assert of_xml.setting.precision == "bf16"


def test_without_onnx_the_baseline_is_the_runtime_all_the_same(files: dict[str, Path], tmp_path: Path) -> None:
    request = BenchRequest([files["ts"], files["xml"]], Path("a.raw"))
    contenders = contenders_of(request, models_of(request.models), tmp_path)
    assert baseline_of(request, contenders) == "edgeclf .ts"
    with_onnx = contenders_of(request, models_of([files["xml"], files["onnx"]]), tmp_path)
    assert baseline_of(request, with_onnx) == "edgeclf"
    with pytest.raises(UsageError, match=r"ort is measured with \.onnx files"):
        contenders_of(replace(request, against=("ort",)), models_of(request.models), tmp_path)


def test_a_checkpoint_is_looked_at_before_the_run(
    files: dict[str, Path], checkpoints: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    contract = read_contract(files["onnx"])

    def check(checkpoint: Path) -> None:
        check_checkpoint(BenchRequest([files["onnx"]], Path("a.raw"), ("eager",), checkpoint), contract)

    check(checkpoints["ConvRNNClassifier"])
    assert not caplog.records
    check(checkpoints["LeNetClassifier"])
    assert "from another checkpoint" in caplog.text
    (tmp_path / "bad.ckpt").write_bytes(b"no checkpoint")
    for name in ("bad.ckpt", "no.ckpt"):
        with pytest.raises(InputFileError, match=name):
            check(tmp_path / name)


def test_a_checkpoint_that_nothing_runs() -> None:
    with pytest.raises(UsageError, match="Nothing runs the checkpoint"):
        BenchRequest([Path("a.onnx")], Path("a.raw"), ("ort",), Path("a.ckpt"))


def test_pytorch_wants_a_checkpoint() -> None:
    with pytest.raises(UsageError, match="--checkpoint"):
        BenchRequest([Path("a.onnx")], Path("a.raw"), ("ort", "eager"))


def test_the_baseline_must_be_measured() -> None:
    with pytest.raises(UsageError, match="--against ort"):
        BenchRequest([Path("a.onnx")], Path("a.raw"), baseline="ort")
