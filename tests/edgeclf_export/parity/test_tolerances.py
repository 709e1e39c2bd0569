from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from edgeclf.evaluation import RecordingLogits
from edgeclf_export.accuracy import DataSet
from edgeclf_export.parity import KpiComparison
from edgeclf_export.parity.report import Side
from edgeclf_export.parity.tolerances import DEFAULTS, MOST_FLIPPED, family_of, flipped_by_rounding, tolerances
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.precision import PRECISIONS, Precision

LABELS = ("background", "a", "b")
DELTA_T = 20_000


def _side(logits: torch.Tensor) -> Side:
    recording = RecordingLogits("a", torch.arange(len(logits)) // 5 % 3, logits, "a.h5")
    return Side.of("a side", [recording], LABELS, DELTA_T)


@pytest.fixture
def reference() -> Side:
    torch.manual_seed(0)
    return _side(torch.randn(60, 3))


def _tolerances(
    reference: Side,
    exported: Side | None = None,
    precision: Precision = "fp32",
    given: Mapping[str, float] | None = None,
) -> dict[str, float]:
    return tolerances(reference, exported or reference, LABELS, DELTA_T, precision, given)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_coarser_precision_is_held_to_no_less(precision: Precision, reference: Side) -> None:
    names = tuple(reference.kpis)
    found = _tolerances(reference, precision=precision)
    assert tuple(found) == names
    assert found["accuracy"] == {"fp32": 1e-3}.get(precision, DataSet.max_accuracy_drop)
    assert found["t2p_median_ms"] == {"fp32": 1.0, "fp16": 20.0, "int8": 40.0}[precision]
    assert found["precision_a"] == found["recall_b"] == {"fp32": 1e-3, "fp16": 0.02, "int8": 0.05}[precision]
    assert found["t2p_never_recognised"] == {"int8": 1}.get(precision, 0)
    finer = _tolerances(reference)
    assert all(found[name] >= finer[name] for name in names)
    # One gesture more or less is one through the number of gestures; 60 frames, of which 20 are background, hold 8.
    assert found["t2p_never_recognised_rate"] == pytest.approx({"int8": 1 / 8}.get(precision, found["accuracy"]))


def test_what_is_given_goes_before_and_a_kpi_before_its_family(reference: Side) -> None:
    given = {"precision": 0.5, "precision_a": 0.25, "accuracy": 0.125, "t2p": 7}
    found = _tolerances(reference, given=given)
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
def test_a_tolerance_that_cannot_be_is_a_sentence(given: dict[str, float], says: str, reference: Side) -> None:
    with pytest.raises(UsageError, match=says):
        _tolerances(reference, given=given)


def _by_hand(reference: Side, exported: Side, output: int, same: float) -> float:
    """Pair by pair: what AUROC counts 1 for a pair in order, and 1/2 for a tie, differs by."""
    labels = reference.recordings[0].labels.tolist()
    scores = [side.recordings[0].result().probabilities[:, output].tolist() for side in (reference, exported)]
    flipped, pairs = 0.0, 0
    for i, shows in enumerate(labels):
        for k, other in enumerate(labels):
            if shows == output and other != output:
                pairs += 1
                one, two = (side[i] - side[k] for side in scores)
                if max(abs(one), abs(two)) <= same:
                    flipped += abs(np.sign(one) - np.sign(two)) / 2
    return flipped / pairs


def _auroc(reference: Side, exported: Side, label: str, precision: Precision = "fp32") -> KpiComparison:
    name = f"auroc_{label}"
    most = _tolerances(reference, exported, precision)[name]
    return KpiComparison(reference.kpis[name], exported.kpis[name], most)


def test_pairs_that_rounding_turns_are_let_through_to_the_last_one() -> None:
    """A classifier that says the same of a fifth of the frames, on which its AUROC is that of rounding errors."""
    torch.manual_seed(0)
    logits = 3 * torch.randn(60, 3)
    logits[::5] = torch.tensor([0.5, 0.25, -0.25])
    sides = [_side(logits + 1e-7 * torch.randint(-3, 4, (60, 3))) for _ in range(2)]
    shares = []
    for k, label in enumerate(LABELS):
        share = flipped_by_rounding(sides[0].recordings, sides[1].recordings, k, 1e-5)
        assert share == pytest.approx(_by_hand(*sides, k, 1e-5))
        auroc = _auroc(*sides, label)
        assert auroc.passed
        assert abs(auroc.difference) <= share + 1e-6
        shares.append(share)
        if abs(auroc.difference) > DEFAULTS["fp32"].rate:
            assert auroc.tolerance == pytest.approx(DEFAULTS["fp32"].rate + share)
    assert max(shares) > DEFAULTS["fp32"].rate


def test_pairs_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch, reference: Side) -> None:
    other = _side(reference.recordings[0].logits + 0.05 * torch.randn(60, 3))
    monkeypatch.setattr("edgeclf_export.parity.tolerances._PAIRS_AT_ONCE", 100)
    monkeypatch.setattr("edgeclf_export.parity.tolerances.MOST_FLIPPED", 1.0)
    share = flipped_by_rounding(reference.recordings, other.recordings, 1, 0.05)
    assert share == pytest.approx(_by_hand(reference, other, 1, 0.05))
    assert share > 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_confident_classifier_that_lost_a_class_fails(precision: Precision) -> None:
    """It never named `b`, but was always surer of it where it was shown: by what is as good as 0 in any precision."""
    torch.manual_seed(0)
    labels = torch.arange(60) // 5 % 3
    logits = torch.tensor([15.0, 0.0, 0.0]).repeat(60, 1)
    logits[labels == 1, :2] = torch.tensor([0.0, 15.0])
    logits[:, 2] = torch.where(labels == 2, 3.0, 0.0) + torch.randn(60)
    lost = logits.clone()
    lost[:, 2] = torch.randn(60)
    reference, exported = _side(logits), _side(lost)
    right = (labels == 2).numpy()
    for side, least, most in ((reference, 0.9, 1.0), (exported, 0.3, 0.7)):
        scores = side.recordings[0].result().probabilities[:, 2].numpy()
        assert scores.max() < DEFAULTS[precision].same_score or precision == "fp32"
        assert side.kpis["auroc_b"] == pytest.approx(roc_auc_score(right, scores), abs=1e-6)
        assert least < side.kpis["auroc_b"] < most
    auroc = _auroc(reference, exported, "b", precision)
    assert not auroc.passed
    assert auroc.tolerance <= DEFAULTS[precision].rate + MOST_FLIPPED


def test_an_auroc_that_is_the_same_has_its_plain_tolerance(reference: Side) -> None:
    for label in LABELS:
        assert _auroc(reference, reference, label).tolerance == DEFAULTS["fp32"].rate


def test_pairs_that_are_apart_on_one_side_are_no_rounding() -> None:
    """The exported file gives all frames the same, which the reference tells apart by far."""
    torch.manual_seed(0)
    reference, exported = _side(torch.randn(60, 3)), _side(torch.zeros(60, 3))
    auroc = _auroc(reference, exported, "a", "int8")
    assert auroc.exported == 0.5
    assert auroc.tolerance < DEFAULTS["int8"].rate + 0.02  # the few pairs that are close in the reference
    assert auroc.tolerance == pytest.approx(DEFAULTS["int8"].rate + _by_hand(reference, exported, 1, 2**-7))
