from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import multiclass_calibration_error

from edgeclf.utils_metrics import reliability


def predictions(seed, frames=500, classes=4, sharpness=2.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, frames)
    logits = rng.normal(size=(frames, classes)) * sharpness
    logits[np.arange(frames), labels] += sharpness
    probabilities = torch.from_numpy(logits).float().softmax(1)
    return probabilities, probabilities.argmax(1), torch.from_numpy(labels)


def plain(probabilities, predicted, labels, bins):
    """Bin by bin, frame by frame: frames, sums of confidence and of right ones, and the expected calibration error."""
    counts, confidence, right = [0] * bins, [0.0] * bins, [0] * bins
    for row, prediction, label in zip(probabilities.tolist(), predicted.tolist(), labels.tolist(), strict=True):
        top = max(row)
        m = next(m for m in range(bins) if top <= (m + 1) / bins or m == bins - 1)
        counts[m] += 1
        confidence[m] += top
        right[m] += prediction == label
    total = sum(counts)
    error = sum(n / total * abs(r / n - c / n) for n, c, r in zip(counts, confidence, right, strict=True) if n)
    return counts, confidence, right, error


CASES = [
    {},
    {"classes": 2},
    {"classes": 20},
    {"sharpness": 0.0},  # every probability 1/4
    {"sharpness": 50.0},  # sure of everything
    {"frames": 1},
    {"classes": 3, "sharpness": 0.0},  # 1/3 lies on an edge of 15 bins
]


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_a_plain_loop_scikit_learn_and_torchmetrics(case, bins):
    given = predictions(5, **case)
    found = reliability(*given, bins=bins)
    counts, confidence, right, error = plain(*given, bins)
    assert found.counts.tolist() == counts
    assert found.error == pytest.approx(error, abs=1e-12)
    filled = [m for m in range(bins) if counts[m]]
    assert found.accuracy[filled].tolist() == pytest.approx([right[m] / counts[m] for m in filled])
    assert found.confidence[filled].tolist() == pytest.approx([confidence[m] / counts[m] for m in filled])
    empty = [m for m in range(bins) if not counts[m]]
    assert found.accuracy[empty].isnan().all()
    assert found.confidence[empty].isnan().all()

    probabilities, predicted, labels = given
    top = probabilities.double().amax(1).numpy()
    is_right = (predicted == labels).numpy()
    shares, means = calibration_curve(is_right, top, pos_label=True, n_bins=bins)  # of filled bins only
    np.testing.assert_allclose(found.accuracy[filled], shares, atol=1e-12)
    np.testing.assert_allclose(found.confidence[filled], means, atol=1e-12)
    if not np.isin(np.round(top * bins, 5) % 1, 0.0).any():  # torchmetrics' bins are closed below, ours above
        theirs = multiclass_calibration_error(probabilities, labels, probabilities.shape[1], n_bins=bins, norm="l1")
        assert found.error == pytest.approx(float(theirs), abs=1e-5)


def test_all_right_and_all_wrong():
    sure = torch.tensor([[0.0, 1.0]]).repeat(7, 1)
    ones = torch.ones(7, dtype=torch.int64)
    assert reliability(sure, ones, ones).error == 0
    assert reliability(sure, ones, 0 * ones).error == 1


def test_probabilities_that_are_no_numbers_have_no_error():
    found = reliability(torch.tensor([[math.nan, math.nan], [0.5, 0.5]]), torch.tensor([0, 0]), torch.tensor([0, 1]))
    assert math.isnan(found.error)
    assert found.accuracy.isnan().all()


def test_the_prediction_is_what_was_chosen_not_the_first_of_equal_probabilities():
    found = reliability(torch.tensor([[0.5, 0.5]]), torch.tensor([1]), torch.tensor([1]))
    assert found.error == 0.5
    assert found.accuracy[found.counts > 0].item() == 1
