"""Key performance indicators (KPIs) of a classifier over a set of recordings, and over each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import nan
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_precision, multiclass_recall

from edgeclf.utils_metrics.calibration import reliability
from edgeclf.utils_metrics.curves import roc_curve
from edgeclf.utils_metrics.results import RecordingResult
from edgeclf.utils_metrics.time_to_prediction import calculate_time_to_prediction
from edgeclf_runtime.contract import background_index
from edgeclf_runtime.errors import EdgeclfError


@dataclass(frozen=True)
class RecordingKpis:
    """KPIs of one recording.

    Attributes:
        name: The recording's name.
        frames: Frames that count.
        accuracy: Share of them whose prediction is right; NaN where none counts.
        label: The most frequent class among its labels, as for `recording_accuracy`; None where no frame counts.
        prediction: The class that the majority vote gives; None where no frame counts.
        right: Whether the two are the same; None where no frame counts.
        gestures: Number of gestures.
        never_recognised: How many of them had no right prediction until their end.
        t2p_median_ms: Median time from a gesture's start to its first right prediction; NaN where there is none.
    """

    name: str
    frames: int
    accuracy: float
    label: str | None
    prediction: str | None
    right: bool | None
    gestures: int
    never_recognised: int
    t2p_median_ms: float

    def to_dict(self) -> dict[str, Any]:
        """Returns them by name."""
        return asdict(self)


def compute_kpis(results: Sequence[RecordingResult], labels: Sequence[str], delta_t: int | None) -> dict[str, float]:
    """Returns the KPIs of a classifier over a set of recordings, by name.

    Frames labelled -1 are left out of all of them. A KPI that has no value is NaN rather than 0: recall and AUROC of a
    class that is in no label, AUROC of a class that is in every label or has a probability that is not a number,
    precision of a class that is in no label and no prediction (it is 0 for one that is in labels only), times without a
    gesture to measure or a frame of fixed duration to measure with.

    Args:
        results: One entry a recording.
        labels: Names of the K outputs. The one called `background`, if there is one, is no gesture.
        delta_t: Duration of a frame in µs; None where frames have no fixed one.

    Returns:
        - `accuracy`: share of frames whose prediction is right.
        - `recording_accuracy`: share of recordings whose majority vote is right: the class predicted most often equals
          the most frequent label, both over the frames that are labelled as something other than background; over all
          frames where a recording has background only. Of equally frequent classes the first one is taken.
        - `mean_recording_accuracy`: mean over recordings of their own `accuracy`.
        - `expected_calibration_error`: mean distance between confidence and accuracy, see `reliability`.
        - `t2p_median_ms`, `t2p_std_ms`: times from the start of a gesture to the first right prediction, see
          `calculate_time_to_prediction`.
        - `t2p_never_recognised`, `t2p_never_recognised_rate`: number of gestures that never had a right prediction, and
          their share of all gestures; the number is 0 where there is no gesture.
        - `precision_<label>`, `recall_<label>`, `auroc_<label>` for each class; AUROC is the area under the ROC curve
          of the class's probability against all other classes.

    Raises:
        EdgeclfError: Where there is no frame to judge, or predictions do not fit the labels.
    """
    _check(results, labels)
    recordings = [result.counted() for result in results if (result.labels >= 0).any()]
    if not recordings:
        raise EdgeclfError(
            "No KPI can be computed without a labelled frame; check that the data set's split holds recordings with "
            "labels."
        )
    background = background_index(labels)
    target = torch.cat([recording.labels for recording in recordings])
    predictions = torch.cat([recording.predictions for recording in recordings])
    probabilities = torch.cat([recording.probabilities for recording in recordings])
    time = calculate_time_to_prediction(
        [result.predictions for result in results], [result.labels for result in results], delta_t, background
    )
    votes = [majority_vote(recording.predictions, recording.labels, background) for recording in recordings]
    shares = [_accuracy(recording) for recording in recordings]
    kpis = {
        "accuracy": float(multiclass_accuracy(predictions, target, len(labels), average="micro")),
        "recording_accuracy": sum(found == right for found, right in votes) / len(votes),
        "mean_recording_accuracy": sum(shares) / len(shares),
        "expected_calibration_error": reliability(probabilities, predictions, target).error,
        "t2p_median_ms": time.median_ms,
        "t2p_std_ms": time.std_ms,
        "t2p_never_recognised": float(time.never_recognised),
        "t2p_never_recognised_rate": time.never_recognised_rate,
    }
    return kpis | _per_class(predictions, probabilities, target, labels)


def compute_recording_kpis(
    results: Sequence[RecordingResult], labels: Sequence[str], delta_t: int | None
) -> list[RecordingKpis]:
    """Returns the KPIs of each recording on its own, in the order of `results`.

    Args:
        results: One entry a recording; one without a frame that counts has no accuracy.
        labels: Names of the K outputs; see `compute_kpis`.
        delta_t: Duration of a frame in µs; None where frames have no fixed one.

    Raises:
        EdgeclfError: Where predictions do not fit the labels.
    """
    _check(results, labels)
    background = background_index(labels)
    table = []
    for result in results:
        counted = result.counted()
        time = calculate_time_to_prediction([result.predictions], [result.labels], delta_t, background)
        frames = len(counted.labels)
        found, right = majority_vote(counted.predictions, counted.labels, background) if frames else (None, None)
        table.append(
            RecordingKpis(
                name=result.name,
                frames=frames,
                accuracy=_accuracy(counted),
                label=None if right is None else labels[right],
                prediction=None if found is None else labels[found],
                right=None if found is None else found == right,
                gestures=time.gestures,
                never_recognised=time.never_recognised,
                t2p_median_ms=time.median_ms,
            )
        )
    return table


def majority_vote(predictions: Tensor, labels: Tensor, background: int | None) -> tuple[int, int]:
    """Returns the most frequent prediction and the most frequent label of one recording.

    Both are taken over the frames labelled as something other than background; over all where there are none such.

    Args:
        predictions: int64 `[N]`, N at least 1.
        labels: int64 `[N]`; all frames count.
        background: The label that is no gesture; None where every label is one.
    """
    if background is not None and (labels != background).any():
        predictions, labels = predictions[labels != background], labels[labels != background]
    # argmax gives the first of equal counts, which is what settles ties.
    return int(predictions.bincount().argmax()), int(labels.bincount().argmax())


def unpack_metrics_dict(metrics_per_category: Mapping[str, Tensor], label: Sequence[str]) -> dict[str, float]:
    """Returns metrics that torchmetrics computed per class (`average=None`) as one flat dictionary, ready to log.

    Args:
        metrics_per_category: Name of a metric to its values `[K]`, one a class.
        label: Names of the K classes, in that order.

    Returns:
        `{"<metric>_<label>": value}`, metric by metric.

    Raises:
        EdgeclfError: Where a metric has not one value for each class.

    Example:
        >>> unpack_metrics_dict({"recall": torch.tensor([0.5, 1.0])}, ["paper", "rock"])
        {'recall_paper': 0.5, 'recall_rock': 1.0}
    """
    for metric, values in metrics_per_category.items():
        if values.shape != (len(label),):
            raise EdgeclfError(
                f"The metric {metric} has the shape {tuple(values.shape)}, and there are {len(label)} classes "
                f"({', '.join(label)}); give one value for each, as torchmetrics computes with average=None."
            )
    return {
        f"{metric}_{name}": value
        for metric, values in metrics_per_category.items()
        for name, value in zip(label, values.double().tolist(), strict=True)
    }


def _check(results: Sequence[RecordingResult], labels: Sequence[str]) -> None:
    if len(labels) < 2:
        raise EdgeclfError(f"A classifier chooses between two outputs at least; this one has {len(labels)}.")
    for result in results:
        result.check(len(labels))


def _accuracy(recording: RecordingResult) -> float:
    return float((recording.predictions == recording.labels).double().mean())


def _per_class(predictions: Tensor, probabilities: Tensor, target: Tensor, labels: Sequence[str]) -> dict[str, float]:
    """Returns precision, recall and AUROC of each class, by name."""
    outputs = len(labels)
    per_category = {
        "precision": multiclass_precision(predictions, target, outputs, average=None),
        "recall": multiclass_recall(predictions, target, outputs, average=None),
        # One class after another: asked for all at once, torchmetrics warns of those without a curve and gives them 0.
        "auroc": torch.tensor([roc_curve(probabilities[:, k], target == k).area for k in range(outputs)]),
    }
    # torchmetrics gives 0 where there is nothing to divide by, which reads like a failure of the classifier.
    in_labels, in_predictions = target.bincount(minlength=outputs) > 0, predictions.bincount(minlength=outputs) > 0
    per_category["precision"][~(in_labels | in_predictions)] = nan
    per_category["recall"][~in_labels] = nan
    flat = unpack_metrics_dict(per_category, labels)
    return {
        name: flat[name] for label in labels for name in (f"precision_{label}", f"recall_{label}", f"auroc_{label}")
    }
