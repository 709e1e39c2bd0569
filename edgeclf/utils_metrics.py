"""Key performance indicators (KPIs) of a classifier: frames, recordings, and time to the first right prediction.

Named after, and for the functions that it shares compatible with, `metavision_ml.classification.utils_metrics`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    multiclass_accuracy,
    multiclass_precision,
    multiclass_recall,
)

from edgeclf_runtime.contract import BACKGROUND
from edgeclf_runtime.errors import EdgeclfError


@dataclass(frozen=True)
class RecordingResult:
    """What a classifier made of one recording, frame by frame.

    Attributes:
        name: The recording's name, for errors.
        labels: int64 `[N]`, the right output of every frame; -1 where the frame is left out.
        predictions: int64 `[N]`, the output chosen.
        probabilities: float32 `[N, K]`, after softmax.
    """

    name: str
    labels: Tensor
    predictions: Tensor
    probabilities: Tensor


@dataclass(frozen=True)
class TimeToPrediction:
    """How long gestures took to be recognised.

    Attributes:
        latencies_ms: float64 `[R]`, of the gestures that were recognised, in the order of the data.
        median_ms: Their median, the mean of the middle two where R is even; NaN where there are none.
        std_ms: Their standard deviation (of a population: 0 for a single one); NaN where there are none.
        gestures: Number of gestures.
        never_recognised: How many of them had no right prediction until their end.
    """

    latencies_ms: Tensor
    median_ms: float
    std_ms: float
    gestures: int
    never_recognised: int


def get_1st_nonzeros(tensor: Tensor) -> Tensor:
    """Returns the index of the first value that is not zero along the last axis.

    Where all are zero, it is the index of the last one, as in Metavision's function of this name.

    Args:
        tensor: `[..., N]` of any number type or bool, N at least 1.

    Returns:
        int64 `[...]`.

    Raises:
        EdgeclfError: Where N is 0.
    """
    if tensor.shape[-1] == 0:
        raise EdgeclfError("The first nonzero value of an empty axis was asked for; there must be one value at least.")
    nonzero = tensor != 0
    first = nonzero.to(torch.uint8).argmax(-1)  # the first of equal values; bool has no argmax
    return torch.where(nonzero.any(-1), first, tensor.shape[-1] - 1)


def calculate_time_to_prediction(
    pred_seq: Sequence[Tensor],
    label_seq: Sequence[Tensor],
    delta_t: int = 10000,
    background: int | None = 0,
) -> TimeToPrediction:
    """Returns the times from the start of each gesture to its first right prediction.

    A gesture is a longest run of frames with one label that is not background. Its time ends with the time slice
    whose prediction was right, so a gesture recognised in its first frame took `delta_t`. Frames labelled -1 are looked
    through: they do not end a gesture that goes on after them, and no prediction in them counts, but their time passes.

    Args:
        pred_seq: Predictions of each data sample, int64 `[N]`.
        label_seq: Labels of each data sample, int64 `[N]`, -1 where a frame is left out.
        delta_t: Duration of a frame in µs.
        background: The label that is no gesture; None where every label is one.

    Raises:
        EdgeclfError: Where predictions and labels do not match in number.
    """
    if len(pred_seq) != len(label_seq) or any(p.shape != t.shape for p, t in zip(pred_seq, label_seq, strict=True)):
        raise EdgeclfError(
            "Times to prediction need as many predictions as labels for each data sample, and these differ."
        )
    frames: list[int] = []
    gestures = 0
    for predictions, labels in zip(pred_seq, label_seq, strict=True):
        for gesture in _gestures(labels.cpu(), background):
            gestures += 1
            right = predictions.cpu()[gesture] == labels.cpu()[gesture]
            if right.any():
                frames.append(int(gesture[get_1st_nonzeros(right)] - gesture[0]) + 1)
    latencies = torch.tensor(frames, dtype=torch.float64) * delta_t / 1000
    return TimeToPrediction(
        latencies_ms=latencies,
        median_ms=float(latencies.quantile(0.5)) if frames else nan,
        std_ms=float(latencies.std(correction=0)) if frames else nan,
        gestures=gestures,
        never_recognised=gestures - len(frames),
    )


def compute_kpis(results: Sequence[RecordingResult], labels: Sequence[str], delta_t: int) -> dict[str, float]:
    """Returns the KPIs of a classifier over a set of recordings, by name.

    Frames labelled -1 are left out of all of them. A KPI that has no value is NaN rather than 0: recall and AUROC of a
    class that is in no label, AUROC of a class that is in every label or has a probability that is not a number,
    precision of a class that is in no label and no prediction (it is 0 for one that is in labels only), times without a
    gesture to measure.

    Args:
        results: One entry a recording.
        labels: Names of the K outputs. The one called `background`, if there is one, is no gesture.
        delta_t: Duration of a frame in µs.

    Returns:
        - `accuracy`: share of frames whose prediction is right.
        - `recording_accuracy`: share of recordings whose majority vote is right: the class predicted most often equals
          the most frequent label, both over the frames that are labelled as something other than background; over all
          frames where a recording has background only. Of equally frequent classes the first one is taken.
        - `mean_recording_accuracy`: mean over recordings of their own `accuracy`.
        - `t2p_median_ms`, `t2p_std_ms`, `t2p_never_recognised_rate`: times from the start of a gesture to the first
          right prediction, see `calculate_time_to_prediction`, and the share of gestures that never had one.
        - `precision_<label>`, `recall_<label>`, `auroc_<label>` for each class; AUROC is the area under the ROC curve
          of the class's probability against all other classes.

    Raises:
        EdgeclfError: Where there is no frame to judge, or predictions do not fit the labels.
    """
    if len(labels) < 2:
        raise EdgeclfError(f"A classifier chooses between two outputs at least; this one has {len(labels)}.")
    for result in results:
        _check(result, len(labels))
    recordings = [_counted(result) for result in results if (result.labels >= 0).any()]
    if not recordings:
        raise EdgeclfError(
            "No KPI can be computed without a labelled frame; check that the data set's split holds recordings with "
            "labels."
        )
    background = labels.index(BACKGROUND) if BACKGROUND in labels else None
    target = torch.cat([recording.labels for recording in recordings])
    predictions = torch.cat([recording.predictions for recording in recordings])
    time = calculate_time_to_prediction(
        [result.predictions for result in results], [result.labels for result in results], delta_t, background
    )
    votes = [_majority_is_right(recording, background) for recording in recordings]
    shares = [_accuracy(recording) for recording in recordings]
    kpis = {
        "accuracy": float(multiclass_accuracy(predictions, target, len(labels), average="micro")),
        "recording_accuracy": sum(votes) / len(votes),
        "mean_recording_accuracy": sum(shares) / len(shares),
        "t2p_median_ms": time.median_ms,
        "t2p_std_ms": time.std_ms,
        "t2p_never_recognised_rate": time.never_recognised / time.gestures if time.gestures else nan,
    }
    probabilities = torch.cat([recording.probabilities for recording in recordings])
    return kpis | _per_class(predictions, probabilities, target, labels)


def _check(result: RecordingResult, outputs: int) -> None:
    """Raises where a result's tensors do not fit together; torchmetrics would tell of it in other words."""
    frames = result.labels.shape[0] if result.labels.ndim == 1 else -1
    if result.predictions.shape != (frames,) or result.probabilities.shape != (frames, outputs):
        raise EdgeclfError(
            f"{result.name}: labels of shape {tuple(result.labels.shape)}, predictions of shape "
            f"{tuple(result.predictions.shape)} and probabilities of shape {tuple(result.probabilities.shape)} do not "
            f"belong to one recording and {outputs} outputs; they must be [N], [N] and [N, {outputs}]."
        )
    for what, values, lowest in (("label", result.labels, -1), ("prediction", result.predictions, 0)):
        if frames and not lowest <= int(values.min()) <= int(values.max()) < outputs:
            raise EdgeclfError(
                f"{result.name}: its {what}s go from {int(values.min())} to {int(values.max())}, and a model with "
                f"{outputs} outputs has {what}s from {lowest} to {outputs - 1}; the data set's label map is not "
                "the model's."
            )


def _counted(result: RecordingResult) -> RecordingResult:
    """Returns the frames of a recording that count, on the CPU."""
    labels = result.labels.cpu()
    counted = labels >= 0
    return RecordingResult(
        result.name, labels[counted], result.predictions.cpu()[counted], result.probabilities.cpu()[counted]
    )


def _gestures(labels: Tensor, background: int | None) -> Iterator[Tensor]:
    """Yields the indices of the frames of each gesture, those labelled -1 left out."""
    (frames,) = torch.nonzero(labels >= 0, as_tuple=True)
    kept = labels[frames]
    starts = (torch.nonzero(kept[1:] != kept[:-1]).flatten() + 1).tolist()
    for gesture in frames.tensor_split(starts):
        if gesture.numel() and int(labels[gesture[0]]) != background:
            yield gesture


def _majority_is_right(recording: RecordingResult, background: int | None) -> bool:
    """Returns whether the majority vote of a recording's frames, all of which count, is right."""
    labels, predictions = recording.labels, recording.predictions
    if background is not None and (labels != background).any():
        predictions, labels = predictions[labels != background], labels[labels != background]
    # argmax gives the first of equal counts, which is what settles ties.
    return int(predictions.bincount().argmax()) == int(labels.bincount().argmax())


def _accuracy(recording: RecordingResult) -> float:
    return float((recording.predictions == recording.labels).double().mean())


def _per_class(predictions: Tensor, probabilities: Tensor, target: Tensor, labels: Sequence[str]) -> dict[str, float]:
    """Returns precision, recall and AUROC of each class, by name."""
    outputs = len(labels)
    precision = multiclass_precision(predictions, target, outputs, average=None)
    recall = multiclass_recall(predictions, target, outputs, average=None)
    kpis: dict[str, float] = {}
    for k, label in enumerate(labels):
        present = target == k
        # torchmetrics gives 0 where there is nothing to divide by, which reads like a failure of the classifier.
        kpis[f"precision_{label}"] = float(precision[k]) if (present | (predictions == k)).any() else nan
        kpis[f"recall_{label}"] = float(recall[k]) if present.any() else nan
        kpis[f"auroc_{label}"] = _auroc(probabilities[:, k], present)
    return kpis


def _auroc(score: Tensor, present: Tensor) -> float:
    """Returns the area under one class's ROC curve, which is what `multiclass_auroc` computes one by one.

    Asked for all classes at once, it warns of those that have no such curve and gives them 0.
    """
    if not present.any() or present.all() or not score.isfinite().all():
        return nan
    # Softmax may exceed 1 by a rounding error, which torchmetrics would take for logits.
    return float(binary_auroc(score.clamp(0, 1), present.long()))
