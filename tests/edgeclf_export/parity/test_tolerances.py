from __future__ import annotations

import math

import pytest
import torch

from edgeclf.evaluation import RecordingLogits
from edgeclf.utils_metrics import compute_kpis
from edgeclf_export.accuracy import DataSet
from edgeclf_export.parity.tolerances import DEFAULTS, family_of, tolerances
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.precision import PRECISIONS, Precision

LABELS = ("background", "a", "b")
DELTA_T = 20_000


def _recording(logits: torch.Tensor) -> RecordingLogits:
    return RecordingLogits("a", torch.arange(len(logits)) // 5 % 3, logits, "a.h5")


@pytest.fixture
def reference() -> list[RecordingLogits]:
    torch.manual_seed(0)
    return [_recording(torch.randn(60, 3))]


def _kpis(side: list[RecordingLogits]) -> tuple[str, ...]:
    return tuple(compute_kpis([recording.result() for recording in side], LABELS, DELTA_T))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_coarser_precision_is_held_to_no_less(precision: Precision, reference: list[RecordingLogits]) -> None:
    names = _kpis(reference)
    found = tolerances(names, precision, reference, LABELS, DELTA_T)
    assert tuple(found) == names
    assert found["accuracy"] == {"fp32": 1e-3}.get(precision, DataSet.max_accuracy_drop)
    assert found["t2p_median_ms"] == {"fp32": 1.0, "fp16": 20.0, "int8": 40.0}[precision]
    assert found["precision_a"] == found["recall_b"] == {"fp32": 1e-3, "fp16": 0.02, "int8": 0.05}[precision]
    assert found["t2p_never_recognised"] == {"int8": 1}.get(precision, 0)
    finer = tolerances(names, "fp32", reference, LABELS, DELTA_T)
    assert all(found[name] >= finer[name] for name in names)
    # One gesture more or less is one through the number of gestures; 60 frames, of which 20 are background, hold 8.
    assert found["t2p_never_recognised_rate"] == pytest.approx({"int8": 1 / 8}.get(precision, found["accuracy"]))


def test_what_is_given_goes_before_and_a_kpi_before_its_family(reference: list[RecordingLogits]) -> None:
    given = {"precision": 0.5, "precision_a": 0.25, "accuracy": 0.125, "t2p": 7}
    found = tolerances(_kpis(reference), "fp32", reference, LABELS, DELTA_T, given)
    assert (found["precision_a"], found["precision_b"], found["accuracy"]) == (0.25, 0.5, 0.125)
    assert (found["t2p_median_ms"], found["t2p_std_ms"], found["t2p_never_recognised"]) == (7, 7, 0)
    assert found["recording_accuracy"] == found["recall_a"] == DEFAULTS["fp32"].rate


def test_families() -> None:
    assert [family_of(name) for name in ("recall_x", "auroc_a_b", "t2p_std_ms")] == ["recall", "auroc", "t2p"]
    for name in ("recording_accuracy", "t2p_never_recognised", "expected_calibration_error", "precision_"):
        assert family_of(name) is None


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"precison": 0.1}, "There is no KPI 'precison'"),
        ({"recall_c": 0.1}, "There is no KPI 'recall_c'"),
        ({"accuracy": -0.1}, "The tolerance of accuracy is -0.1"),
        ({"accuracy": math.nan}, "The tolerance of accuracy is nan"),
    ],
)
def test_a_tolerance_that_cannot_be_is_a_sentence(
    given: dict[str, float], says: str, reference: list[RecordingLogits]
) -> None:
    with pytest.raises(UsageError, match=says):
        tolerances(_kpis(reference), "fp32", reference, LABELS, DELTA_T, given)


def test_rounding_alone_fails_no_classifier_that_says_nearly_the_same_of_all_frames() -> None:
    """Its AUROC is that of rounding errors: 0.5 give or take what chance makes of so few frames."""
    torch.manual_seed(0)
    constant = torch.tensor([2.0, 0.5, -1.0]).expand(60, 3)
    sides = [[_recording(constant + 1e-7 * torch.randn(60, 3))] for _ in ("reference", "exported")]
    aurocs = [compute_kpis([side[0].result()], LABELS, DELTA_T)["auroc_a"] for side in sides]
    found = tolerances(_kpis(sides[0]), "fp32", sides[0], LABELS, DELTA_T)
    assert DEFAULTS["fp32"].rate < abs(aurocs[0] - aurocs[1]) <= found["auroc_a"]


def test_scores_that_differ_leave_an_auroc_its_tolerance(reference: list[RecordingLogits]) -> None:
    found = tolerances(_kpis(reference), "fp32", reference, LABELS, DELTA_T)
    for label in LABELS:
        assert found[f"auroc_{label}"] == pytest.approx(DEFAULTS["fp32"].rate, abs=2 / (20 * 40)), label
