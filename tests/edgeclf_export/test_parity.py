from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from sklearn.metrics import accuracy_score

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data.dataset import recordings
from edgeclf.data.labels import LABEL_MAP_FILE, LabelEvents, write_box_labels
from edgeclf.evaluation import RecordingLogits
from edgeclf.utils_metrics import compute_kpis
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_export.parity import RATE_TOLERANCE, KpiComparison, ParityCheck, _auroc_tolerances
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.tensor_file import TensorFile

SIDE = 48  # of the data set's frames


@pytest.fixture(scope="module")
def exported(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("exported")
    return {name: next(iter(export_checkpoint(ExportRequest(checkpoints[name], out)))).path for name in checkpoints}


def test_exported_file_passes(
    case_name: str, checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path
) -> None:
    check = ParityCheck(checkpoints[case_name], exported[case_name], dataset)
    report = check.compare(list(check.exported_results()))
    assert report
    assert report.frames == 13 + 14 + 15 + 16 + 17
    assert report.top1_agreement == 1.0
    assert 0 < report.max_abs_logit_difference < 1e-4


def test_both_sides_are_what_running_each_recording_alone_gives(
    checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path
) -> None:
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    hyper, model = loaded.hyperparameters, loaded.build_model()
    check = ParityCheck(checkpoints["ConvRNNClassifier"], exported["ConvRNNClassifier"], dataset)
    results = list(check.exported_results())
    report = check.compare(results)
    right, predicted = [], []
    for recording, result in zip(
        recordings(dataset, "test", hyper.labels, hyper.delta_t, hyper.preprocess), results, strict=True
    ):
        with TensorFile(recording.path) as file, torch.inference_mode():
            alone = model(torch.from_numpy(file.read(0, len(file)))[:, None])[:, 0]
        torch.testing.assert_close(result.logits, alone, atol=1e-4, rtol=1e-4)
        right += recording.labels.tolist()
        predicted += alone.argmax(1).tolist()
    assert report.kpis["accuracy"].reference == pytest.approx(accuracy_score(right, predicted))


def test_recordings_are_paired_by_file_whatever_their_names_and_kinds(
    checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    """`a` comes before `a-1`, `a.h5` after `a-1.h5`; and a DAT file goes through the runtime's own streaming."""
    mixed = tmp_path / "mixed"
    (mixed / "test").mkdir(parents=True)
    shutil.copy(dataset / LABEL_MAP_FILE, mixed)
    for name, source in (("a", "bar_0"), ("a-1", "bar_4")):
        for ending in (".h5", "_bbox.npy"):
            shutil.copy(dataset / "test" / f"{source}{ending}", mixed / "test" / f"{name}{ending}")
    rng = np.random.default_rng(0)
    events = np.zeros(5000, [("t", "<u4"), ("xyp", "<u4")])
    events["t"] = np.sort(rng.integers(20_000, 100_000, 5000))
    events["xyp"] = rng.integers(0, SIDE, 5000) | rng.integers(0, SIDE, 5000) << 14 | rng.integers(0, 2, 5000) << 28
    header = f"% Width {SIDE}\n% Height {SIDE}\n% Version 2\n".encode()
    (mixed / "test" / "dat_td.dat").write_bytes(header + bytes([0, 8]) + events.tobytes())
    write_box_labels(
        mixed / "test" / "dat_bbox.npy", LabelEvents(np.array([50_000]), np.array([1], np.int64)), (SIDE, SIDE)
    )
    check = ParityCheck(checkpoints["ConvRNNClassifier"], exported["ConvRNNClassifier"], mixed)
    report = check.compare(list(check.exported_results()))
    assert report
    assert report.frames == 13 + 17 + 8
    assert report.max_abs_logit_difference < 1e-4


def test_names_and_fields_are_those_of_the_command_line_contract(
    checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path
) -> None:
    check = ParityCheck(checkpoints["LeNetClassifier"], exported["LeNetClassifier"], dataset)
    document = check.compare(list(check.exported_results())).to_dict()
    assert set(document) == {"passed", "frames", "top1_agreement", "max_abs_logit_difference", "kpis"}
    per_class = {f"{kpi}_{label}" for kpi in ("precision", "recall", "auroc") for label in ("background", "left")}
    always = {"accuracy", "recording_accuracy", "mean_recording_accuracy", "t2p_median_ms", "t2p_std_ms",
              "t2p_never_recognised", "t2p_never_recognised_rate"}  # fmt: skip
    assert always | per_class <= set(document["kpis"])
    assert set(document["kpis"]["accuracy"]) == {"reference", "exported", "difference", "tolerance", "passed"}


def test_an_exported_file_with_other_weights_fails(
    checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    model = onnx.load(exported["ConvRNNClassifier"])
    for weights in model.graph.initializer:
        if weights.name.endswith("head.module.2.bias"):
            changed = numpy_helper.to_array(weights) + np.array([0, 3, -3])
            weights.CopyFrom(numpy_helper.from_array(changed.astype("float32"), weights.name))
            break
    else:
        pytest.fail("the head's bias is not in the graph")
    path = tmp_path / "changed.onnx"
    onnx.save(model, path)
    check = ParityCheck(checkpoints["ConvRNNClassifier"], path, dataset)
    report = check.compare(list(check.exported_results()))
    assert not report
    assert report.top1_agreement < 1
    assert not report.to_dict()["passed"]


def test_another_model_is_refused(checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path) -> None:
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    other = replace(loaded.hyperparameters, classes=("up", "down"))
    weights = {f"net.{name}": value for name, value in loaded.weights.items()}
    path = dataset.parent / "other.ckpt"
    torch.save({"hyper_parameters": other.to_dict(), "state_dict": weights}, path)
    with pytest.raises(UsageError, match="another model than the checkpoint"):
        ParityCheck(path, exported["ConvRNNClassifier"], dataset)


def test_rounding_alone_fails_no_classifier_that_says_nearly_the_same_of_all_frames() -> None:
    """Its AUROC is that of rounding errors: 0.5 give or take what chance makes of so few frames."""
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    constant = torch.tensor([2.0, 0.5, -1.0]).expand(60, 3)
    sides = [
        RecordingLogits("a", labels, constant + 1e-7 * torch.randn(60, 3), "a.h5") for _ in ("reference", "exported")
    ]
    aurocs = [compute_kpis([side.result()], ("background", "a", "b"), 10_000)["auroc_a"] for side in sides]
    tolerances = _auroc_tolerances(sides[:1], ("background", "a", "b"))
    assert RATE_TOLERANCE < abs(aurocs[0] - aurocs[1]) <= tolerances["auroc_a"]


def test_scores_that_differ_leave_an_auroc_its_tolerance() -> None:
    torch.manual_seed(0)
    labels = torch.arange(60) % 3
    side = RecordingLogits("a", labels, torch.randn(60, 3), "a.h5")
    for name, tolerance in _auroc_tolerances([side], ("background", "a", "b")).items():
        assert tolerance == pytest.approx(RATE_TOLERANCE, abs=2 / (20 * 40)), name


@pytest.mark.parametrize(
    ("reference", "exported", "passed"),
    [
        (0.5, 0.5005, True),
        (0.5, 0.502, False),
        (math.nan, math.nan, True),
        (math.nan, 0.5, False),
        (0.5, math.nan, False),
    ],
)
def test_comparison_of_one_kpi(reference: float, exported: float, passed: bool) -> None:
    kpi = KpiComparison(reference, exported, 1e-3)
    assert kpi.passed is passed
    assert kpi.to_dict()["passed"] is passed
