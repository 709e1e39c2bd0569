"""Plans of an epoch: which frames of which recordings each batch holds, settled before anything is read.

A plan is the sampler of a `torch.utils.data.DataLoader`: what it yields for a batch says all that is needed to load it,
so any number of processes can load batches and they still come in order, the same ones for any number of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from edgeclf.data.augmentation import Augmentation, Transformation


class Piece(NamedTuple):
    """Frames of a recording that stand one above the other in a batch.

    Attributes:
        recording: Number of the recording.
        start: Number of the first frame; negative where frames of zeros come before the recording's first one.
        frames: How many.
        keep_memory: Whether they go on where the row's last piece ended.
        transformation: How they are changed; None: not at all.
    """

    recording: int
    start: int
    frames: int
    keep_memory: bool
    transformation: Transformation | None = None


Pieces = tuple[Piece | None, ...]
"""What a batch holds: a piece for each row, None for a row that only fills the batch up."""


class _Run(NamedTuple):
    """Consecutive frames of a recording over which memory is carried on: `start` to before `stop`."""

    recording: int
    start: int
    stop: int


class SequentialPlan(Sampler[Pieces]):
    """Recordings side by side, `num_tbins` frames of each at a time, so that memory can be carried on.

    A row goes through a recording to its end and then takes another one. The last frames of a recording may be fewer,
    and rows for which none is left stay empty. Every frame comes exactly once in an epoch, whatever the number of
    processes, and each process has the same number of batches in every epoch.

    Args:
        lengths: Number of frames of each recording.
        batch_size: Rows of a batch; fewer where there are fewer recordings.
        num_tbins: Frames of a recording in one batch.
        shuffle_seed: Of the order of the recordings, another in every epoch; None: as given, and nothing is changed.
        max_consecutive_batch: Batches after which a recording's memory starts anew: what follows is a sequence of its
            own, at another place of the epoch. None: it never does.
        augmentation: How recordings are changed, in every epoch in another way.
        rank: Number of this process.
        world_size: Number of processes; in an epoch, each recording is with one of them.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        num_tbins: int,
        shuffle_seed: int | None = None,
        max_consecutive_batch: int | None = None,
        augmentation: Augmentation | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._lengths = list(lengths)
        self._num_tbins = num_tbins
        self._seed = shuffle_seed
        self._longest_run = max_consecutive_batch
        self._augmentation = augmentation
        self._rank, self._world_size = rank, world_size
        self._epoch = 0
        # Any order will do: which recording goes where depends on it, how many batches there are does not.
        sides = [self._runs(recordings) for recordings in self._sides(range(len(self._lengths)))]
        self.batch_size = min(batch_size, max(map(len, sides)))
        self._count = max(sum(map(self._batches, row)) for runs in sides for row in [*self._rows(runs), []])

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the recordings, where they are shuffled; Lightning calls this before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Returns the number of batches, the same in every epoch and for every process."""
        return self._count

    def __iter__(self) -> Iterator[Pieces]:
        """Yields the batches of this process in the epoch."""
        order: list[int] = list(range(len(self._lengths)))
        if self._seed is None:
            rows = self._rows(self._runs(self._sides(order)[self._rank]))
        else:
            rng = np.random.default_rng((self._seed, self._epoch))
            runs = self._runs(self._sides(rng.permutation(order))[self._rank])
            rows = self._rows([runs[i] for i in rng.permutation(len(runs))])
            # A row took its longest run first, which shall not come first in every epoch.
            rows = [[row[i] for i in rng.permutation(len(row))] for row in rows]
        pieces = [self._pieces(row) for row in rows]
        for _ in range(self._count):
            yield tuple(next(row, None) for row in pieces)

    def _sides(self, order: Iterable[int]) -> list[list[int]]:
        """Returns the recordings of each process."""
        order = list(order)
        sizes = [self._batches(_Run(recording, 0, self._lengths[recording])) for recording in order]
        return [[order[i] for i in side] for side in _spread(sizes, self._world_size, self._seed is not None)]

    def _runs(self, recordings: Iterable[int]) -> list[_Run]:
        """Returns the sequences into which recordings are cut; none of a recording without frames."""
        runs = []
        for recording in recordings:
            length = self._lengths[recording]
            step = length if self._longest_run is None else self._longest_run * self._num_tbins
            runs += [_Run(recording, start, min(start + step, length)) for start in range(0, length, max(step, 1))]
        return runs

    def _rows(self, runs: Sequence[_Run]) -> list[list[_Run]]:
        """Returns the sequences through which each row of the batches goes."""
        sizes = [self._batches(run) for run in runs]
        return [[runs[i] for i in row] for row in _spread(sizes, self.batch_size, self._seed is not None)]

    def _batches(self, run: _Run) -> int:
        return -(-(run.stop - run.start) // self._num_tbins)

    def _pieces(self, row: Iterable[_Run]) -> Iterator[Piece]:
        """Yields the pieces of a row, one for each batch, as long as it has any."""
        for recording, begin, end in row:
            # Of the recording and the epoch alone, so that all its pieces are changed alike.
            change = _drawn(self._augmentation, self._seed, self._epoch, recording)
            for start in range(begin, end, self._num_tbins):
                yield Piece(recording, start, min(self._num_tbins, end - start), start > begin, change)


class WindowPlan(Sampler[Pieces]):
    """Labelled frames of all recordings in random order, each with those before it that a prediction sees.

    Every labelled frame comes exactly once in an epoch, whatever the number of processes, and each process has the same
    number of batches.

    Args:
        labels: The label of each frame of each recording; frames with a negative one are left out.
        batch_size: Windows of a batch.
        frames: Frames of a window; the last is the labelled one.
        seed: Of the order, another in every epoch.
        augmentation: How windows are changed, each in another way.
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        labels: Sequence[NDArray[np.int64]],
        batch_size: int,
        frames: int = 1,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        found = [np.flatnonzero(of_one >= 0) for of_one in labels]
        self._frame = np.concatenate([np.empty(0, np.int64), *found])
        self._recording = np.repeat(np.arange(len(found)), [of_one.size for of_one in found])
        self._frames = frames
        self._seed = seed
        self._augmentation = augmentation
        self._rank, self._world_size = rank, world_size
        self._epoch = 0
        self.batch_size = min(batch_size, -(-self._frame.size // world_size))

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the windows; Lightning calls this before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Returns the number of batches, the same in every epoch and for every process."""
        return -(-self._frame.size // max(self.batch_size * self._world_size, 1))

    def __iter__(self) -> Iterator[Pieces]:
        """Yields the batches of this process in the epoch."""
        order = np.random.default_rng((self._seed, self._epoch)).permutation(self._frame.size)
        own = order[self._rank :: self._world_size]
        for at in range(len(self)):
            chosen = own[at * self.batch_size : (at + 1) * self.batch_size]
            pieces: list[Piece | None] = [self._piece(int(self._recording[i]), int(self._frame[i])) for i in chosen]
            yield tuple(pieces + [None] * (self.batch_size - len(pieces)))

    def _piece(self, recording: int, frame: int) -> Piece:
        change = _drawn(self._augmentation, self._seed, self._epoch, recording, frame)
        return Piece(recording, frame - self._frames + 1, self._frames, False, change)


def _drawn(augmentation: Augmentation | None, seed: int | None, *of_what: int) -> Transformation | None:
    """Returns the change for something that is counted by the numbers `of_what`, the same whenever it is asked for."""
    if not augmentation or seed is None:
        return None
    return augmentation.draw(np.random.default_rng((seed, *of_what)))


def _spread(sizes: Sequence[int], bins: int, largest_first: bool) -> list[list[int]]:
    """Returns which of the things of these sizes go into each of `bins`: the next one always into the emptiest.

    Largest first (Graham 1969), how full the bins become depends on the sizes alone and not on their order, and the
    fullest one holds at most a third more than in the best spread there is.
    """
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i]) if largest_first else range(len(sizes))
    fullness = [(0, i) for i in range(bins)]
    result: list[list[int]] = [[] for _ in range(bins)]
    for i in order:
        size, emptiest = fullness[0]
        result[emptiest].append(i)
        heapq.heapreplace(fullness, (size + sizes[i], emptiest))
    return result
