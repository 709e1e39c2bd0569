from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.metrics import max_error, mean_absolute_error

from edgeclf_runtime.comparison import Comparer, Comparison, OutputDifference
from edgeclf_runtime.precision import Tolerance

STRICT = Tolerance(max_absolute=0.1, relative=0.05, top1=1.0, tie=0.01)


def compared(*steps, tolerance=STRICT):
    comparer = Comparer(tolerance)
    for outputs in steps:
        for name, (found, right) in outputs.items():
            comparer.add(name, np.asarray(found), np.asarray(right))
    return comparer.result(len(steps))


def test_numbers_against_another_implementation():
    rng = np.random.default_rng(0)
    right = rng.normal(size=(7, 3, 4, 5))
    found = right + rng.normal(size=right.shape) / 100
    d = compared(*({"logits": pair} for pair in zip(found, right, strict=True))).outputs["logits"]
    assert d.max_absolute == pytest.approx(max_error(right.ravel(), found.ravel()))
    assert d.mean_absolute == pytest.approx(mean_absolute_error(right.ravel(), found.ravel()))
    assert d.relative == pytest.approx(np.linalg.norm((found - right).ravel()) / np.linalg.norm(right.ravel()))


def test_by_hand():
    found = compared(
        {"logits": ([[1.0, 2.0]], [[1.0, 2.5]]), "next_state.h": ([[3.0]], [[4.0]])},
        {"logits": ([[0.0, 0.0]], [[0.0, -1.0]])},
    )
    assert found.steps == 2
    assert found.outputs["logits"] == OutputDifference(1.0, 1.5 / 4, pytest.approx(math.sqrt(1.25 / 8.25)))
    assert found.outputs["next_state.h"] == OutputDifference(1.0, 1.0, 0.25)


def test_small_types_do_not_overflow():
    found = compared({"logits": (np.full((1, 9), 6e4, "f2"), np.full((1, 9), -6e4, "f2"))})
    assert found.outputs["logits"].max_absolute == pytest.approx(120_000, rel=1e-3)


# What passes.


def test_within_the_tolerance():
    found = compared({"logits": ([[1.0, 3.0]], [[1.01, 3.0]]), "probabilities": ([[0.2, 0.8]], [[0.2, 0.8]])})
    assert found
    assert found.problems == []


def test_nothing_compared_does_not_pass():
    assert not compared()


@pytest.mark.parametrize(
    ("found", "right", "problem"),
    [
        ([[5.0, 1.0]], [[5.2, 1.0]], "logits differs by up to 0.2, where 0.1 is let through"),
        ([[0.09, 0.0]], [[0.1, 0.0]], "logits differs by 10.00% of its size, where 5.00% is let through"),
        ([[0.01, 0.0]], [[0.0, 0.0]], "logits differs by inf% of its size"),
        ([[np.nan, 1.0]], [[0.0, 1.0]], "logits differs by up to nan"),
        ([[np.inf, 1.0]], [[0.0, 1.0]], "logits differs by up to inf"),
        ([[0.0, 1.0, 2.0]], [[0.0, 1.0]], "logits differs by up to nan"),
    ],
)
def test_what_is_not_within_it(found, right, problem):
    result = compared({"logits": (found, right)})
    assert not result
    assert problem in "; ".join(result.problems)


@pytest.mark.parametrize("bad_step", [0, 1, 2])
def test_nan_is_not_forgotten(bad_step):
    steps = [{"logits": ([[1.0]], [[1.0]])} for _ in range(3)]
    steps[bad_step] = {"logits": ([[np.nan]], [[1.0]])}
    found = compared(*steps)
    assert not found
    assert math.isnan(found.outputs["logits"].max_absolute)


def test_small_state_is_seen_by_its_own_size():
    found = compared({"next_state.c": (np.zeros((1, 9)), np.full((1, 9), 1e-3))})
    assert found.outputs["next_state.c"].max_absolute == 1e-3  # far below what is let through
    assert found.problems == ["next_state.c differs by 100.00% of its size, where 5.00% is let through"]


# Which class is named.


@pytest.mark.parametrize(
    ("named", "agreement"),
    [
        ([[0.1, 0.9]], 0.0),  # another class
        ([[0.6, 0.4]], 1.0),
        ([[0.495, 0.505]], 0.0),  # nearly even in what was found, but not in what is right
    ],
)
def test_top1(named, agreement):
    assert compared({"probabilities": (named, [[0.6, 0.4]])}).top1_agreement == agreement


def test_a_tie_may_be_named_either_way():
    right = [[0.505, 0.495], [0.6, 0.4], [0.4, 0.6]]
    found = compared({"probabilities": ([[0.4, 0.6]] * 3, right)}, tolerance=Tolerance(1, 1, 1.0, 0.011))
    assert found.top1_agreement == pytest.approx(2 / 3)
    assert found.problems == ["the same class is named for 66.67% of the frames, where 100.00% is asked for"]


def test_frames_without_probabilities_agree():
    assert compared({"logits": ([[1.0]], [[1.0]])}).top1_agreement == 1.0


def test_json():
    found = compared({"logits": ([[1.0, 2.0]], [[1.0, 2.0]])})
    assert json.loads(json.dumps(found.to_dict())) == {
        "passed": True,
        "steps": 1,
        "top1_agreement": 1.0,
        "tolerance": {"max_absolute": 0.1, "relative": 0.05, "top1": 1.0, "tie": 0.01},
        "outputs": {"logits": {"max_absolute": 0.0, "mean_absolute": 0.0, "relative": 0.0}},
        "problems": [],
    }
    assert Comparison(1, STRICT, {}, 1.0).to_dict()["passed"] is False
