from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from scipy.stats import binomtest

from edgeclf.evaluation import RecordingLogits
from edgeclf_export.parity import statistics

LABELS = ("background", "left", "right")


def _side(*recordings: Sequence[Sequence[float]], labels: Sequence[int] | None = None) -> list[RecordingLogits]:
    """One recording for each list of probabilities; frames end every 10 µs."""
    return [
        RecordingLogits(
            f"r{i}",
            torch.tensor([0] * len(rows) if labels is None else list(labels)),
            torch.tensor(rows, dtype=torch.float64).log().float(),
            f"r{i}.h5",
            torch.arange(1, len(rows) + 1) * 10,
        )
        for i, rows in enumerate(recordings)
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0, 0),
        (0, 1),
        (1, 0),
        (3, 3),
        (0, 12),
        (7, 2),
        (40, 61),
        (500, 431),
        (5000, 5200),
        (101_000, 100_000),
        (9, 90_000),
    ],
)
def test_p_value_is_that_of_scipys_binomial_test(one: int, other: int) -> None:
    right = 1.0 if one + other == 0 else binomtest(one, one + other, 0.5).pvalue
    assert statistics.mcnemar_p_value(one, other) == pytest.approx(right, rel=1e-7)
    assert statistics.mcnemar_p_value(other, one) == statistics.mcnemar_p_value(one, other)


def test_mcnemar_counts_labelled_frames_that_one_side_alone_names_rightly() -> None:
    is_0, is_1 = (0.8, 0.1, 0.1), (0.1, 0.8, 0.1)
    labels = (0, 0, 1, 1, 1, 2, -1)
    reference = _side([is_0, is_0, is_0, is_0, is_1, is_0, is_0], labels=labels)
    exported = _side([is_0, is_1, is_1, is_1, is_1, is_1, is_1], labels=labels)
    found = statistics.mcnemar(reference, exported)
    assert (found.only_reference_right, found.only_exported_right) == (1, 2)
    assert found.p_value == pytest.approx(binomtest(1, 3).pvalue)


def test_a_recording_is_one_case_however_many_frames_it_has() -> None:
    """One recording in which all frames part, and one in which a few do that do not turn the vote."""
    is_0, is_1 = (0.8, 0.1, 0.1), (0.1, 0.8, 0.1)
    labels = [1] * 30 + [0] * 10 + [-1]
    reference = _side([is_1] * 41, [is_1] * 41, [is_0] * 41, labels=labels)
    exported = _side([is_0] * 41, [is_0] * 3 + [is_1] * 38, [is_0] * 41, labels=labels)
    assert statistics.mcnemar(reference, exported).only_reference_right == 30 + 3
    found = statistics.recordings_mcnemar(reference, exported, LABELS)
    assert (found.only_reference_right, found.only_exported_right, found.p_value) == (1, 0, 1.0)
    turned = statistics.recordings_mcnemar(exported * 9, reference * 9, LABELS)
    assert (turned.only_reference_right, turned.only_exported_right) == (0, 9)
    assert turned.p_value == pytest.approx(binomtest(9, 9).pvalue)
    unlabelled = _side([is_0, is_0], labels=[-1, -1])
    assert statistics.recordings_mcnemar(unlabelled, unlabelled, LABELS).p_value == 1


def test_a_tie_is_a_frame_for_which_the_reference_itself_is_undecided() -> None:
    even, sure = (0.4, 0.4, 0.2), (0.5, 0.3, 0.2)
    reference = _side([even, even, sure])
    exported = _side([(0.399, 0.401, 0.2), (0.4, 0.3, 0.3), (0.3, 0.5, 0.2)])
    assert statistics.disagreements_and_ties(reference, exported) == (2, 1)
    assert statistics.disagreements_and_ties(reference, reference) == (0, 0)


def test_first_and_largest_parting() -> None:
    sure = (0.7, 0.2, 0.1)
    reference = _side([sure, sure], [sure, sure, sure])
    exported = _side([sure, (0.6, 0.3, 0.1)], [sure, (0.4, 0.5, 0.1), (0.0001, 0.2, 0.7999)])
    first = statistics.first_parting(reference, exported, LABELS)
    assert first is not None
    assert (first.recording, first.frame, first.t_us) == ("r1", 1, 20)
    assert (first.reference_label, first.exported_label) == ("background", "left")
    assert first.reference == pytest.approx(dict(zip(LABELS, sure, strict=True)))
    assert first.exported == pytest.approx({"background": 0.4, "left": 0.5, "right": 0.1})
    largest = statistics.largest_parting(reference, exported, LABELS)
    assert (largest.recording, largest.frame) == ("r1", 2)
    assert statistics.first_parting(reference, reference, LABELS) is None
    assert statistics.largest_parting(reference, reference, LABELS).frame == 0


def test_what_is_no_number_is_the_largest_difference() -> None:
    reference = _side([(0.7, 0.2, 0.1)] * 3)
    exported = _side([(0.7, 0.2, 0.1), (0.1, 0.2, 0.7), (math.nan, 0.2, 0.1)])
    assert statistics.largest_difference(reference, exported) == math.inf
    assert statistics.largest_parting(reference, exported, LABELS).frame == 2
    assert statistics.largest_difference(reference, reference) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_a_problem_where_the_references_are(value: float) -> None:
    sure = _side([(0.7, 0.2, 0.1)] * 3)
    broken = _side([(0.7, 0.2, 0.1)] * 3)
    broken[0].logits[1, 2] = value
    assert statistics.problems(sure, sure) == ()
    assert statistics.problems(sure, broken) == ("its logits are not finite in 1 frame",)
    assert statistics.problems(broken, broken) == statistics.problems(broken, sure) == ()
    broken[0].logits[2] = value
    assert statistics.problems(sure * 2, broken * 2) == ("its logits are not finite in 4 frames",)
