from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeclf.evaluation import RecordingLogits
from edgeclf_export.parity import KpiComparison, ParityReport
from edgeclf_export.parity.drift import drift_of
from edgeclf_export.parity.report import McNemar, Parting, Side

PARTING = Parting("a", 3, 40, "x", "y", {"x": 0.6, "y": 0.4}, {"x": 0.4, "y": 0.6})


def _report(**kpis: KpiComparison) -> ParityReport:
    recordings = [RecordingLogits("a", torch.zeros(4, dtype=torch.int64), torch.zeros(4, 2))]
    sides = [Side(name, recordings, {}) for name in ("PyTorch", "a.onnx, cpu")]
    drift = drift_of([[0.0, 1e-3], [0.0]])
    return ParityReport(*sides, ("x", "y"), 10, 4, 1, 0, 0.5, kpis, PARTING, PARTING, McNemar(1, 0, 1.0), drift, "int8")


RIGHT, WRONG = KpiComparison(0.5, 0.5, 1e-3), KpiComparison(0.5, 0.25, 1e-3)


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


def test_true_where_every_kpi_passed() -> None:
    assert _report(accuracy=RIGHT, recall_x=RIGHT)
    assert not _report(accuracy=RIGHT, recall_x=WRONG)
    assert not _report()


def test_what_pytest_shows_of_a_failed_one_names_the_kpis() -> None:
    failed = _report(accuracy=RIGHT, recall_x=WRONG)
    assert repr(failed) == ("<ParityReport FAILED: recall_x -2.5e-01 (±0.001); same class 75.00% of 4 frames>")
    many = _report(**{f"recall_of_a_class_{k}": WRONG for k in range(9)})
    assert "6 more" in repr(many)
    assert len(repr(many)) < 240  # beyond which pytest cuts
    assert repr(_report(accuracy=RIGHT)) == "<ParityReport passed: same class 75.00% of 4 frames>"
    assert str(failed) == repr(failed)


def test_document_is_json_and_keeps_the_names_that_scripts_rely_on() -> None:
    document = json.loads(json.dumps(_report(accuracy=RIGHT, recall_x=WRONG).to_dict()))
    assert {"passed", "frames", "top1_agreement", "max_abs_logit_difference", "kpis"} <= set(document)
    assert document["kpis"]["recall_x"] == {
        "reference": 0.5, "exported": 0.25, "tolerance": 1e-3, "difference": -0.25, "passed": False,
    }  # fmt: skip
    assert (document["disagreements"], document["ties"], document["top1_agreement"]) == (1, 0, 0.75)
    assert document["sides"] == {"reference": "PyTorch", "exported": "a.onnx, cpu"}
    assert document["tolerance"] == {"precision": "int8", "kpis": {"accuracy": 1e-3, "recall_x": 1e-3}}
    assert document["first_parting"] == document["largest_parting"]
    assert document["first_parting"]["t_us"] == 40
    assert document["first_parting"]["exported"] == {"x": 0.4, "y": 0.6}
    assert document["mcnemar"] == {"only_reference_right": 1, "only_exported_right": 0, "p_value": 1.0}
    assert document["drift"]["recordings"] == [2, 1]
    np.testing.assert_allclose(document["drift"]["median"], [0, 1e-3])


def test_what_is_not_there_is_null() -> None:
    document = replace(_report(accuracy=RIGHT), drift=None, first_parting=None).to_dict()
    assert document["drift"] is None
    assert document["first_parting"] is None
