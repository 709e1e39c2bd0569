"""Plans of an epoch: which frames of which recordings each batch holds, settled before anything is read.

A plan is the sampler of a `torch.utils.data.DataLoader`: what it yields for a batch says all that is needed to load it,
so any number of processes can load batches and they still come in order, the same ones for any number of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DistributedSampler

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


class EpochPlan(DistributedSampler[Pieces]):
    """What every plan is: the sampler of one of several processes, whose share of an epoch it gives.

    Being a distributed sampler, it is told the epoch by Lightning (`set_epoch`), and not shared out once more.

    Attributes:
        steps: Frames of a row.
        one_label: Whether a row has one label, that of its last frame, and missing frames come first; else each frame
            has one, and missing frames come last.
        batch_size: Rows of a batch.

    Args:
        things: How many recordings or windows all processes share.
        rank: Number of this process.
        world_size: Number of processes.
        seed: Of all that is random; None: nothing is, and nothing is changed.
        augmentation: How recordings are changed, in every epoch in another way.
    """

    steps: int
    one_label: bool
    batch_size: int

    def __init__(
        self, things: int, rank: int, world_size: int, seed: int | None, augmentation: Augmentation | None
    ) -> None:
        super().__init__(cast("Any", range(things)), world_size, rank)  # all that is asked of a data set is its length
        self._seed = seed
        self._augmentation = augmentation

    def _changes(self, recordings: int) -> list[Transformation | None]:
        """Returns how each recording is changed in the epoch, all its frames alike."""
        if not self._augmentation or self._seed is None:
            return [None] * recordings
        seeds = ((self._seed, self.epoch, recording) for recording in range(recordings))
        return [self._augmentation.draw(np.random.default_rng(seed)) for seed in seeds]


class SequentialPlan(EpochPlan):
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

    one_label = False

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
        super().__init__(len(lengths), rank, world_size, shuffle_seed, augmentation)
        self._lengths = list(lengths)
        self.steps = num_tbins
        self._longest_run = max_consecutive_batch
        runs = self._runs(range(len(self._lengths)))
        self.batch_size = min(batch_size, -(-len(runs) // world_size))
        self._count = self._largest_count()

    def __len__(self) -> int:
        """Returns the number of batches, the same in every epoch and for every process; the last may be empty."""
        return self._count

    def __iter__(self) -> Iterator[Pieces]:
        """Yields the batches of this process in the epoch."""
        rng = None if self._seed is None else np.random.default_rng((self._seed, self.epoch))
        rows = self._rows(rng)[self.rank]
        if rng is not None:
            # A row took its longest runs first, which shall not come first in every epoch.
            rows = [[row[i] for i in rng.permutation(len(row))] for row in rows]
        changes = self._changes(len(self._lengths))
        pieces = [self._pieces(row, changes) for row in rows]
        for _ in range(self._count):
            yield tuple(next(row, None) for row in pieces)

    def _largest_count(self) -> int:
        """Returns how many batches an epoch has at most.

        Lightning asks for the number once. Recordings that go wherever there is least, in whatever order, leave no
        place with more than its share and, of one recording, the part that is not its share (Graham 1966).
        """
        if self._seed is None:
            return max((self._size(row) for side in self._rows(None) for row in side), default=0)
        sizes = [self._batches(length) for length in self._lengths]
        longest = max(sizes, default=0)
        side = sum(sizes) / self.num_replicas + (1 - 1 / self.num_replicas) * longest
        if self._longest_run is not None:
            longest = min(longest, self._longest_run)
        rows = max(self.batch_size, 1)
        return int(side / rows + (1 - 1 / rows) * longest + 1e-9)

    def _rows(self, rng: np.random.Generator | None) -> list[list[list[_Run]]]:
        """Returns, for each process, the sequences through which each row of its batches goes."""
        sizes = [self._batches(length) for length in self._lengths]
        sides = [self._runs(recordings) for recordings in _spread(sizes, self.num_replicas, rng)]
        return [
            [[runs[i] for i in row] for row in _spread([self._size([run]) for run in runs], self.batch_size, rng)]
            for runs in sides
        ]

    def _runs(self, recordings: Iterable[int]) -> list[_Run]:
        """Returns the sequences into which recordings are cut; none of a recording without frames."""
        runs = []
        for recording in recordings:
            length = self._lengths[recording]
            step = length if self._longest_run is None else self._longest_run * self.steps
            runs += [_Run(recording, start, min(start + step, length)) for start in range(0, length, max(step, 1))]
        return runs

    def _size(self, row: Iterable[_Run]) -> int:
        return sum(self._batches(run.stop - run.start) for run in row)

    def _batches(self, frames: int) -> int:
        return -(-frames // self.steps)

    def _pieces(self, row: Iterable[_Run], changes: Sequence[Transformation | None]) -> Iterator[Piece]:
        """Yields the pieces of a row, one for each batch, as long as it has any."""
        for recording, begin, end in row:
            for start in range(begin, end, self.steps):
                yield Piece(recording, start, min(self.steps, end - start), start > begin, changes[recording])


class WindowPlan(EpochPlan):
    """Labelled frames of all recordings in random order, each with those before it that a prediction sees.

    Every labelled frame comes exactly once in an epoch, whatever the number of processes, and each process has the same
    number of batches.

    Args:
        labels: The label of each frame of each recording; frames with a negative one are left out.
        batch_size: Windows of a batch.
        frames: Frames of a window; the last is the labelled one.
        seed: Of the order, another in every epoch.
        augmentation: How recordings are changed, in every epoch in another way.
        rank: Number of this process.
        world_size: Number of processes.
    """

    one_label = True

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
        super().__init__(sum(of_one.size for of_one in found), rank, world_size, seed, augmentation)
        self._recordings = len(found)
        self._frame = np.concatenate([np.empty(0, np.int64), *found])
        self._recording = np.repeat(np.arange(len(found)), [of_one.size for of_one in found])
        self.steps = frames
        self.batch_size = min(batch_size, -(-self._frame.size // world_size))

    def __len__(self) -> int:
        """Returns the number of batches, the same in every epoch and for every process."""
        return -(-self._frame.size // max(self.batch_size * self.num_replicas, 1))

    def __iter__(self) -> Iterator[Pieces]:
        """Yields the batches of this process in the epoch."""
        assert self._seed is not None  # windows always come in random order
        order = np.random.default_rng((self._seed, self.epoch)).permutation(self._frame.size)
        own = order[self.rank :: self.num_replicas]
        changes = self._changes(self._recordings)
        for at in range(len(self)):
            chosen = own[at * self.batch_size : (at + 1) * self.batch_size]
            places = zip(self._recording[chosen].tolist(), self._frame[chosen].tolist(), strict=True)
            pieces: list[Piece | None] = [
                Piece(recording, frame - self.steps + 1, self.steps, False, changes[recording])
                for recording, frame in places
            ]
            yield tuple(pieces + [None] * (self.batch_size - len(pieces)))


def _spread(sizes: Sequence[int], bins: int, rng: np.random.Generator | None) -> list[list[int]]:
    """Returns which of the things of these sizes go into each of `bins`: the next one always into the emptiest.

    With `rng` large ones tend to come first, so that the bins become about as full as each other, and which things
    are together is left to chance; without, they come as they are.
    """
    order = np.arange(len(sizes))
    if rng is not None:
        order = np.argsort(-np.array(sizes, float) * rng.uniform(0.5, 1.5, len(sizes)), kind="stable")
    fullness = [(0, i) for i in range(bins)]
    result: list[list[int]] = [[] for _ in range(bins)]
    for i in order.tolist():
        size, emptiest = fullness[0]
        result[emptiest].append(i)
        heapq.heapreplace(fullness, (size + sizes[i], emptiest))
    return result
