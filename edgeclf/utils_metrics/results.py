"""What a classifier made of a recording: the input of every KPI, and its checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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

    def check(self, outputs: int) -> None:
        """Raises where the tensors do not fit together; torchmetrics would tell of it in other words.

        Args:
            outputs: Number of outputs of the model.

        Raises:
            EdgeclfError: Where shapes or values cannot be those of a recording and so many outputs.
        """
        frames = self.labels.shape[0] if self.labels.ndim == 1 else -1
        if self.predictions.shape != (frames,) or self.probabilities.shape != (frames, outputs):
            raise EdgeclfError(
                f"{self.name}: labels of shape {tuple(self.labels.shape)}, predictions of shape "
                f"{tuple(self.predictions.shape)} and probabilities of shape {tuple(self.probabilities.shape)} do not "
                f"belong to one recording and {outputs} outputs; they must be [N], [N] and [N, {outputs}]."
            )
        check_range(self.name, self.labels, self.predictions, outputs)

    def counted(self) -> RecordingResult:
        """Returns the frames that count, on the CPU."""
        labels = self.labels.cpu()
        counted = labels >= 0
        return RecordingResult(
            self.name, labels[counted], self.predictions.cpu()[counted], self.probabilities.cpu()[counted]
        )


def check_range(name: str, labels: Tensor, predictions: Tensor | None, outputs: int) -> None:
    """Raises where labels or predictions are not those of a model with so many outputs.

    Args:
        name: What to call the data in an error.
        labels: Right outputs, -1 where left out.
        predictions: Outputs chosen; None where there are none to check.
        outputs: Number of outputs of the model.

    Raises:
        EdgeclfError: Where one is out of range.
    """
    for what, values, lowest in (("label", labels, -1), ("prediction", predictions, 0)):
        if values is None or not values.numel():
            continue
        smallest, largest = int(values.min()), int(values.max())
        if not lowest <= smallest <= largest < outputs:
            raise EdgeclfError(
                f"{name}: its {what}s go from {smallest} to {largest}, and a model with {outputs} outputs has {what}s "
                f"from {lowest} to {outputs - 1}; the data set's label map is not the model's."
            )


def labelled_predictions(preds_all: Tensor, labels_all: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
    """Returns predicted and right outputs of the frames that count, both int64 `[N]` on the CPU.

    Args:
        preds_all: Predicted outputs in the shape of `labels_all`, or probabilities with one more axis of length
            `outputs`, of which the largest counts (of equal ones the first).
        labels_all: Right outputs, -1 where a frame is left out.
        outputs: Number of outputs.

    Raises:
        EdgeclfError: Where the two do not fit together, or no frame is labelled.
    """
    preds_all, labels_all = torch.as_tensor(preds_all), torch.as_tensor(labels_all)
    if preds_all.shape == (*labels_all.shape, outputs):
        preds_all = preds_all.argmax(-1)
    elif preds_all.shape != labels_all.shape:
        raise EdgeclfError(
            f"Predictions of shape {tuple(preds_all.shape)} do not belong to labels of shape "
            f"{tuple(labels_all.shape)}; there must be one for each label, or {outputs} probabilities."
        )
    elif preds_all.is_floating_point():
        raise EdgeclfError(
            f"Predictions of shape {tuple(preds_all.shape)} and type {preds_all.dtype} are no outputs; give whole "
            f"numbers, or {outputs} probabilities for each label."
        )
    predictions, labels = preds_all.cpu().flatten().long(), labels_all.cpu().flatten().long()
    counted = _counted_frames(labels)
    check_range("These predictions", labels, predictions[counted], outputs)
    return predictions[counted], labels[counted]


def labelled_probabilities(preds_all: Tensor, labels_all: Tensor, labels: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Returns probabilities `[N, K]` and right outputs int64 `[N]` of the frames that count, on the CPU.

    Args:
        preds_all: Probabilities, `[..., K]`.
        labels_all: Right outputs `[...]`, -1 where a frame is left out.
        labels: Names of the K outputs.

    Raises:
        EdgeclfError: Where they do not fit together, are no probabilities, or no frame is labelled.
    """
    outputs = len(labels)
    preds_all, labels_all = torch.as_tensor(preds_all), torch.as_tensor(labels_all)
    if preds_all.shape != (*labels_all.shape, outputs):
        raise EdgeclfError(
            f"Probabilities of shape {tuple(preds_all.shape)} do not belong to labels of shape "
            f"{tuple(labels_all.shape)} and {outputs} classes ({', '.join(labels)}); give {outputs} for each label."
        )
    probabilities, right = preds_all.cpu().reshape(-1, outputs), labels_all.cpu().flatten().long()
    counted = _counted_frames(right)
    check_range("These labels", right, None, outputs)
    probabilities = probabilities[counted].double()
    # Softmax may leave 0 to 1 by a rounding error; what leaves it by more was never softmaxed. NaN passes on.
    if (probabilities < -1e-3).any() or (probabilities > 1 + 1e-3).any():
        raise EdgeclfError(
            f"These values go from {probabilities.min():.3g} to {probabilities.max():.3g}, so they are no "
            "probabilities; apply softmax to the logits first."
        )
    return probabilities, right[counted]


def _counted_frames(labels: Tensor) -> Tensor:
    counted = labels >= 0
    if not counted.any():
        raise EdgeclfError(
            "There is no labelled frame among these predictions, so nothing can be drawn or computed of them; check "
            "that the data set's split holds recordings with labels."
        )
    return counted
