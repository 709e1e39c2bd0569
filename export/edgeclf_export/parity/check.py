"""Parity: is the exported file still the same classifier, over a whole split of a data set?"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeclf.checkpoint import Checkpoint, load_checkpoint
from edgeclf.data.dataset import LabelledRecording, Split
from edgeclf.data_module import ClassificationDataModule
from edgeclf.evaluation import RecordingLogits, evaluate
from edgeclf.utils_metrics import compute_kpis
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.frames import open_frames
from edgeclf_runtime.session import Classifier, Device

_log = logging.getLogger(__name__)

RATE_TOLERANCE = 1e-3
"""For KPIs between 0 and 1: an accuracy, a precision, a recall, an AUROC. Numbers of gestures must be equal by it."""

SAME_SCORE = 1e-5
"""Probabilities that differ by less are told apart by rounding alone; what that does to an AUROC is let through too."""

TIME_TOLERANCE_MS = 1.0
"""For times to prediction, which are multiples of `delta_t`: less than one frame."""


@dataclass(frozen=True)
class KpiComparison:
    """One KPI on both sides; NaN (undefined on this split) equals NaN.

    Attributes:
        reference: The PyTorch model's.
        exported: The exported file's.
        tolerance: Largest difference that is let through.
    """

    reference: float
    exported: float
    tolerance: float

    @property
    def difference(self) -> float:
        """Exported minus reference; 0 where both are undefined."""
        if math.isnan(self.reference) and math.isnan(self.exported):
            return 0.0
        return self.exported - self.reference

    @property
    def difference_text(self) -> str:
        """The difference for people to read."""
        return f"{self.difference:+.1e}" if self.difference else "0"

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance."""
        return abs(self.difference) <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of `parity --json`."""
        return asdict(self) | {"difference": self.difference, "passed": self.passed}


@dataclass(frozen=True)
class ParityReport:
    """What the comparison found; true where every KPI passed.

    Attributes:
        frames: Frames that both sides were run on.
        top1_agreement: Share of them for which both name the same class.
        max_abs_logit_difference: Largest difference of a logit.
        kpis: The comparison of each KPI, by name.
        results: Per recording, the exported side's logits.
    """

    frames: int
    top1_agreement: float
    max_abs_logit_difference: float
    kpis: dict[str, KpiComparison]
    results: list[RecordingLogits]

    def __bool__(self) -> bool:
        return bool(self.kpis) and all(kpi.passed for kpi in self.kpis.values())

    def to_dict(self) -> dict[str, Any]:
        """Returns the document of `parity --json`."""
        return {
            "passed": bool(self),
            "frames": self.frames,
            "top1_agreement": self.top1_agreement,
            "max_abs_logit_difference": self.max_abs_logit_difference,
            "kpis": {name: kpi.to_dict() for name, kpi in self.kpis.items()},
        }


class ParityCheck:
    """Both sides, ready to run: `exported_results`, a recording at a time, then `compare`.

    Args:
        checkpoint: The checkpoint, run in PyTorch.
        model: The exported file.
        dataset: The data set folder.
        split: Which of its splits.
        device: Where the exported file runs.

    Raises:
        InputFileError: Where a file cannot be used.
        UsageError: Where the file was exported from another model, or the data set does not fit.
    """

    def __init__(
        self, checkpoint: Path, model: Path, dataset: Path, split: Split = "test", device: Device = "cpu"
    ) -> None:
        self._checkpoint = load_checkpoint(checkpoint)
        self._exported = Classifier.load(model, device)
        _check_same_model(self._checkpoint, self._exported.contract, model)
        data = ClassificationDataModule(self._checkpoint.hyperparameters.to_dict(), dataset)
        self._batches = data.sequences(split)

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each output."""
        return self._exported.contract.labels

    def __len__(self) -> int:
        return len(self._batches.recordings)

    def exported_results(self) -> Iterator[RecordingLogits]:
        """Runs the exported file; yields a recording at a time."""
        for recording in self._batches.recordings:
            yield _run_exported(self._exported, recording)

    def compare(self, exported: list[RecordingLogits]) -> ParityReport:
        """Runs the PyTorch model and compares it with what the exported file gave."""
        reference = evaluate(self._checkpoint.build_model(), self._batches)
        of_path = {recording.path: recording for recording in exported}
        exported = [of_path[recording.path] for recording in reference]
        expected = torch.cat([recording.logits for recording in reference])
        found = torch.cat([recording.logits for recording in exported])
        hyper = self._checkpoint.hyperparameters
        kpis = [
            compute_kpis([recording.result() for recording in side], hyper.labels, hyper.frame_duration)
            for side in (reference, exported)
        ]
        tolerances = dict.fromkeys((name for name in kpis[0] if name.endswith("_ms")), TIME_TOLERANCE_MS)
        tolerances |= _auroc_tolerances(reference, hyper.labels)
        return ParityReport(
            frames=len(expected),
            top1_agreement=float((expected.argmax(1) == found.argmax(1)).float().mean()),
            max_abs_logit_difference=float((expected - found).abs().max()),
            kpis={
                name: KpiComparison(value, kpis[1][name], tolerances.get(name, RATE_TOLERANCE))
                for name, value in kpis[0].items()
            },
            results=exported,
        )


def _auroc_tolerances(reference: list[RecordingLogits], labels: Sequence[str]) -> dict[str, float]:
    """Returns by how much each AUROC may differ.

    It is the share of pairs of a frame that shows the class and one that does not in which the first has the larger
    probability. Pairs whose probabilities are the same but for rounding may come out in either order, which for a
    classifier that says the same of all frames is most of them.
    """
    right = torch.cat([recording.labels for recording in reference]).numpy()
    scores = torch.cat([recording.logits for recording in reference]).double().softmax(1).numpy()
    tolerances = {}
    for k, label in enumerate(labels):
        showing, others = scores[right == k, k], np.sort(scores[(right >= 0) & (right != k), k])
        close = np.searchsorted(others, showing + SAME_SCORE) - np.searchsorted(others, showing - SAME_SCORE)
        pairs = max(showing.size * others.size, 1)
        tolerances[f"auroc_{label}"] = RATE_TOLERANCE + float(close.sum()) / pairs
    return tolerances


def _run_exported(classifier: Classifier, recording: LabelledRecording) -> RecordingLogits:
    classifier.reset()
    source = open_frames(recording.path, classifier.contract)
    logits = np.stack([classifier.step(frame.data[None]).logits[0] for frame in source])
    return RecordingLogits(
        recording.path.stem,
        torch.from_numpy(recording.labels),
        torch.from_numpy(logits),
        str(recording.path),
        torch.from_numpy(recording.ends_us),
    )


def _check_same_model(checkpoint: Checkpoint, contract: Contract, model: Path) -> None:
    hyper = checkpoint.hyperparameters
    if contract.labels != hyper.labels or contract.frame_shape[1:] != (hyper.height, hyper.width):
        raise UsageError(
            f"{model}: this is another model than the checkpoint {checkpoint.path}: its outputs are "
            f"{', '.join(contract.labels)} for frames of {contract.frame_shape[1]}×{contract.frame_shape[2]}, the "
            f"checkpoint's {', '.join(hyper.labels)} for {hyper.height}×{hyper.width}; export that checkpoint."
        )
    if contract.checkpoint_sha256 != checkpoint.sha256:
        _log.warning("%s was not exported from %s, but from another checkpoint.", model, checkpoint.path)
