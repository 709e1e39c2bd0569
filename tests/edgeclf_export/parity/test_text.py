from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edgeclf_export.parity.report import Drift, DriftVerdict, KpiComparison, McNemar, ParityReport
from edgeclf_export.parity.text import (
    drift_text,
    findings,
    frames_text,
    kpi_rows,
    kpis_text,
    mcnemar_text,
    parting_text,
    reasons_text,
)
from tests.edgeclf_export.parity.made_up import FOUR, made_up

NAN = math.nan


@pytest.fixture(scope="module")
def report() -> ParityReport:
    return made_up(FOUR)


@pytest.fixture(scope="module")
def same() -> ParityReport:
    return made_up(FOUR, noise=1e-6)


def test_kpis_have_their_units_and_what_is_undefined_is_a_dash(report: ParityReport) -> None:
    kpis = {
        "accuracy": KpiComparison(0.5, 0.25, 0.0125),
        "recall_rock": KpiComparison(NAN, NAN, 1e-3),
        "auroc_rock": KpiComparison(0.5, NAN, 1e-3),
        "t2p_median_ms": KpiComparison(40.0, 60.0, 1.0),
        "t2p_never_recognised": KpiComparison(3, 3, 0),
    }
    changed = replace(report, kpis=kpis)
    assert kpi_rows(changed) == [
        ("accuracy", "0.5000", "0.2500", "-2.5e-01", "0.0125", "failed"),
        ("recall_rock", "–", "–", "–", "0.001", "passed"),
        ("auroc_rock", "0.5000", "–", "–", "0.001", "failed"),
        ("t2p_median_ms", "40.0", "60.0", "+2.0e+01", "1", "failed"),
        ("t2p_never_recognised", "3", "3", "0", "0", "passed"),
    ]
    assert kpis_text(changed).startswith("3 of 5 differ beyond their tolerance. –: not defined")
    assert "–" not in kpis_text(replace(report, kpis={"accuracy": kpis["accuracy"]}))


def failing(*names: str) -> dict[str, KpiComparison]:
    return {name: KpiComparison(1.0, 0.0, 0.1) for name in names}


@pytest.mark.parametrize(
    ("names", "problems", "words"),
    [
        ("a", (), "a differs beyond tolerance"),
        ("ab", (), "a, b differ beyond tolerance"),
        ("abcde", (), "a, b, c and 2 more differ beyond tolerance"),
        ("", ("its state is not fed back", "it is late"), "its state is not fed back; it is late"),
        ("a", ("its state is not fed back",), "a differs beyond tolerance; its state is not fed back"),
        ("", (), ""),
    ],
)
def test_every_reason_is_named(names: str, problems: tuple[str, ...], words: str, report: ParityReport) -> None:
    kpis = failing(*names) or {"accuracy": KpiComparison(1.0, 1.0, 0.1)}
    changed = replace(report, kpis=kpis, problems=problems)
    assert reasons_text(changed) == words
    assert bool(changed) is not bool(words)


def test_what_was_found_names_both_sides_and_counts(report: ParityReport, same: ParityReport) -> None:
    found = dict(findings(replace(report, ties=1, max_abs_logit_difference=math.inf)))
    assert found["compared"] == "PyTorch and model.int8.onnx, cpu"
    assert found["over"] == "480 frames of 8 recordings"
    assert f"all but {report.disagreements}; 1 of those are ties" in found["same class"]
    assert found["largest difference of a logit"] == "inf"
    assert dict(findings(same))["same class"] == "100.0000% of the frames"
    assert frames_text(1) == "1 frame"


def test_the_first_parting_is_where_both_sides_own_choices_differ(report: ParityReport, same: ParityReport) -> None:
    first, largest = report.first_parting, report.largest_parting
    assert first is not None
    assert (first.recording, first.frame) != (largest.recording, largest.frame)
    text = parting_text(report)
    assert f"In frame {first.frame} of {first.recording}, which ends at {first.t_us / 1e6:.3f} s, " in text
    for label, scores in ((first.reference_label, first.reference), (first.exported_label, first.exported)):
        assert f"{label} ({scores[label]:.4f})" in text
    assert f"differ most in frame {largest.frame} of {largest.recording}" in text
    assert "differ most" not in parting_text(replace(report, largest_parting=first))
    assert parting_text(same).startswith("Both name the same class in every frame.")
    broken = replace(first, exported=dict.fromkeys(FOUR, NAN))
    assert f"{first.exported_label} (not a number)" in parting_text(replace(report, first_parting=broken))


@pytest.mark.parametrize(
    ("recordings", "frames", "words", "not_words"),
    [
        (McNemar(0, 0, 1.0), McNemar(0, 0, 1.0), "No recording is named rightly by one side alone", "p ="),
        (McNemar(0, 0, 1.0), McNemar(90, 0, 1e-20), "neither is shown to be the better", "hardly chance"),
        (McNemar(3, 2, 1.0), McNemar(90, 0, 1e-20), "may well be chance", "hardly chance"),
        (McNemar(1, 0, 1.0), McNemar(90, 2, 1e-20), "it is 90 and 2 (p = 1e-20); but frames of one", "hardly chance"),
        (McNemar(1, 0, 1.0), McNemar(0, 0, 1.0), "alone names 1 recording rightly and", "but frames"),
        (McNemar(30, 2, 1e-6), McNemar(9, 9, 1.0), "30 recordings rightly and the exported file alone 2", "may well"),
        (McNemar(30, 2, 1e-6), McNemar(9, 9, 1.0), "the reference is the better", "may well"),
        (McNemar(2, 30, 1e-6), McNemar(9, 9, 1.0), "the exported file is the better", "may well"),
    ],
)
def test_recordings_decide_which_side_is_better_and_frames_do_not(
    recordings: McNemar, frames: McNemar, words: str, not_words: str, report: ParityReport
) -> None:
    text = mcnemar_text(replace(report, recordings_mcnemar=recordings, mcnemar=frames))
    assert words in text
    assert not_words not in text


def drift(early: float, late: float, verdict: DriftVerdict = "even") -> Drift:
    values = np.array([early, early, late])
    return Drift(values, values, np.full(3, 3), early, late, verdict)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (drift(0, 0), "the same to the last bit"),
        (
            drift(1e-6, 2e-6),
            "1.0e-06 early in the median recording and 2.0e-06 late in it: it does not go on growing.",
        ),
        (drift(1e-6, 1e-3, "grows"), "1.0e-03 late in it: it goes on growing."),
        (drift(0.5, 0.5, "apart"), "more than the file's precision explains."),
        (drift(1e-6, math.inf, "apart"), "not finite late in it: more than the file's precision explains. In 1 of 3"),
        (drift(0, NAN, "apart"), "In 1 of 3 frames it is not finite in some recording."),
    ],
)
def test_drift_in_words(found: Drift, words: str, report: ParityReport) -> None:
    assert words in drift_text(replace(report, drift=found))


def test_a_drift_that_was_not_measured_says_why(report: ParityReport) -> None:
    assert drift_text(replace(report, drift=None, no_drift="nobody asked")) == "Not compared: nobody asked."
