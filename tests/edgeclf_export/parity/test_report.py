from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeclf.evaluation import RecordingLogits
from edgeclf_export.parity import KpiComparison, ParityReport
from edgeclf_export.parity.drift import drift_of
from edgeclf_export.parity.report import McNemar, Parting, Side
from edgeclf_runtime.console import write_json

PARTING = Parting("a", 3, 40, "x", "y", {"x": 0.6, "y": 0.4}, {"x": 0.4, "y": 0.6})


def _report(**kpis: KpiComparison) -> ParityReport:
    recordings = [RecordingLogits("a", torch.zeros(4, dtype=torch.int64), torch.zeros(4, 2))]
    sides = [Side(name, recordings, {}) for name in ("PyTorch", "a.onnx, cpu")]
    drift = drift_of([[0.0, 1e-3], [0.0]], "int8")
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
    assert not replace(_report(accuracy=RIGHT), problems=("its logits are not finite in 2 frames",))


def test_what_pytest_shows_of_a_failed_one_names_the_kpis() -> None:
    failed = _report(accuracy=RIGHT, recall_x=WRONG)
    assert repr(failed) == "<ParityReport FAILED: recall_x 0.5 → 0.25 (±0.001); same class 75.00% of 4 frames>"
    many = _report(**{f"recall_of_a_class_{k}": WRONG for k in range(9)})
    for k in range(3):
        assert f"recall_of_a_class_{k} 0.5 → 0.25 (±0.001), " in repr(many)
    assert ", 6 more; same class" in repr(many)
    assert repr(_report(accuracy=RIGHT)) == "<ParityReport passed: same class 75.00% of 4 frames>"
    assert str(failed) == repr(failed)
    broken = replace(_report(accuracy=RIGHT), problems=("its logits are not finite in 2 frames",))
    assert "FAILED: its logits are not finite in 2 frames; same class" in repr(broken)


@pytest.mark.parametrize("problems", [(), ("its logits are not finite in 1234567 frames",)])
def test_it_is_never_so_long_that_pytest_cuts_it(problems: tuple[str, ...]) -> None:
    wrong = KpiComparison(0.123456789, 0.000123456, 0.0123456)
    kpis = {f"recall_of_{k}_{'a class with a long name ' * 9}": wrong for k in range(40)}
    said = repr(replace(_report(**kpis), problems=problems, frames=12345678))
    assert len(said) < 240
    assert said.count("0.1235 → 0.0001235 (±0.0123)") == 3
    assert "37 more" in said
    assert all(problem in said for problem in problems)


def test_values_that_look_the_same_are_told_by_their_difference() -> None:
    assert KpiComparison(0.5, 0.5 + 1e-9, 0).change_text == "0.5 +1.0e-09"
    assert KpiComparison(0.5, math.nan, 0).change_text == "0.5 → nan"


def test_document_is_json_and_keeps_the_names_that_scripts_rely_on() -> None:
    report = replace(_report(accuracy=RIGHT, recall_x=WRONG), recordings_mcnemar=McNemar(0, 2, 0.5), problems=("p",))
    document = json.loads(json.dumps(report.to_dict()))
    assert {"passed", "frames", "top1_agreement", "max_abs_logit_difference", "kpis"} <= set(document)
    assert document["kpis"]["recall_x"] == {
        "reference": 0.5, "exported": 0.25, "tolerance": 1e-3, "difference": -0.25, "passed": False,
    }  # fmt: skip
    assert (document["disagreements"], document["ties"], document["top1_agreement"]) == (1, 0, 0.75)
    assert document["sides"] == {"reference": "PyTorch", "exported": "a.onnx, cpu"}
    assert document["tolerance"] == {"precision": "int8"}
    assert document["first_parting"] == document["largest_parting"]
    assert document["first_parting"]["t_us"] == 40
    assert document["first_parting"]["exported"] == {"x": 0.4, "y": 0.6}
    assert document["mcnemar"] == {"only_reference_right": 1, "only_exported_right": 0, "p_value": 1.0}
    assert document["recordings_mcnemar"] == {"only_reference_right": 0, "only_exported_right": 2, "p_value": 0.5}
    assert document["problems"] == ["p"]
    assert document["drift"]["recordings"] == [2, 1]
    assert (document["drift"]["verdict"], document["drift"]["grows"], document["no_drift"]) == ("even", False, "")
    np.testing.assert_allclose(document["drift"]["median"], [0, 1e-3])


def test_what_is_not_there_is_null() -> None:
    report = replace(_report(accuracy=RIGHT), drift=None, first_parting=None, no_drift="the model has no state")
    document = report.to_dict()
    assert document["drift"] is None
    assert document["no_drift"] == "the model has no state"
    assert document["first_parting"] is None


def test_what_is_no_number_is_null_in_the_file(tmp_path: Path) -> None:
    drift = drift_of([[math.inf] * 30], "fp32")
    report = replace(_report(accuracy=KpiComparison(0.5, math.nan, 1)), drift=drift, max_abs_logit_difference=math.inf)
    write_json(str(tmp_path / "p.json"), report.to_dict())
    document = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert document["drift"] == {
        "median": [None] * 30, "largest": [None] * 30, "recordings": [1] * 30, "early": None, "late": None,
        "grows": False, "verdict": "apart",
    }  # fmt: skip
    assert document["kpis"]["accuracy"]["exported"] is None
    assert document["max_abs_logit_difference"] is None
