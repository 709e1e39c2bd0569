"""Loading the batches of a plan: a recording's frames in consecutive batches, or windows of frames."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from edgeclf.data.dataset import LabelledRecording
from edgeclf.data.frame_store import FramesInMemory, FrameStore, OpenStores
from edgeclf.data.labels import IGNORED
from edgeclf.data.plan import EpochPlan, Piece, Pieces
from edgeclf_runtime.errors import InputFileError
from edgeclf_runtime.preprocessing import area_resize

# HDF5 takes the longer to close a file, the more of them are open.
_OPEN_FILES = 32
_MOST_BYTES_IN_MEMORY = 1 << 30


class VideoInfo(NamedTuple):
    """Where the frames of one row of a batch come from.

    Attributes:
        path: The recording's file; empty for a row that only fills the batch up.
        start_frame: Number in it of the first frame for which there is a label in the batch.
        frames: How many of those frames are the recording's; the row's frames after them are zeros.
        batch_start_us: Time of the first frame's start, in the recording's own time.
        ends_us: First µs after each of them, in the recording's own time.
    """

    path: str
    start_frame: int
    frames: int
    batch_start_us: int
    ends_us: tuple[int, ...] = ()


class Batch(TypedDict):
    """A batch, under Metavision's names.

    `inputs` float32 `[T, B, C, H, W]`; `labels` int64 `[T, B]`, -1 where a frame is left out; `mask_keep_memory`
    float32 `[B, 1, 1, 1]`, 0 where a recording starts; `frame_is_labeled` bool `[T, B]`; `video_infos`, B of them.

    In a batch of windows there is one label for each, that of its last frame: `labels` and `frame_is_labeled` are
    `[1, B]`.
    """

    inputs: Tensor
    labels: Tensor
    mask_keep_memory: Tensor
    frame_is_labeled: Tensor
    video_infos: list[VideoInfo]


class RecordingDataset(Dataset[Batch]):
    """Batches of recordings: what a plan says is in a batch goes in, the batch comes out.

    As a map-style data set it goes into a `DataLoader` with `sampler=plan, batch_size=None`, where any number of
    processes may load. Iterating over it gives the plan's batches without one.

    Args:
        recordings: What to load.
        frame_shape: Channels, rows and columns of the frames; stored ones that are larger are shrunk by area.
        plan: The plan of an epoch.

    Raises:
        InputFileError: Where a recording's frames have other channels or are smaller.
    """

    def __init__(
        self,
        recordings: Sequence[LabelledRecording],
        frame_shape: tuple[int, int, int],
        plan: EpochPlan,
    ) -> None:
        self.recordings = list(recordings)
        self.frame_shape = frame_shape
        self.plan = plan
        for recording in self.recordings:
            _check_shape(recording, frame_shape)
        self._stores = self._frame_stores()

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the recordings, where they are shuffled."""
        self.plan.set_epoch(epoch)

    def __len__(self) -> int:
        """Returns the number of batches of an epoch."""
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        """Yields the batches of one epoch."""
        for pieces in self.plan:
            yield self[pieces]

    def __getitem__(self, pieces: Pieces) -> Batch:
        """Returns the batch that these pieces make, a row each.

        Raises:
            DamagedInputError: Where a file cannot be read there.
        """
        rows, labelled = len(pieces), 1 if self.plan.one_label else self.plan.steps
        inputs = torch.zeros(self.plan.steps, rows, *self.frame_shape)
        labels = torch.full((labelled, rows), IGNORED)
        infos = [VideoInfo("", 0, 0, 0)] * rows
        for row, piece in enumerate(pieces):
            if piece is None:
                continue
            recording = self.recordings[piece.recording]
            frames = self._frames(piece)
            first = self.plan.steps - len(frames) if self.plan.one_label else 0
            inputs[first : first + len(frames), row] = frames
            stop = piece.start + piece.frames
            start = stop - 1 if self.plan.one_label else piece.start
            labels[: stop - start, row] = torch.from_numpy(recording.labels[start:stop])
            ends = tuple(recording.ends_us[start:stop].tolist())
            infos[row] = VideoInfo(str(recording.path), start, stop - start, recording.start_us(start), ends)
        keep = torch.tensor([float(piece is not None and piece.keep_memory) for piece in pieces])
        return {
            "inputs": inputs,
            "labels": labels,
            "mask_keep_memory": keep.view(-1, 1, 1, 1),
            "frame_is_labeled": labels != IGNORED,
            "video_infos": infos,
        }

    def _frame_stores(self) -> OpenStores:
        """Returns where frames are read from.

        Windows come from any recording at any time, and to open a file takes longer than to read a few small frames:
        a data set that is small enough is kept in memory for them, in each loading process.
        """
        size = sum(4 * len(recording) * math.prod(recording.frame_shape) for recording in self.recordings)
        if self.plan.one_label and size <= _MOST_BYTES_IN_MEMORY:
            return OpenStores([partial(_in_memory, recording) for recording in self.recordings], len(self.recordings))
        capacity = _OPEN_FILES if self.plan.one_label else 2 * self.plan.batch_size
        return OpenStores([recording.open for recording in self.recordings], max(capacity, 1))

    def _frames(self, piece: Piece) -> Tensor:
        stored = self._stores[piece.recording].read(max(piece.start, 0), piece.start + piece.frames)
        frames = torch.from_numpy(np.ascontiguousarray(area_resize(stored, *self.frame_shape[1:])))
        return frames if piece.transformation is None else piece.transformation.apply(frames)


def _in_memory(recording: LabelledRecording) -> FrameStore:
    return FramesInMemory(recording.open(), len(recording))


def _check_shape(recording: LabelledRecording, frame_shape: tuple[int, int, int]) -> None:
    channels, rows, columns = recording.frame_shape
    if channels != frame_shape[0] or rows < frame_shape[1] or columns < frame_shape[2]:
        raise InputFileError(
            f"{recording.path}: its frames have {channels} channels of {rows}×{columns} (height × width), and "
            f"{frame_shape[0]} channels of {frame_shape[1]}×{frame_shape[2]} or larger are needed; make it again like "
            "the other recordings."
        )
