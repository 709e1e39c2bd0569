from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics

from edgeclf.utils_metrics import precision_recall_curve, roc_curve


def scores(seed, frames=400, decimals=None, skill=1.0):
    rng = np.random.default_rng(seed)
    present = rng.random(frames) < 0.3
    score = 1 / (1 + np.exp(-rng.normal(size=frames) - skill * (present - 0.5)))
    return torch.from_numpy(score if decimals is None else score.round(decimals)), torch.from_numpy(present)


CASES = [
    {"decimals": None},
    {"decimals": 1},  # ties
    {"decimals": 0},  # two scores only
    {"skill": 200.0},  # all right
    {"skill": -200.0},  # all wrong
    {"frames": 3},
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_curves_and_areas_are_those_of_scikit_learn(case, seed):
    score, present = scores(seed, **case)
    if case.get("frames") == 3:
        present = torch.tensor([True, False, True])
    roc = roc_curve(score, present)
    assert roc.area == pytest.approx(metrics.roc_auc_score(present, score), abs=1e-6)
    rates = metrics.roc_curve(present, score, drop_intermediate=False)
    np.testing.assert_allclose(roc.x, rates[0], atol=1e-6)
    np.testing.assert_allclose(roc.y, rates[1], atol=1e-6)
    curve = precision_recall_curve(score, present)
    assert curve.area == pytest.approx(metrics.average_precision_score(present, score), abs=1e-6)
    precision, recall, _ = metrics.precision_recall_curve(present, score)
    np.testing.assert_allclose(curve.x, recall, atol=1e-6)
    np.testing.assert_allclose(curve.y, precision, atol=1e-6)
    # What is drawn in steps has the area that stands beside it.
    assert curve.area == pytest.approx(float((-torch.diff(curve.x) * curve.y[:-1]).sum()), abs=1e-5)


def test_one_frame_has_an_average_precision_and_no_roc():
    score, present = torch.tensor([0.4]), torch.tensor([True])
    assert precision_recall_curve(score, present).area == metrics.average_precision_score([1], [0.4]) == 1
    assert math.isnan(roc_curve(score, present).area)
    assert "only class" in roc_curve(score, present).missing


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve])
def test_what_has_no_curve_says_why(curve):
    absent = curve(torch.tensor([0.4, 0.1]), torch.tensor([False, False]))
    assert math.isnan(absent.area)
    assert "no label" in absent.missing
    assert len(absent.x) == len(absent.y) == 0
    broken = curve(torch.tensor([0.4, math.nan]), torch.tensor([False, True]))
    assert "not a number" in broken.missing


@pytest.mark.parametrize("curve", [roc_curve, precision_recall_curve])
def test_a_probability_rounded_past_1_keeps_the_others_apart(curve):
    # Taken for logits, 0.3 and 0.30000001 would be squeezed by a sigmoid until they are equal.
    above = np.nextafter(np.float32(0.3), np.float32(1))
    score = torch.tensor([1.0000001, 0.3, float(above), 0.1])
    assert curve(score, torch.tensor([True, False, True, False])).area == 1
