from __future__ import annotations

import doctest
import math
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score
from torchmetrics.functional.classification import multiclass_precision, multiclass_recall

from edgeclf.utils_metrics import RecordingResult, compute_kpis, compute_recording_kpis, unpack_metrics_dict
from edgeclf.utils_metrics import kpis as kpis_module
from edgeclf_runtime.errors import EdgeclfError

LABELS = ("background", "paper", "rock", "scissors")
DELTA_T = 20_000


def result(labels, predictions, probabilities=None, classes=4, name="a"):
    labels, predictions = torch.as_tensor(labels), torch.as_tensor(predictions)
    if probabilities is None:
        probabilities = torch.nn.functional.one_hot(predictions, classes).float()
    return RecordingResult(name, labels, predictions, torch.as_tensor(probabilities, dtype=torch.float32))


def random_results(seed, recordings=12, classes=4, present=None, skill=1.5, decimals=None):
    """Recordings of gestures between background, with frames left out, and a classifier that is right now and then."""
    rng = np.random.default_rng(seed)
    present = list(range(classes)) if present is None else present
    results = []
    for i in range(recordings):
        labels = np.repeat(rng.choice(present, 8), rng.integers(1, 9, 8))
        logits = rng.normal(size=(labels.size, classes))
        logits[np.arange(labels.size), labels] += skill
        labels[rng.random(labels.size) < 0.1] = -1
        probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        if decimals is not None:
            probabilities = probabilities.round(decimals)  # many equal scores
        results.append(result(labels, logits.argmax(1), probabilities, name=str(i)))
    return results


def pooled(results):
    labels = np.concatenate([r.labels.numpy() for r in results])
    predictions = np.concatenate([r.predictions.numpy() for r in results])
    probabilities = np.concatenate([r.probabilities.numpy() for r in results])
    return labels[labels >= 0], predictions[labels >= 0], probabilities[labels >= 0]


def plain_calibration_error(results, bins=15):
    """Guo et al. 2017, equation 3, bin by bin."""
    labels, predictions, probabilities = pooled(results)
    confidence = probabilities.astype(np.float64).max(1)
    error = 0.0
    for m in range(bins):
        inside = [i for i, c in enumerate(confidence) if m / bins < c <= (m + 1) / bins]
        if inside:
            right = sum(labels[i] == predictions[i] for i in inside) / len(inside)
            error += len(inside) / len(labels) * abs(right - sum(confidence[i] for i in inside) / len(inside))
    return error


def expected_per_class(results, names):
    labels, predictions, probabilities = pooled(results)
    expected = {}
    for k, name in enumerate(names):
        is_k = labels == k
        only = {"labels": [k], "average": None, "zero_division": np.nan}
        expected[f"recall_{name}"] = recall_score(labels, predictions, **only)[0]
        precision = precision_score(labels, predictions, **only)[0]
        expected[f"precision_{name}"] = 0.0 if math.isnan(precision) and is_k.any() else precision
        both = is_k.any() and not is_k.all()
        expected[f"auroc_{name}"] = roc_auc_score(is_k, probabilities[:, k]) if both else math.nan
    return expected


def plain_majority(values):
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value))


def plain_recording_accuracy(results, background):
    right = []
    for r in results:
        counted = [(t, p) for t, p in zip(r.labels.tolist(), r.predictions.tolist(), strict=True) if t >= 0]
        gestures = [(t, p) for t, p in counted if t != background]
        judged = gestures or counted
        if judged:
            right.append(plain_majority(t for t, _ in judged) == plain_majority(p for _, p in judged))
    return np.mean(right)


def plain_times(results, background):
    """Frame by frame, with the state that one would keep by hand: the current gesture, its age, whether recognised."""
    times, gestures = [], 0
    for r in results:
        current, age, recognised = None, 0, True
        for label, prediction in zip(r.labels.tolist(), r.predictions.tolist(), strict=True):
            age += 1
            if label == -1:
                continue
            if label != current:
                current, age, recognised = label, 1, False
                gestures += label != background
            if label != background and label == prediction and not recognised:
                recognised = True
                times.append(age * DELTA_T / 1000)
    return times, gestures


def assert_all_close(found, expected):
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=2e-6, nan_ok=True)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"present": [0, 1, 3]},  # class 2 is predicted and never right
        {"present": [0, 2], "skill": 50},  # 1 and 3 neither present nor predicted
        {"present": [1], "skill": 50},  # everything is 1, and right
        {"skill": -50},  # all wrong
        {"decimals": 1},  # equal scores in the ROC
    ],
    ids=str,
)
def test_agrees_with_scikit_learn_and_with_plain_loops(kind, seed):
    results = random_results(seed, **kind)
    kpis = compute_kpis(results, LABELS, DELTA_T)
    labels, predictions, _ = pooled(results)
    times, gestures = plain_times(results, background=0)
    missed = gestures - len(times)
    assert_all_close(
        kpis,
        {
            "accuracy": accuracy_score(labels, predictions),
            "recording_accuracy": plain_recording_accuracy(results, background=0),
            "expected_calibration_error": plain_calibration_error(results),
            "mean_recording_accuracy": np.mean([accuracy_score(*pooled([r])[:2]) for r in results]),
            "t2p_median_ms": np.median(times) if times else math.nan,
            "t2p_std_ms": np.std(times) if times else math.nan,
            "t2p_never_recognised": missed,
            "t2p_never_recognised_rate": missed / gestures if gestures else math.nan,
        }
        | expected_per_class(results, LABELS),
    )
    assert all(type(value) is float for value in kpis.values())


def test_names_are_those_that_the_command_line_promises():
    kpis = compute_kpis(random_results(0), LABELS, DELTA_T)
    assert set(kpis) == {
        "accuracy",
        "recording_accuracy",
        "mean_recording_accuracy",
        "t2p_median_ms",
        "t2p_std_ms",
        "t2p_never_recognised",
        "t2p_never_recognised_rate",
        "expected_calibration_error",
        *(f"{kpi}_{label}" for kpi in ("precision", "recall", "auroc") for label in LABELS),
    }


def test_values_without_meaning_are_nan_and_only_those():
    kpis = compute_kpis([result([0, 0, 1, 1], [0, 2, 0, 1])], LABELS, DELTA_T)
    undefined = {name for name, value in kpis.items() if math.isnan(value)}
    assert undefined == {
        "recall_rock",  # predicted once, never there
        "auroc_rock",
        "precision_scissors",
        "recall_scissors",
        "auroc_scissors",
    }
    assert kpis["precision_rock"] == 0


def test_a_class_never_predicted_but_present_has_precision_0():
    assert compute_kpis([result([1, 3], [1, 1])], LABELS, DELTA_T)["precision_scissors"] == 0


def test_probabilities_that_are_no_numbers_have_no_auroc():
    broken = torch.full((4, 4), math.nan)
    kpis = compute_kpis([result([0, 1, 2, 3], [0, 0, 0, 0], broken)], LABELS, DELTA_T)
    assert all(math.isnan(kpis[f"auroc_{label}"]) for label in LABELS)
    assert kpis["accuracy"] == 0.25


def test_a_probability_rounded_past_1_keeps_the_others_apart():
    # Taken for logits, 0.3 and 0.30000001 would be squeezed by a sigmoid until they are equal.
    score = np.array([1.0000001, 0.3, np.nextafter(np.float32(0.3), np.float32(1)), 0.1], np.float32)
    probabilities = np.stack([1 - score, score], 1)
    kpis = compute_kpis([result([1, 0, 1, 0], [1, 0, 1, 0], probabilities)], ("background", "a"), DELTA_T)
    assert kpis["auroc_a"] == 1


@pytest.mark.parametrize(
    ("labels", "predictions", "right"),
    [
        ([0, 0, 0, 0, 2, 2], [0, 0, 0, 0, 2, 2], True),
        ([0, 0, 0, 0, 2, 2, 2], [2, 2, 2, 2, 0, 0, 2], False),  # background frames have no vote, nor may they help
        ([0, 2, 2, 2], [1, 2, 2, 0], True),
        ([2, 2], [2, 1], False),  # a tie goes to the lower class: 1
        ([1, 1], [2, 1], True),
        ([1, 2, 3, 1, 2], [1, 1, 1, 1, 2], True),  # a tie of labels: 1
        ([0, 0, 0], [0, 0, 3], True),  # background only: all frames vote
        ([0, 0, 0], [3, 0, 3], False),
        ([-1, -1, -1, 2], [1, 1, 1, 2], True),
    ],
)
def test_majority_vote(labels, predictions, right):
    assert compute_kpis([result(labels, predictions)], LABELS, DELTA_T)["recording_accuracy"] == right


def test_recordings_weigh_the_same_whatever_their_length_and_empty_ones_nothing():
    results = [
        result([1] * 8, [1] * 8),
        result([1, 1], [2, 1]),
        result([-1, -1], [2, 2]),
        result(torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)),
    ]
    kpis = compute_kpis(results, LABELS, DELTA_T)
    assert kpis["accuracy"] == pytest.approx(0.9)  # torchmetrics computes in float32
    assert kpis["mean_recording_accuracy"] == 0.75
    assert kpis["recording_accuracy"] == 1


def test_background_is_found_by_name():
    results = [result([1, 0, 0, 1, 1], [0, 0, 0, 2, 1])]
    last = compute_kpis(results, ("a", "background", "b", "c"), DELTA_T)
    assert last["t2p_median_ms"] == 20  # one gesture, label 0
    none = compute_kpis(results, ("a", "b", "c", "d"), DELTA_T)
    assert none["t2p_never_recognised"] == 1
    assert none["t2p_never_recognised_rate"] == pytest.approx(1 / 3)  # three gestures: 1, 0, 1
    assert none["t2p_median_ms"] == 30


@pytest.mark.parametrize(
    ("results", "labels", "message"),
    [
        ([], LABELS, "without a labelled frame"),
        ([result([-1, -1], [0, 0])], LABELS, "without a labelled frame"),
        ([result([0, 4], [0, 0], name="left_3")], LABELS, "left_3.*labels go from 0 to 4"),
        ([result([0, -2], [0, 0])], LABELS, "labels go from -2 to 0"),
        ([result([0, 1, 2], [0, 0], name="left_3")], LABELS, r"left_3.*\(3,\)"),
        ([result([0, 1], [0, 0])], LABELS[:3], "3 outputs"),
        ([result([0], [0], classes=1)], LABELS[:1], "at least"),
    ],
)
def test_what_cannot_be_judged_is_a_sentence(results, labels, message):
    with pytest.raises(EdgeclfError, match=message):
        compute_kpis(results, labels, DELTA_T)


def test_one_frame():
    probabilities = [[0.1, 0.6, 0.2, 0.1]]
    kpis = compute_kpis([result([1], [1], probabilities)], LABELS, DELTA_T)
    assert (kpis["accuracy"], kpis["recording_accuracy"], kpis["mean_recording_accuracy"]) == (1, 1, 1)
    assert (kpis["t2p_median_ms"], kpis["t2p_std_ms"], kpis["t2p_never_recognised_rate"]) == (20, 0, 0)
    assert kpis["expected_calibration_error"] == pytest.approx(0.4)
    assert (kpis["precision_paper"], kpis["recall_paper"]) == (1, 1)
    assert math.isnan(kpis["auroc_paper"])


def test_frames_without_a_fixed_duration_have_no_times_but_every_other_kpi():
    results = random_results(3)
    timed, timeless = (compute_kpis(results, LABELS, delta_t) for delta_t in (DELTA_T, None))
    assert math.isnan(timeless["t2p_median_ms"])
    assert math.isnan(timeless["t2p_std_ms"])
    assert 0 < timeless["t2p_never_recognised_rate"] < 1
    same = timed.keys() - {"t2p_median_ms", "t2p_std_ms"}
    assert {name: timeless[name] for name in same} == {name: timed[name] for name in same}


@pytest.mark.parametrize("seed", range(3))
def test_kpis_of_each_recording_are_those_of_it_alone(seed):
    results = random_results(seed)
    table = compute_recording_kpis(results, LABELS, DELTA_T)
    assert [row.name for row in table] == [r.name for r in results]
    for r, row in zip(results, table, strict=True):
        alone = compute_kpis([r], LABELS, DELTA_T)
        labels, predictions, _ = pooled([r])
        times, gestures = plain_times([r], background=0)
        assert row.frames == len(labels)
        assert row.accuracy == pytest.approx(accuracy_score(labels, predictions))
        assert row.right == alone["recording_accuracy"]
        judged = labels != 0 if (labels != 0).any() else labels == 0
        assert row.label == LABELS[plain_majority(labels[judged].tolist())]
        assert row.prediction == LABELS[plain_majority(predictions[judged].tolist())]
        assert (row.gestures, row.never_recognised) == (gestures, gestures - len(times))
        assert row.t2p_median_ms == pytest.approx(np.median(times) if times else math.nan, nan_ok=True)
    overall = compute_kpis(results, LABELS, DELTA_T)
    assert overall["mean_recording_accuracy"] == pytest.approx(np.mean([row.accuracy for row in table]))
    assert overall["recording_accuracy"] == np.mean([row.right for row in table])


def test_a_recording_without_a_labelled_frame_has_no_accuracy():
    (row,) = compute_recording_kpis([result([-1, -1], [0, 1], name="left_3")], LABELS, DELTA_T)
    assert math.isnan(row.accuracy)
    assert math.isnan(row.t2p_median_ms)
    found = row.to_dict()
    assert {name: found[name] for name in ("name", "frames", "label", "prediction", "right", "gestures")} == {
        "name": "left_3",
        "frames": 0,
        "label": None,
        "prediction": None,
        "right": None,
        "gestures": 0,
    }
    with pytest.raises(EdgeclfError, match="left_3"):
        compute_recording_kpis([result([9], [0], name="left_3")], LABELS, DELTA_T)


def test_metrics_per_category_become_flat():
    labels, predictions = np.array([0, 1, 2, 2, 1]), np.array([0, 2, 2, 2, 1])
    target, preds = torch.from_numpy(labels), torch.from_numpy(predictions)
    found = unpack_metrics_dict(
        {
            "recall": multiclass_recall(preds, target, 3, average=None),
            "precision": multiclass_precision(preds, target, 3, average=None),
        },
        ["paper", "rock", "left hand"],
    )
    names = ["paper", "rock", "left hand"]
    assert list(found) == [f"{metric}_{name}" for metric in ("recall", "precision") for name in names]
    expected = [*recall_score(labels, predictions, average=None), *precision_score(labels, predictions, average=None)]
    assert list(found.values()) == pytest.approx(expected)
    assert all(type(value) is float for value in found.values())


def test_the_examples_in_docstrings_are_true():
    assert doctest.testmod(kpis_module) == (0, 1)


@pytest.mark.parametrize("values", [torch.zeros(2), torch.tensor(0.5), torch.zeros(3, 3)])
def test_metrics_that_are_not_one_a_class_are_a_sentence(values):
    with pytest.raises(EdgeclfError, match="metric recall has the shape"):
        unpack_metrics_dict({"recall": values}, ["a", "b", "c"])
