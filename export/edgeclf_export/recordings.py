"""Running an exported file over the recordings of a data set; needs no torch but for `RecordingLogits`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeclf.data.dataset import LabelledRecording
from edgeclf.data.labels import recording_name
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.frames import open_frames
from edgeclf_runtime.golden import Array, ChainedStep, Step

if TYPE_CHECKING:
    from edgeclf.evaluation import RecordingLogits

STRETCHES = 16
"""Of how many recordings frames are kept."""

_LONGEST = 64
_MOST_BYTES = 512 * 1024**2


def run_frames(recording: LabelledRecording, contract: Contract, run: Callable[[Array], Array]) -> NDArray[np.float32]:
    """Returns what `run` gives for each frame of a recording, one after the other.

    Args:
        recording: A recording of a data set; it is opened as the exported file says.
        contract: What is inside the file.
        run: Takes a frame `[C, H, W]` and gives its logits `[K]`.

    Returns:
        Logits `[N, K]`.

    Raises:
        UsageError: Where the file makes other frames of the recording than the data set has.
        EdgeclfError: Where the recording cannot be read, or `run` fails.
    """
    logits: list[Array] = []
    for frame in open_frames(recording.path, contract):
        if len(logits) == len(recording):
            raise _other_frames(recording, "more")
        logits.append(run(frame.data))
    if len(logits) < len(recording):
        raise _other_frames(recording, "fewer")
    return np.stack(logits).astype(np.float32, copy=False)


def run_recording(step: Step, contract: Contract, recording: LabelledRecording) -> RecordingLogits:
    """Returns what an exported step gives for every frame of a recording, its own state fed back."""
    rows = contract.batch or 1
    chained = ChainedStep(step, contract, rows)
    keep = np.zeros(rows, np.float32)

    def run(frame: Array) -> Array:
        logits: Array = chained(np.repeat(frame[None], rows, axis=0), keep)[0][0]
        keep[:] = 1
        return logits

    return recording_logits(recording, run_frames(recording, contract, run))


def recording_logits(recording: LabelledRecording, logits: NDArray[np.float32]) -> RecordingLogits:
    """Returns what a classifier gave for a recording, `[N, K]`, with its name, labels and times."""
    import torch

    from edgeclf.evaluation import RecordingLogits

    return RecordingLogits(
        recording_name(recording.path),
        torch.from_numpy(recording.labels),
        torch.from_numpy(logits),
        str(recording.path),
        torch.from_numpy(recording.ends_us),
    )


def _other_frames(recording: LabelledRecording, how_many: str) -> UsageError:
    return UsageError(
        f"{recording.path}: the exported file makes {how_many} frames of it than the {len(recording)} that its data "
        "set has; export the checkpoint again."
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
