"""Running a classifier in PyTorch over whole recordings, every frame once, memory carried along."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from edgeclf.data.labels import recording_name
from edgeclf.data.sequential import Batch, VideoInfo
from edgeclf.models import Classifier, State, mask_state
from edgeclf.models.feed_forward import FeedForwardClassifier
from edgeclf.utils_metrics import RecordingResult


@dataclass(frozen=True)
class RecordingLogits:
    """What a classifier gave for a recording.

    Attributes:
        name: The recording's name.
        labels: int64 `[N]`, -1 where a frame is left out.
        logits: float32 `[N, K]`.
        path: The recording's file; empty where nobody said.
        end_us: First µs after each frame, in the recording's own time, int64 `[N]`; None where nobody said.
    """

    name: str
    labels: Tensor
    logits: Tensor
    path: str = ""
    end_us: Tensor | None = None

    def result(self) -> RecordingResult:
        """Returns what the KPIs are computed of."""
        return RecordingResult(self.name, self.labels, self.logits.argmax(1), self.logits.softmax(1))


class LogitsCollector:
    """Puts the logits of sequential batches together again, a recording at a time."""

    def __init__(self) -> None:
        self._parts: dict[str, list[tuple[VideoInfo, Tensor, Tensor]]] = defaultdict(list)

    def add(self, batch: Batch, logits: Tensor) -> None:
        """Takes the logits `[T, B, K]` of a batch; what only fills it up is left out."""
        logits, labels = logits.detach().float().cpu(), batch["labels"].cpu()
        for row, info in enumerate(batch["video_infos"]):
            if info.path:
                self._parts[info.path].append((info, labels[: info.frames, row], logits[: info.frames, row]))

    def recordings(self) -> list[RecordingLogits]:
        """Returns the recordings, sorted by path."""
        return [_joined(path, parts) for path, parts in sorted(self._parts.items())]


def _joined(path: str, parts: list[tuple[VideoInfo, Tensor, Tensor]]) -> RecordingLogits:
    infos, labels, logits = zip(*parts, strict=True)
    ends = [end for info in infos for end in info.ends_us]
    known = len(ends) == sum(info.frames for info in infos)
    return RecordingLogits(
        recording_name(Path(path)),
        torch.cat(labels),
        torch.cat(logits),
        path,
        torch.tensor(ends, dtype=torch.int64) if known else None,
    )


def evaluate(model: Classifier, batches: Iterable[Batch]) -> list[RecordingLogits]:
    """Returns the logits of every frame of every recording in `batches`.

    Args:
        model: In evaluation mode.
        batches: Batches of consecutive frames, see `SequentialPlan`.
    """
    collector = LogitsCollector()
    state: State | None = None
    with torch.inference_mode():
        for batch in batches:
            logits, state = unroll_batch(model, batch, state)
            collector.add(batch, logits)
    return collector.recordings()


def unroll_batch(model: Classifier, batch: Batch, memory: State | None) -> tuple[Tensor, State]:
    """Runs a classifier over one batch, of consecutive frames or of windows.

    Frames that only fill the batch up stay out of the network, whose batch normalisation would learn from them; a batch
    of nothing else does not reach it. Where only the last frames of the rows have labels (windows), the frames before
    them become memory, and a feed-forward network does not run on them.

    Args:
        model: In whatever mode it shall run.
        batch: The batch.
        memory: The state after the batch before; None before the first one.

    Returns:
        Logits `[T, B, K]` for the T frames that `labels` has, and the state after the batch; what they are for frames
        that only fill it up, and in rows that end with such, says nothing.
    """
    x, steps = batch["inputs"], batch["labels"].shape[0]
    if memory is None:
        memory = model.initial_state(x.shape[1], x.shape[-2], x.shape[-1])
    state = mask_state(memory, batch["mask_keep_memory"])
    known = torch.tensor([info.frames for info in batch["video_infos"]])
    if not known.any():
        return x.new_zeros(steps, x.shape[1], model.num_classes), state
    present = None if (known == steps).all() else (torch.arange(steps)[:, None] < known).to(x.device)
    if isinstance(model, FeedForwardClassifier):
        before = len(x) - steps
        state = model.remember(x[:before], state) if before else state
        return model.unroll(x[before:], state, present)
    if present is not None and len(x) > steps:
        present = torch.cat([present[:1].expand(len(x) - steps, -1), present])
    logits, state = model.unroll(x, state, present)
    return logits[-steps:], state
