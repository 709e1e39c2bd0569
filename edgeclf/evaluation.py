"""Running a classifier in PyTorch over whole recordings, every frame once, memory carried along."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edgeclf.data.sequential import Batch
from edgeclf.models import Classifier, State, mask_state
from edgeclf.utils_metrics import RecordingResult


@dataclass(frozen=True)
class RecordingLogits:
    """What a classifier gave for a recording.

    Attributes:
        name: The recording's name.
        labels: int64 `[N]`, -1 where a frame is left out.
        logits: float32 `[N, K]`.
    """

    name: str
    labels: Tensor
    logits: Tensor

    def result(self) -> RecordingResult:
        """Returns what the KPIs are computed of."""
        return RecordingResult(self.name, self.labels, self.logits.argmax(1), self.logits.softmax(1))


class LogitsCollector:
    """Puts the logits of sequential batches together again, a recording at a time."""

    def __init__(self) -> None:
        self._parts: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)

    def add(self, batch: Batch, logits: Tensor) -> None:
        """Takes the logits `[T, B, K]` of a batch; what only fills it up is left out."""
        logits, labels = logits.detach().float().cpu(), batch["labels"].cpu()
        for row, info in enumerate(batch["video_infos"]):
            if info.path:
                self._parts[info.path].append((labels[: info.frames, row], logits[: info.frames, row]))

    def recordings(self) -> list[RecordingLogits]:
        """Returns the recordings, sorted by name."""
        return [
            RecordingLogits(
                Path(path).stem,
                torch.cat([labels for labels, _ in parts]),
                torch.cat([logits for _, logits in parts]),
            )
            for path, parts in sorted(self._parts.items())
        ]


def evaluate(model: Classifier, batches: Iterable[Batch]) -> list[RecordingLogits]:
    """Returns the logits of every frame of every recording in `batches`.

    Args:
        model: In evaluation mode.
        batches: Batches of consecutive frames, see `SequentialDataset`.
    """
    collector = LogitsCollector()
    state: State | None = None
    with torch.inference_mode():
        for batch in batches:
            x = batch["inputs"]
            if state is None:
                state = model.initial_state(x.shape[1], x.shape[-2], x.shape[-1])
            logits, state = model.unroll(x, mask_state(state, batch["mask_keep_memory"]))
            collector.add(batch, logits)
    return collector.recordings()
