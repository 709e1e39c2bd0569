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
            logits, state = unroll_batch(model, batch, state)
            collector.add(batch, logits)
    return collector.recordings()


def unroll_batch(model: Classifier, batch: Batch, memory: State | None) -> tuple[Tensor, State]:
    """Runs a classifier over one batch of consecutive frames.

    Rows that only fill the batch up stay out of the network, whose batch normalisation would learn from them.

    Args:
        model: In whatever mode it shall run.
        batch: The batch.
        memory: The state after the batch before; None before the first one.

    Returns:
        Logits `[T, B, K]` and the state after the batch, both zero in rows that only fill it up.
    """
    x = batch["inputs"]
    if memory is None:
        memory = model.initial_state(x.shape[1], x.shape[-2], x.shape[-1])
    state = mask_state(memory, batch["mask_keep_memory"])
    rows = [row for row, info in enumerate(batch["video_infos"]) if info.path]
    logits, state = model.unroll(x[:, rows], {name: value[rows] for name, value in state.items()})
    return _spread(logits, 1, rows, x.shape[1]), {n: _spread(v, 0, rows, x.shape[1]) for n, v in state.items()}


def _spread(value: Tensor, axis: int, rows: list[int], batch: int) -> Tensor:
    """Returns `value` with its entries along the batch axis at `rows` of `batch` rows, and zeros at the others."""
    if len(rows) == batch:
        return value
    shape = [*value.shape[:axis], batch, *value.shape[axis + 1 :]]
    return value.new_zeros(shape).index_copy(axis, torch.tensor(rows, device=value.device), value)
