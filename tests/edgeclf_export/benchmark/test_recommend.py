from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeclf_export.benchmark import recommend as module
from edgeclf_export.benchmark.recommend import Choice, Recommendation, choices, devices_here, recommend, reference_of
from edgeclf_export.benchmark.torch_candidates import write_metavision, write_torchscript
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_runtime.backends import DeviceOptions
from edgeclf_runtime.benchmark.results import Result, Setting
from edgeclf_runtime.benchmark.statistics import summed_up
from edgeclf_runtime.contract import METADATA_KEY
from edgeclf_runtime.contract_file import read_contract
from edgeclf_runtime.errors import EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.machine.providers import RuntimeReport
from edgeclf_runtime.session import Classifier

FP32, INT8, XML = Path("a.onnx"), Path("a.int8.onnx"), Path("a.xml")
RIGHT = {"accuracy": 0.9, "recording_accuracy": 1.0}


@pytest.fixture(scope="module")
def files(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The small ConvRNN in every format that the runtime opens, by the end of the name.

    What fp16.onnx holds is only said to be in fp16.
    """
    out, checkpoint = tmp_path_factory.mktemp("out"), checkpoints["ConvRNNClassifier"]
    paths = [one.path for one in export_checkpoint(ExportRequest(checkpoint, out, ("onnx", "openvino")))]
    paths += [
        write_torchscript(checkpoint, out),
        write_metavision(checkpoint, out),
        out / "ConvRNNClassifier.fp16.onnx",
    ]
    model = onnx.load(out / "ConvRNNClassifier.onnx")
    contract = replace(read_contract(out / "ConvRNNClassifier.onnx"), precision="fp16")
    onnx.helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    onnx.save(model, paths[-1])
    return {path.name.removeprefix("ConvRNNClassifier."): path for path in paths}


def measured(choice: Choice, median: float, noise: float = 0.01, cpu: float = 100.0) -> Result:
    """A result of three processes and twelve rounds."""
    rng = np.random.default_rng(int(median * 1000))
    latencies = median * (1 + noise * rng.standard_normal((3, 12, 20)))
    setting = Setting(choice.path.stem, "edgeclf", choice.device, "fp32", choice.threads or 2)
    return Result(setting, summed_up(latencies), 1e6 / median, cpu, 2 * median, 10, 50)


def recommended(results: dict[Choice, Result], kpis: dict[Choice, dict[str, float]], **given: float) -> Recommendation:
    return recommend(results, {Choice(FP32): RIGHT} | kpis, Choice(FP32), **given)


def verdicts(found: Recommendation) -> dict[Choice, str]:
    return {row.choice: row.verdict for row in found.rows}


def test_the_fastest_whose_kpis_are_near() -> None:
    one, two, small = Choice(FP32, threads=1), Choice(FP32, threads=2), Choice(INT8, threads=1)
    results = {one: measured(one, 900), two: measured(two, 500), small: measured(small, 300)}
    found = recommended(results, {Choice(INT8): {"accuracy": 0.8, "recording_accuracy": 1.0}})
    assert found.row.choice == two
    assert [row.choice for row in found.rows] == [small, two, one]
    assert verdicts(found) == {small: "refused", two: "recommended", one: "slower"}
    assert found.rows[0].why == "accuracy is 0.8000, the reference's 0.9000"
    assert found.rows[2].why.startswith("takes 1.8")
    near = recommended(results, {Choice(INT8): {"accuracy": 0.8, "recording_accuracy": 1.0}}, tolerance=0.1)
    assert near.row.choice == small


@pytest.mark.parametrize(
    ("kpis", "passes"),
    [
        (RIGHT, True),
        ({"accuracy": 1.0, "recording_accuracy": 1.0}, True),
        ({"accuracy": 0.89, "recording_accuracy": 0.99}, True),
        ({"accuracy": 0.889, "recording_accuracy": 1.0}, False),
        ({"accuracy": 0.99, "recording_accuracy": 0.98}, False),
        ({"accuracy": nan, "recording_accuracy": 1.0}, False),
        ({"accuracy": 0.9}, False),
    ],
)
def test_every_kpi_counts(kpis: dict[str, float], passes: bool) -> None:
    slow, small = Choice(FP32, threads=1), Choice(INT8, threads=1)
    found = recommended({slow: measured(slow, 900), small: measured(small, 300)}, {Choice(INT8): kpis})
    assert found.row.choice == (small if passes else slow)


def test_kpi_that_the_reference_lacks_counts_for_nothing() -> None:
    small = Choice(INT8, threads=1)
    kpis = {Choice(FP32): {"accuracy": nan}, Choice(INT8): {"accuracy": nan}}
    assert recommend({small: measured(small, 300)}, kpis, Choice(FP32)).row.choice == small


@pytest.mark.parametrize(("noise", "fewest"), [(0.3, True), (0.0001, False)])
def test_as_fast_within_noise_goes_to_fewer_threads(noise: float, fewest: bool) -> None:
    one, two = Choice(FP32, threads=1), Choice(FP32, threads=2)
    found = recommended({two: measured(two, 500, noise), one: measured(one, 505, noise)}, {})
    assert found.row.choice == (one if fewest else two)
    assert verdicts(found) == {
        one: "recommended" if fewest else "slower",
        two: "as fast" if fewest else "recommended",
    }


def test_as_fast_with_as_many_threads_goes_to_less_of_the_cpu() -> None:
    a, b = Choice(FP32, threads=2), Choice(XML, threads=2)
    results = {a: measured(a, 500, 0.3, cpu=900), b: measured(b, 501, 0.3, cpu=800)}
    assert recommended(results, {Choice(XML): RIGHT}).row.choice == b
    on_gpu = Choice(FP32, "cuda")
    results[on_gpu] = measured(on_gpu, 502, 0.3, cpu=1000)
    found = recommended(results, {Choice(XML): RIGHT, on_gpu: RIGHT})
    assert found.row.choice == on_gpu  # the threads of a step on a GPU are the GPU's


@pytest.mark.parametrize(("device", "wins"), [("CoreMLExecutionProvider", True), ("XnnpackExecutionProvider", False)])
def test_a_step_off_the_cpu_costs_one_thread(device: str, wins: bool) -> None:
    one, elsewhere = Choice(FP32, threads=1), Choice(FP32, device)
    results = {
        one: measured(one, 500, 0.3, cpu=900),
        elsewhere: measured(elsewhere, 501, 0.3, cpu=800),  # with as many threads as there are cores, two
    }
    assert (recommended(results, {elsewhere: RIGHT}).row.choice == elsewhere) == wins


def test_kpis_are_of_the_arithmetic() -> None:
    plain, rough = Choice(XML, threads=2), Choice(XML, threads=2, bfloat16=True)
    kpis = {Choice(XML): RIGHT, Choice(XML, bfloat16=True): {"accuracy": 0.1, "recording_accuracy": 0.1}}
    found = recommended({plain: measured(plain, 500), rough: measured(rough, 200)}, kpis)
    assert verdicts(found) == {rough: "refused", plain: "recommended"}


def test_nothing_is_near() -> None:
    small = Choice(INT8, threads=1)
    with pytest.raises(EdgeclfError, match=r"Nothing .* within 0\.01 of those of a\.onnx"):
        recommended({small: measured(small, 300)}, {Choice(INT8): {"accuracy": 0.0, "recording_accuracy": 0.0}})


def test_document() -> None:
    one = Choice(FP32, threads=1)
    found = recommended({one: measured(one, 500)}, {})
    row = {
        "model": "a.onnx",
        "device": "cpu",
        "threads": 1,
        "bfloat16": False,
        "p50_us": pytest.approx(500, rel=0.01),
        "kpis": RIGHT,
        "verdict": "recommended",
        "why": found.row.why,
    }
    assert found.to_dict() == {"recommended": row, "reference": "a.onnx", "choices": [row]}
    assert found.measured["kpis"] == RIGHT
    assert found.measured["p50_us"] == row["p50_us"]


@pytest.mark.parametrize(
    ("choice", "options", "name"),
    [
        (Choice(FP32), DeviceOptions("cpu"), "a.onnx cpu"),
        (Choice(FP32, threads=1), DeviceOptions("cpu", 1), "a.onnx cpu, 1 thread"),
        (Choice(FP32, "cuda", 2), DeviceOptions("cuda", 2), "a.onnx cuda, 2 threads"),
        (Choice(XML, threads=2, bfloat16=True), DeviceOptions("cpu", 2, bfloat16=True), "a.xml bf16 cpu, 2 threads"),
        (
            Choice(FP32, "OpenVINOExecutionProvider"),
            DeviceOptions(provider="OpenVINOExecutionProvider"),
            "a.onnx OpenVINOExecutionProvider",
        ),
    ],
)
def test_a_choice(choice: Choice, options: DeviceOptions, name: str) -> None:
    assert choice.options == options
    assert str(choice) == name


def test_devices_that_start() -> None:
    found = {
        "TensorrtExecutionProvider": "no libnvinfer",
        "CUDAExecutionProvider": None,
        "OpenVINOExecutionProvider": None,
        "AzureExecutionProvider": None,
        "CPUExecutionProvider": None,
    }
    assert devices_here(RuntimeReport("onnxruntime", found)) == ["cpu", "cuda", "OpenVINOExecutionProvider"]


def test_every_way_to_run_files(files: dict[str, Path]) -> None:
    onnx, half, script, xml = (files[end] for end in ("onnx", "fp16.onnx", "ts", "xml"))
    given = [onnx, half, script, xml]
    assert choices(given, ["cpu"], [1, 2]) == [Choice(path, "cpu", count) for path in given for count in (1, 2)]
    found = choices(given, ["cpu", "cuda", "X"], [2], has_bfloat16=True)
    assert set(found) == {
        *(Choice(path, "cpu", 2) for path in given),
        *(Choice(path, "cuda") for path in (onnx, half, script)),
        *(Choice(path, "X") for path in (onnx, half)),
        Choice(xml, "cpu", 2, bfloat16=True),
    }
    assert len(set(found)) == len(found)


def test_choices_run(files: dict[str, Path]) -> None:
    folder = files["model_classifier.ptjit"].parent
    for choice in choices([files["onnx"], files["xml"], folder], ["cpu"], [1]):
        with Classifier.load(choice.path, options=choice.options) as classifier:
            frames = np.zeros((1, *classifier.contract.frame_shape), np.float32)
            assert classifier.step(frames).probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_the_reference(files: dict[str, Path]) -> None:
    given = [files["xml"], files["fp16.onnx"], files["onnx"]]
    assert reference_of(given) == Choice(files["onnx"], "cpu", None)
    with pytest.raises(UsageError, match=r"None of the files is an \.onnx in fp32"):
        reference_of(given[:2])


def test_files_that_cannot_stand_in_for_each_other(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputFileError, match="no such model file"):
        choices([files["onnx"], tmp_path / "no.onnx"], ["cpu"], [1])
    read: Callable[[Path], object] = module.read_contract
    changed: Sequence[dict[str, object]] = ({"delta_t": 20_000}, {"labels": ("background", "up", "down")})
    for change in changed:
        monkeypatch.setattr(
            module, "read_contract", lambda path, c=change: replace(read(path), **c if path.suffix == ".ts" else {})
        )
        with pytest.raises(UsageError, match="cannot stand in for each other: one names"):
            choices([files["onnx"], files["ts"]], ["cpu"], [1])


def test_needs_no_torch() -> None:
    code = f"import sys; sys.modules['torch'] = None; import {module.__name__}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
