"""Sequential loading: a recording's frames in consecutive batches, so that memory can be carried on."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from edgeclf.data.augmentation import shifted
from edgeclf.data.dataset import LabelledRecording
from edgeclf.data.labels import IGNORED
from edgeclf_runtime.errors import InputFileError
from edgeclf_runtime.preprocessing import area_resize
from edgeclf_runtime.tensor_file import TensorFile


class VideoInfo(NamedTuple):
    """Where the frames of one row of a batch come from.

    Attributes:
        path: The tensor file; empty for a row that only fills the batch up.
        start_frame: Number of the first frame in it.
        frames: How many of the row's frames are the recording's; those after it are zeros.
        batch_start_us: Time of the first frame's start, in the recording's own time.
    """

    path: str
    start_frame: int
    frames: int
    batch_start_us: int


class Batch(TypedDict):
    """A batch, under Metavision's names.

    `inputs` float32 `[T, B, C, H, W]`; `labels` int64 `[T, B]`, -1 where a frame is left out; `mask_keep_memory`
    float32 `[B, 1, 1, 1]`, 0 where a recording starts; `frame_is_labeled` bool `[T, B]`; `video_infos`, B of them.
    """

    inputs: Tensor
    labels: Tensor
    mask_keep_memory: Tensor
    frame_is_labeled: Tensor
    video_infos: list[VideoInfo]


class SequentialDataset(IterableDataset[Batch]):
    """Batches of B recordings side by side, `num_tbins` frames of each at a time.

    A row goes through its recording to the end, then takes the next one that no row has taken. The last frames of a
    recording, and rows for which no recording is left, are filled up with zeros that are not labelled, so that every
    frame is seen exactly once.

    Args:
        recordings: What to load.
        frame_shape: Channels, rows and columns of the frames; stored ones that are larger are shrunk by area.
        batch_size: Recordings side by side.
        num_tbins: Frames of each in one batch.
        shuffle_seed: Order of the recordings, another every epoch; None: as given, and nothing is augmented.
        random_shift: All frames of a recording are moved by up to so many pixels in each direction, in every epoch
            by others.

    Raises:
        InputFileError: Where a recording's frames have other channels or are smaller.
    """

    def __init__(
        self,
        recordings: Sequence[LabelledRecording],
        frame_shape: tuple[int, int, int],
        batch_size: int,
        num_tbins: int,
        shuffle_seed: int | None = None,
        random_shift: int = 0,
    ) -> None:
        self.recordings = list(recordings)
        self.frame_shape = frame_shape
        for recording in self.recordings:
            _check_shape(recording, frame_shape)
        self.batch_size = min(batch_size, len(self.recordings))
        self.num_tbins = num_tbins
        self.shuffle_seed = shuffle_seed
        self.random_shift = random_shift
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the recordings, where they are shuffled."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Returns the number of batches of this epoch."""
        # The next recording goes to the row that is free first; of several, to the first of them.
        rows = [(0, row) for row in range(self.batch_size)]
        for recording, _ in self._plan():
            batches, row = rows[0]
            heapq.heapreplace(rows, (batches - (-len(recording) // self.num_tbins), row))
        return max(batches for batches, _ in rows)

    def __iter__(self) -> Iterator[Batch]:
        """Yields the batches of one epoch."""
        waiting = iter(self._plan())
        rows = [self._chunks(*planned) for _, planned in zip(range(self.batch_size), waiting, strict=False)]
        while True:
            parts: list[tuple[VideoInfo, Tensor, Tensor] | None] = []
            for i, row in enumerate(rows):
                part = next(row, None)
                while part is None and (planned := next(waiting, None)) is not None:
                    rows[i] = self._chunks(*planned)
                    part = next(rows[i], None)
                parts.append(part)
            present = [part for part in parts if part is not None]
            if not present:
                return
            nothing = (
                VideoInfo("", 0, 0, 0),
                torch.zeros_like(present[0][1]),
                torch.full_like(present[0][2], IGNORED),
            )
            yield _collate([part or nothing for part in parts])

    def _plan(self) -> list[tuple[LabelledRecording, tuple[int, int]]]:
        """Returns the recordings in the epoch's order, each with how far it is moved down and to the right."""
        if self.shuffle_seed is None:
            return [(recording, (0, 0)) for recording in self.recordings]
        rng = np.random.default_rng((self.shuffle_seed, self._epoch))
        order = rng.permutation(len(self.recordings))
        shifts = rng.integers(-self.random_shift, self.random_shift, size=(len(order), 2), endpoint=True).tolist()
        return [(self.recordings[i], (rows, columns)) for i, (rows, columns) in zip(order, shifts, strict=True)]

    def _chunks(
        self, recording: LabelledRecording, shift: tuple[int, int]
    ) -> Iterator[tuple[VideoInfo, Tensor, Tensor]]:
        """Yields a recording in pieces of `num_tbins` frames, the last one filled up."""
        made = recording.attributes
        with TensorFile(recording.path) as file:
            for start in range(0, len(recording), self.num_tbins):
                frames = area_resize(file.read(start, start + self.num_tbins), *self.frame_shape[1:])
                if shift != (0, 0):
                    frames = shifted(frames, *shift)
                labels = recording.labels[start : start + self.num_tbins]
                missing = self.num_tbins - len(frames)
                info = VideoInfo(str(recording.path), start, len(frames), made.start_ts + start * made.delta_t)
                yield (
                    info,
                    torch.from_numpy(np.pad(frames, ((0, missing), (0, 0), (0, 0), (0, 0)))),
                    torch.from_numpy(np.pad(labels, (0, missing), constant_values=IGNORED)),
                )


def _check_shape(recording: LabelledRecording, frame_shape: tuple[int, int, int]) -> None:
    channels, rows, columns = recording.frame_shape
    if channels != frame_shape[0] or rows < frame_shape[1] or columns < frame_shape[2]:
        raise InputFileError(
            f"{recording.path}: its frames have {channels} channels of {rows}×{columns} (height × width), and "
            f"{frame_shape[0]} channels of {frame_shape[1]}×{frame_shape[2]} or larger are needed; make it again like "
            "the other recordings."
        )


def _collate(parts: Sequence[tuple[VideoInfo, Tensor, Tensor]]) -> Batch:
    infos, frames, labels = zip(*parts, strict=True)
    stacked = torch.stack(labels, dim=1)
    keep = torch.tensor([float(info.start_frame > 0) for info in infos])
    return {
        "inputs": torch.stack(frames, dim=1),
        "labels": stacked,
        "mask_keep_memory": keep.view(-1, 1, 1, 1),
        "frame_is_labeled": stacked != IGNORED,
        "video_infos": list(infos),
    }
