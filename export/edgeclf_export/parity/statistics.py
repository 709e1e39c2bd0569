"""What two sides that named the classes of the same frames have in common, and where they part: functions of arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from edgeclf.evaluation import RecordingLogits
from edgeclf.utils_metrics import majority_vote
from edgeclf_export.parity.report import McNemar, Parting
from edgeclf_runtime.contract import background_index

SAME_SCORE = 1e-5
"""Probabilities of a float32 model that differ by less are told apart by rounding alone."""


def largest_difference(reference: Sequence[RecordingLogits], exported: Sequence[RecordingLogits]) -> float:
    """Returns the largest absolute difference of a logit; infinite where one is no number."""
    differences = torch.cat([a.logits - b.logits for a, b in zip(reference, exported, strict=True)]).abs()
    return float(differences.nan_to_num(nan=math.inf).max())


def problems(reference: Sequence[RecordingLogits], exported: Sequence[RecordingLogits]) -> tuple[str, ...]:
    """Returns what is wrong with the exported file whatever the KPIs say, which look at labelled frames alone."""
    broken = sum(
        int((a.logits.isfinite().all(1) & ~b.logits.isfinite().all(1)).sum())
        for a, b in zip(reference, exported, strict=True)
    )
    return (f"its logits are not finite in {broken} frame{'s' if broken > 1 else ''}",) if broken else ()


def disagreements_and_ties(
    reference: Sequence[RecordingLogits], exported: Sequence[RecordingLogits]
) -> tuple[int, int]:
    """Returns on how many frames the sides name different classes, and how many of these are ties.

    A tie is a frame for which the reference gives both classes the same probability but for rounding (`SAME_SCORE`).
    """
    expected, found = _classes(reference), _classes(exported)
    different = (expected != found).nonzero()[:, 0]
    scores = torch.cat([recording.logits for recording in reference]).double().softmax(1)[different]
    rows = torch.arange(len(different))
    ahead = scores[rows, expected[different]] - scores[rows, found[different]]
    return len(different), int((ahead <= SAME_SCORE).sum())


def first_parting(
    reference: Sequence[RecordingLogits], exported: Sequence[RecordingLogits], labels: Sequence[str]
) -> Parting | None:
    """Returns the first frame of the first recording on which the sides name different classes; None if there is none.

    Args:
        reference: Logits of the reference.
        exported: Those of the exported file, of the same recordings in the same order.
        labels: Name of each output.
    """
    for one, other in zip(reference, exported, strict=True):
        different = (one.logits.argmax(1) != other.logits.argmax(1)).nonzero()
        if len(different):
            return _parting(one, other, int(different[0]), labels)
    return None


def largest_parting(
    reference: Sequence[RecordingLogits], exported: Sequence[RecordingLogits], labels: Sequence[str]
) -> Parting:
    """Returns the frame on which a probability differs most, the first of equals; arguments as `first_parting`'s."""
    of_recording = [
        (a.logits.softmax(1) - b.logits.softmax(1)).abs().nan_to_num(nan=math.inf).amax(1)
        for a, b in zip(reference, exported, strict=True)
    ]
    worst = int(torch.stack([differences.max() for differences in of_recording]).argmax())
    return _parting(reference[worst], exported[worst], int(of_recording[worst].argmax()), labels)


def mcnemar(reference: Sequence[RecordingLogits], exported: Sequence[RecordingLogits]) -> McNemar:
    """Returns McNemar's test of the labelled frames that one side alone names rightly."""
    labels = torch.cat([recording.labels for recording in reference])
    return _mcnemar(*((_classes(side) == labels)[labels >= 0] for side in (reference, exported)))


def recordings_mcnemar(
    reference: Sequence[RecordingLogits], exported: Sequence[RecordingLogits], labels: Sequence[str]
) -> McNemar:
    """Returns McNemar's test of the recordings whose majority vote is right on one side alone.

    Frames of one recording are much alike, so that a test of them finds significance in what is one case; recordings
    are cases of their own. The vote is that of the KPI `recording_accuracy`. Arguments as `first_parting`'s.
    """
    background = background_index(labels)
    return _mcnemar(*(_votes_are_right(side, background) for side in (reference, exported)))


def mcnemar_p_value(only_one: int, only_other: int) -> float:
    """Returns how probable it is that so many fair coins fall at least as unevenly, exactly, to both sides.

    The exact form of McNemar's test (McNemar, Psychometrika 12, 1947): the counts are binomial with probability 1/2.
    Terms are summed as logarithms, so that large counts do not overflow.

    Args:
        only_one: Cases that one side alone has right.
        only_other: Cases that the other alone has right.

    Example:
        >>> round(mcnemar_p_value(0, 5), 6), mcnemar_p_value(3, 3)
        (0.0625, 1.0)
    """
    total, fewer = only_one + only_other, min(only_one, only_other)
    logs: NDArray[np.float64] = np.array(
        [-math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in range(fewer + 1)], np.float64
    )
    largest = float(logs.max())
    tail = largest + math.log(float(np.exp(logs - largest).sum())) + math.lgamma(total + 1) - total * math.log(2)
    return min(1.0, 2 * math.exp(tail))


def _mcnemar(reference_is_right: torch.Tensor, exported_is_right: torch.Tensor) -> McNemar:
    """Returns the test of cases of which each side has some right, bool `[N]` each."""
    counts = int((reference_is_right & ~exported_is_right).sum()), int((exported_is_right & ~reference_is_right).sum())
    return McNemar(*counts, mcnemar_p_value(*counts))


def _votes_are_right(recordings: Sequence[RecordingLogits], background: int | None) -> torch.Tensor:
    """Returns for each recording with a labelled frame whether its majority vote is right, bool."""
    counted = [recording.result().counted() for recording in recordings if bool((recording.labels >= 0).any())]
    votes = [majority_vote(recording.predictions, recording.labels, background) for recording in counted]
    return torch.tensor([found == right for found, right in votes], dtype=torch.bool)


def _classes(recordings: Sequence[RecordingLogits]) -> torch.Tensor:
    return torch.cat([recording.logits for recording in recordings]).argmax(1)


def _parting(reference: RecordingLogits, exported: RecordingLogits, frame: int, labels: Sequence[str]) -> Parting:
    expected, found = (side.logits[frame].double().softmax(0).tolist() for side in (reference, exported))
    return Parting(
        recording=reference.name,
        frame=frame,
        t_us=None if reference.end_us is None else int(reference.end_us[frame]),
        reference_label=labels[int(reference.logits[frame].argmax())],
        exported_label=labels[int(exported.logits[frame].argmax())],
        reference=dict(zip(labels, expected, strict=True)),
        exported=dict(zip(labels, found, strict=True)),
    )
