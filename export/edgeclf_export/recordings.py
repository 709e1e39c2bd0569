"""Running an exported step over the recordings of a data set, its own state fed back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from edgeclf.data.dataset import LabelledRecording
from edgeclf.evaluation import RecordingLogits
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.golden import Array, Step
from edgeclf_runtime.sources import open_source

STRETCHES = 16
"""Of how many recordings frames are kept."""

_LONGEST = 64
_MOST_BYTES = 512 * 1024**2


class ChainedStep:
    """An exported step and the state of its streams.

    Args:
        step: The loaded file.
        contract: What is inside it.
        batch: Number of streams.
    """

    def __init__(self, step: Step, contract: Contract, batch: int) -> None:
        self._step = step
        self._contract = contract
        self._state: Sequence[Array] = [np.zeros((batch, *s.shape), contract.state_type) for s in contract.state]

    def __call__(self, first: Array, keep: Array) -> Sequence[Array]:
        """Runs one step: frames `[B, C, H, W]` (or events), and `keep` `[B]`, 0 where a stream starts anew."""
        contract = self._contract
        given = [first.astype(contract.edge_type, copy=False) if first.dtype.kind == "f" else first]
        if contract.state and contract.keep_memory:
            given.append(keep.astype(contract.edge_type))
        elif not keep.all():  # who keeps the state for such a graph starts it at zero
            self._state = [np.where(keep.reshape(-1, *[1] * (s.ndim - 1)) > 0, s, s.dtype.type(0)) for s in self._state]
        outputs = self._step([*given, *self._state])
        self._state = outputs[2:]
        return outputs


def run_recording(step: Step, contract: Contract, recording: LabelledRecording) -> RecordingLogits:
    """Returns what an exported step gives for every frame of a recording."""
    rows = contract.batch or 1
    chained = ChainedStep(step, contract, rows)
    logits: list[Array] = []
    for frame in open_source(recording.path, contract):
        keep = np.full(rows, float(bool(logits)), np.float32)
        logits.append(chained(np.repeat(frame.data[None], rows, axis=0), keep)[0][0])
    return RecordingLogits(
        recording.path.stem,
        torch.from_numpy(recording.labels),
        torch.from_numpy(np.stack(logits).astype(np.float32)),
        str(recording.path),
        torch.from_numpy(recording.ends_us),
    )


def stretches(recordings: Sequence[LabelledRecording], contract: Contract) -> list[Array]:
    """Returns consecutive event frames out of the middle of some recordings, each `[T, C, H, W]` float32.

    At most 64 frames each of at most 16 recordings, evenly chosen, and 512 MB in all.
    """
    size = 4 * int(np.prod(contract.frame_shape))
    longest = max(1, min(_LONGEST, _MOST_BYTES // (size * STRETCHES)))
    chosen = np.unique(np.linspace(0, len(recordings) - 1, STRETCHES).round().astype(int))
    kept = []
    for recording in (recordings[i] for i in chosen):
        begin = max(0, (len(recording.labels) - longest) // 2)
        frames = itertools.islice(open_source(recording.path, contract), begin, begin + longest)
        kept.append(np.stack([frame.data for frame in frames]).astype(np.float32))
    return kept
