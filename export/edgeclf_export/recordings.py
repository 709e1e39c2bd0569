"""Running an exported step over the recordings of a data set, its own state fed back."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch

from edgeclf.data.dataset import LabelledRecording
from edgeclf.evaluation import RecordingLogits
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.frames import open_frames
from edgeclf_runtime.golden import Array, ChainedStep, Step

STRETCHES = 16
"""Of how many recordings frames are kept."""

_LONGEST = 64
_MOST_BYTES = 512 * 1024**2


def run_recording(step: Step, contract: Contract, recording: LabelledRecording) -> RecordingLogits:
    """Returns what an exported step gives for every frame of a recording."""
    rows = contract.batch or 1
    chained = ChainedStep(step, contract, rows)
    logits: list[Array] = []
    for frame in open_frames(recording.path, contract):
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
        frames = itertools.islice(open_frames(recording.path, contract), begin, begin + longest)
        kept.append(np.stack([frame.data for frame in frames]).astype(np.float32))
    return kept
