from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data_module import ClassificationDataModule
from edgeclf.evaluation import evaluate
from edgeclf.utils_metrics import RecordingResult, compute_kpis
from edgeclf_export.benchmark import device_kpis
from edgeclf_export.benchmark.device_kpis import rates, recordings_for, split_kpis
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_runtime.errors import EdgeclfError, InputFileError
from edgeclf_runtime.session import Classifier

SAMPLES = Path(__file__).parents[3] / "samples"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample checkpoint as ONNX."""
    (written,) = export_checkpoint(ExportRequest(SAMPLES / "gestures.ckpt", tmp_path_factory.mktemp("out")))
    return written.path


def _expected(results: list[tuple[np.ndarray, np.ndarray]], labels: tuple[str, ...]) -> dict[str, float]:
    """What the workstation's KPIs are."""
    given = [
        RecordingResult(
            str(k),
            torch.from_numpy(right),
            torch.from_numpy(chosen),
            torch.nn.functional.one_hot(torch.from_numpy(chosen), len(labels)).float(),
        )
        for k, (chosen, right) in enumerate(results)
    ]
    return compute_kpis(given, labels, 10_000)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("labels", [("background", "a", "b"), ("a", "background", "b", "c"), ("a", "b", "c")])
def test_equal_those_of_the_workstation(labels: tuple[str, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    results = []
    for _ in range(9):
        frames = int(rng.integers(1, 12))
        # Frames that are left out, recordings of background alone, and ties are all frequent.
        right = rng.integers(-1, int(rng.integers(1, len(labels) + 1)), frames)
        chosen = np.where(rng.random(frames) < 0.5, np.maximum(right, 0), rng.integers(0, len(labels), frames))
        results.append((chosen, right))
    results.append((np.array([1, 1]), np.array([-1, -1])))  # no frame counts
    expected = _expected(results, labels)
    found = rates(results, labels)
    assert list(found) == ["accuracy", "recording_accuracy", "mean_recording_accuracy"]
    assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-6)


def test_by_hand() -> None:
    labels = ("background", "a", "b")
    results = [
        (np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 2, 1])),  # the vote is without background's frames
        (np.array([2, 1, 0, 0]), np.array([1, 1, -1, 0])),  # 1 and 2 tie, the first is taken
        (np.array([1, 0, 0]), np.array([0, 0, 0])),  # background only
        (np.array([2, 2]), np.array([1, 1])),
    ]
    assert rates(results, labels) == pytest.approx(
        {"accuracy": 8 / 14, "recording_accuracy": 3 / 4, "mean_recording_accuracy": (4 / 6 + 2 / 3 + 2 / 3 + 0) / 4}
    )


def test_no_frame_counts() -> None:
    with pytest.raises(EdgeclfError, match="without a labelled frame"):
        rates([(np.array([0]), np.array([-1]))], ("background", "a"))


def test_of_the_sample_data_set(exported: Path) -> None:
    checkpoint = load_checkpoint(SAMPLES / "gestures.ckpt")
    data = ClassificationDataModule(checkpoint.hyperparameters.to_dict(), SAMPLES / "gestures")
    results = [one.result() for one in evaluate(checkpoint.build_model(), data.sequences("test"))]
    expected = compute_kpis(results, checkpoint.hyperparameters.labels, checkpoint.hyperparameters.delta_t)
    with Classifier.load(exported, "cpu", streams=2, threads=1, rolling_window=5) as classifier:
        for _ in range(2):  # from cleared memory, whatever was before
            found = split_kpis(classifier, SAMPLES / "gestures")
            assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-6)
        labelled = [one.labels.tolist() for one in recordings_for(classifier.contract, SAMPLES / "gestures")]
    assert labelled == [one.labels.tolist() for one in data.split("test")]
    assert 0 < found["accuracy"] < 1


def test_split_that_is_not_there(exported: Path) -> None:
    with (
        Classifier.load(exported, "cpu", threads=1) as classifier,
        pytest.raises(InputFileError, match="has no folder val"),
    ):
        split_kpis(classifier, SAMPLES / "gestures", "val")


def test_needs_no_torch() -> None:
    code = f"import sys; sys.modules['torch'] = None; import {device_kpis.__name__}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
