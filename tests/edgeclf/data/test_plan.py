from __future__ import annotations

from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest
from torch.utils.data import DistributedSampler

from edgeclf.data.augmentation import Augmentation
from edgeclf.data.plan import Piece, SequentialPlan, WindowPlan, _spread


def batches_of_all(lengths, world_size: int, epoch: int, **arguments) -> list[list[tuple[Piece | None, ...]]]:
    """The batches of each process."""
    result = []
    for rank in range(world_size):
        plan = SequentialPlan(lengths, rank=rank, world_size=world_size, **arguments)
        plan.set_epoch(epoch)
        batches = list(plan)
        assert len(plan) == len(batches)
        assert {len(batch) for batch in batches} <= {plan.batch_size}
        result.append(batches)
    return result


def check_rows(batches, num_tbins: int, longest_run: int | None) -> None:
    """Memory is kept exactly where a row goes on, and never for longer than a run."""
    for row in zip(*batches, strict=True):
        before, kept = None, 1
        for piece in row:
            if piece is None:
                before = None
                continue
            assert 0 < piece.frames <= num_tbins
            goes_on = before is not None and (before.recording, before.start + before.frames) == (
                piece.recording,
                piece.start,
            )
            if piece.keep_memory:
                assert goes_on
                assert before.frames == num_tbins
                kept += 1
            else:
                assert longest_run is not None or piece.start == 0
                kept = 1
            assert longest_run is None or kept <= longest_run
            before = piece


@pytest.mark.parametrize("seed", range(60))
def test_every_frame_once_and_each_recording_with_one_process(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 40, rng.integers(1, 25)).tolist()
    num_tbins, world_size = int(rng.integers(1, 9)), int(rng.integers(1, 5))
    longest_run = None if seed % 2 else int(rng.integers(1, 4))
    shuffle_seed = None if seed % 3 == 0 else seed
    counts = set()
    for epoch in range(4):
        sides = batches_of_all(
            lengths,
            world_size,
            epoch,
            batch_size=1 + seed % 7,
            num_tbins=num_tbins,
            shuffle_seed=shuffle_seed,
            max_consecutive_batch=longest_run,
        )
        counts.add(tuple(len(batches) for batches in sides))
        frames: Counter[tuple[int, int]] = Counter()
        processes = defaultdict(set)
        for rank, batches in enumerate(sides):
            check_rows(batches, num_tbins, longest_run)
            for piece in (piece for batch in batches for piece in batch if piece is not None):
                frames.update((piece.recording, k) for k in range(piece.start, piece.start + piece.frames))
                processes[piece.recording].add(rank)
        assert frames == Counter((i, k) for i, length in enumerate(lengths) for k in range(length))
        assert all(len(ranks) == 1 for ranks in processes.values())
    assert len(counts) == 1, "as many batches in every epoch"
    assert len(set(counts.pop())) == 1, "as many batches for every process"


def test_a_recording_that_ends_its_memory_starts_anew_once_its_run_is_over() -> None:
    (batches,) = batches_of_all([10], 1, 0, batch_size=1, num_tbins=2, max_consecutive_batch=2)
    assert [(piece.start, piece.frames, piece.keep_memory) for (piece,) in batches] == [
        (0, 2, False),
        (2, 2, True),
        (4, 2, False),
        (6, 2, True),
        (8, 2, False),
    ]


def test_processes_without_a_recording_have_batches_without_rows() -> None:
    sides = batches_of_all([5, 3], 3, 0, batch_size=4, num_tbins=2)
    assert [[sum(piece is not None for piece in batch) for batch in batches] for batches in sides] == [
        [1, 1, 1],
        [1, 1, 0],
        [0, 0, 0],
    ]


def order(seed: int | None, epoch: int, augmentation: Augmentation | None = None) -> list[Piece]:
    (batches,) = batches_of_all(
        [4, 4, 9, 4, 1, 6, 7], 1, epoch, batch_size=2, num_tbins=3, shuffle_seed=seed, augmentation=augmentation
    )
    return [piece for batch in batches for piece in batch if piece is not None]


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    assert order(1, 5) == order(1, 5)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(4)}) == 12
    assert order(None, 0) == order(None, 3)


def test_the_longest_recordings_do_not_always_come_first() -> None:
    firsts = {
        next(iter(SequentialPlan([30, 2, 2, 2, 2, 2], 1, 5, shuffle_seed=seed)))[0].recording for seed in range(20)
    }
    assert len(firsts) > 3


def test_all_pieces_of_a_recording_are_changed_alike_and_in_another_way_the_next_epoch() -> None:
    augmentation = Augmentation(shift=3, rotation=20.0)
    by_epoch = []
    for epoch in range(3):
        changes = defaultdict(set)
        for piece in order(1, epoch, augmentation):
            changes[piece.recording].add(piece.transformation)
        assert all(len(of_one) == 1 for of_one in changes.values())
        by_epoch.append({recording: of_one.pop() for recording, of_one in changes.items()})
        assert len(set(by_epoch[-1].values())) == 7
    assert all(by_epoch[0][i] != by_epoch[1][i] != by_epoch[2][i] for i in range(7))
    assert {piece.transformation for piece in order(None, 0, augmentation)} == {None}
    assert {piece.transformation for piece in order(1, 0, Augmentation())} == {None}


@pytest.mark.parametrize("seed", range(20))
def test_spreading_fills_places_about_as_the_best_spread_there_is(seed: int) -> None:
    """Graham's bound for any order, 2 - 1/m, against all spreads there are."""
    rng = np.random.default_rng(seed)
    sizes, bins = rng.integers(1, 10, 7).tolist(), int(rng.integers(1, 4))
    best = min(
        max(sum(size for size, at in zip(sizes, spread, strict=True) if at == i) for i in range(bins))
        for spread in product(range(bins), repeat=len(sizes))
    )
    for order in (None, rng):
        spread = _spread(sizes, bins, order)
        assert sorted(i for one in spread for i in one) == list(range(len(sizes)))
        assert max(sum(sizes[i] for i in one) for one in spread) <= best * (2 - 1 / bins)


def test_which_recordings_are_together_changes_though_their_lengths_differ() -> None:
    lengths = [5, 8, 11, 14, 17, 20, 23, 26]
    rows, sides = set(), set()
    for epoch in range(6):
        (batches,) = batches_of_all(lengths, 1, epoch, batch_size=2, num_tbins=5, shuffle_seed=3)
        rows.add(frozenset(frozenset(piece.recording for piece in row if piece) for row in zip(*batches, strict=True)))
        for batches in batches_of_all(lengths, 2, epoch, batch_size=2, num_tbins=5, shuffle_seed=3):
            sides.add(frozenset(piece.recording for batch in batches for piece in batch if piece))
    assert len(rows) > 3
    assert len(sides) > 6


def test_an_epoch_ends_with_few_batches_that_hold_nothing() -> None:
    lengths = np.random.default_rng(0).integers(50, 200, 96).tolist()
    (batches,) = batches_of_all(lengths, 1, 0, batch_size=8, num_tbins=10, shuffle_seed=3)
    empty = [not any(batch) for batch in batches]
    assert empty == sorted(empty)
    assert sum(empty) <= 0.12 * len(batches)


def test_plans_are_distributed_samplers_which_lightning_does_not_share_out_again() -> None:
    assert isinstance(SequentialPlan([3], 1, 1), DistributedSampler)
    assert isinstance(WindowPlan([np.zeros(3, np.int64)], 1), DistributedSampler)


# --- windows


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_every_labelled_frame_once_over_all_processes(world_size: int, batch_size: int) -> None:
    rng = np.random.default_rng(0)
    labels = [rng.integers(-1, 3, n) for n in (5, 1, 0, 12, 7)]
    expected = Counter((i, k) for i, of_one in enumerate(labels) for k in np.flatnonzero(of_one >= 0).tolist())
    orders = []
    for epoch in range(3):
        found: Counter[tuple[int, int]] = Counter()
        counts, sizes = set(), []
        for rank in range(world_size):
            plan = WindowPlan(labels, batch_size, 4, seed=1, rank=rank, world_size=world_size)
            plan.set_epoch(epoch)
            batches = list(plan)
            counts.add(len(batches))
            assert len(plan) == len(batches)
            assert {len(batch) for batch in batches} == {plan.batch_size}
            pieces = [piece for batch in batches for piece in batch if piece is not None]
            assert {(piece.frames, piece.keep_memory) for piece in pieces} == {(4, False)}
            found.update((piece.recording, piece.start + 3) for piece in pieces)
            sizes.append(len(pieces))
            if rank == 0:
                orders.append(tuple(pieces))
        assert found == expected
        assert len(counts) == 1
        assert max(sizes) - min(sizes) <= 1, "shared evenly"
    assert len(set(orders)) == 3


def test_all_windows_of_a_recording_are_changed_alike_and_in_another_way_the_next_epoch() -> None:
    plan = WindowPlan([np.zeros(9, np.int64)] * 2, 4, augmentation=Augmentation(rotation=10))
    changes = set()
    for epoch in range(3):
        plan.set_epoch(epoch)
        found = {(piece.recording, piece.transformation) for batch in plan for piece in batch if piece}
        assert len(found) == 2
        changes |= {transformation for _, transformation in found}
    assert len(changes) == 6


def test_no_labelled_frame_makes_no_batch() -> None:
    assert list(WindowPlan([np.full(3, -1)], 4)) == []
    assert len(WindowPlan([np.full(3, -1)], 4)) == 0
