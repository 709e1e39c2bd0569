from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeclf.data.dataset import LabelledRecording
from edgeclf.data.sequential import SequentialDataset
from edgeclf_runtime.errors import InputFileError
from edgeclf_runtime.tensor_file import TensorAttributes

LENGTHS = (5, 1, 12, 4, 8, 3, 3)
SHAPE = (2, 4, 6)
START_TS = 1_000


@pytest.fixture
def made(tmp_path: Path, add_recording) -> list[LabelledRecording]:
    """Recordings whose pixels say which frame of which recording they are."""
    result = []
    for i, length in enumerate(LENGTHS):
        data = np.empty((length, *SHAPE), np.float32)
        data[:] = (100 * i + np.arange(length) + 1)[:, None, None, None]
        path = add_recording(tmp_path, f"r{i}", data, [None] * length, start_ts=START_TS)
        labels = np.arange(length) % 3 - 1
        result.append(LabelledRecording(path, labels, TensorAttributes("histo", 10, (6, 4), START_TS), SHAPE))
    return result


def sequences(made, batch_size, num_tbins, seed=None, shape=SHAPE) -> SequentialDataset:
    return SequentialDataset(made, shape, batch_size, num_tbins, seed)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("num_tbins", [1, 3, 4, 30])
@pytest.mark.parametrize("seed", [None, 5])
def test_every_frame_of_every_recording_once_and_in_order(made, batch_size: int, num_tbins: int, seed) -> None:
    rows = min(batch_size, len(LENGTHS))
    frames, labels, row_of = defaultdict(list), defaultdict(list), {}
    for batch in sequences(made, batch_size, num_tbins, seed):
        assert batch["inputs"].shape == (num_tbins, rows, *SHAPE)
        assert batch["inputs"].dtype == torch.float32
        assert (batch["labels"].shape, batch["labels"].dtype) == ((num_tbins, rows), torch.int64)
        assert batch["mask_keep_memory"].shape == (rows, 1, 1, 1)
        assert torch.equal(batch["frame_is_labeled"], batch["labels"] >= 0)
        for row, info in enumerate(batch["video_infos"]):
            pixels = batch["inputs"][:, row]
            number = int(Path(info.path).stem[1:]) if info.path else None
            if number is not None:
                assert row_of.setdefault(number, row) == row
                assert info.start_frame == len(frames[number])  # consecutive
                assert info.frames == min(num_tbins, LENGTHS[number] - info.start_frame)
                assert info.batch_start_us == START_TS + info.start_frame * 10
                frames[number] += pixels[: info.frames, 0, 0, 0].tolist()
                labels[number] += batch["labels"][: info.frames, row].tolist()
            assert not pixels[info.frames :].any()
            assert (batch["labels"][info.frames :, row] == -1).all()
            assert batch["mask_keep_memory"][row].item() == float(info.start_frame > 0)
    assert dict(frames) == {i: [100 * i + k + 1 for k in range(n)] for i, n in enumerate(LENGTHS)}
    assert dict(labels) == {i: [k % 3 - 1 for k in range(n)] for i, n in enumerate(LENGTHS)}


def order(dataset: SequentialDataset) -> list[str]:
    return [info.path for batch in dataset for info in batch["video_infos"] if info.path and info.start_frame == 0]


def test_shuffling_is_another_order_in_each_epoch_and_the_same_for_a_seed(made) -> None:
    def orders(seed: int) -> list[list[str]]:
        dataset = sequences(made, 1, 30, seed)
        result = []
        for epoch in range(4):
            dataset.set_epoch(epoch)
            result.append(order(dataset))
        return result

    one = orders(1)
    assert len({tuple(epoch) for epoch in one}) == 4
    assert orders(1) == one
    assert orders(2) != one
    again = sequences(made, 1, 30, 1)
    again.set_epoch(2)
    assert order(again) == one[2]  # whatever came before


def test_without_a_seed_the_order_is_that_given(made) -> None:
    dataset = sequences(made, 1, 30)
    dataset.set_epoch(3)
    assert order(dataset) == [str(recording.path) for recording in made]


def test_two_iterations_at_once_do_not_disturb_each_other(made) -> None:
    dataset = sequences(made, 2, 4)
    for one, other in zip(dataset, dataset, strict=True):
        assert torch.equal(one["inputs"], other["inputs"])


def test_larger_stored_frames_are_shrunk_by_area(tmp_path: Path, add_recording) -> None:
    data = np.random.default_rng(0).random((3, 2, 12, 15)).astype(np.float32)
    path = add_recording(tmp_path, "large", data, [None] * 3)
    recording = LabelledRecording(path, np.zeros(3, np.int64), TensorAttributes("histo", 10, (15, 12)), (2, 12, 15))
    (batch,) = sequences([recording], 1, 3, shape=(2, 5, 7))
    expected = torch.nn.functional.interpolate(torch.from_numpy(data), (5, 7), mode="area")
    torch.testing.assert_close(batch["inputs"][:, 0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 4, 6), (3, 4, 6), (2, 3, 6), (2, 4, 5)])
def test_a_recording_of_other_channels_or_smaller_frames_is_named(made, shape: tuple[int, int, int]) -> None:
    made[4] = replace(made[4], frame_shape=shape)
    with pytest.raises(InputFileError, match=rf"r4\.h5: its frames have {shape[0]} channels of {shape[1]}×{shape[2]}"):
        sequences(made, 2, 3)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_recordings_without_frames_are_passed_over(made, batch_size: int) -> None:
    empty = (1, 2, 6)
    for i in empty:
        made[i] = replace(made[i], labels=np.empty(0, np.int64))
    found = order(sequences(made, batch_size, 3))
    assert sorted(found) == [str(recording.path) for i, recording in enumerate(made) if i not in empty]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("num_tbins", [1, 3, 4, 30])
@pytest.mark.parametrize("seed", [None, 5])
def test_length_is_the_number_of_batches(made, batch_size: int, num_tbins: int, seed) -> None:
    dataset = sequences(made, batch_size, num_tbins, seed)
    for epoch in range(4):
        dataset.set_epoch(epoch)
        assert len(dataset) == len(list(dataset))


def _shifts(dataset: SequentialDataset) -> dict[str, tuple[int, int]]:
    """How far each recording's marked pixel, in the middle of the frame, has moved; the same in all its frames."""
    found: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for batch in dataset:
        for row, info in enumerate(batch["video_infos"]):
            for frame in batch["inputs"][: info.frames, row]:
                (at,) = torch.nonzero(frame[0]).tolist()
                found[Path(info.path).stem].add((at[0] - 4, at[1] - 6))
    assert all(len(shifts) == 1 for shifts in found.values()), "all frames of a recording move alike"
    return {name: shifts.pop() for name, shifts in found.items()}


def test_random_shift_moves_a_whole_recording_and_another_way_every_epoch(tmp_path: Path, add_recording) -> None:
    data = np.zeros((7, 2, 9, 13), np.float32)
    data[:, :, 4, 6] = 1
    made = [
        LabelledRecording(
            add_recording(tmp_path, f"r{i}", data, [None] * 7),
            np.zeros(7, np.int64),
            TensorAttributes("histo", 10, (13, 9)),
            (2, 9, 13),
        )
        for i in range(12)
    ]
    dataset = SequentialDataset(made, (2, 9, 13), batch_size=3, num_tbins=3, shuffle_seed=1, random_shift=2)
    first = _shifts(dataset)
    assert _shifts(dataset) == first, "an epoch can be seen again"
    dataset.set_epoch(1)
    second = _shifts(dataset)
    assert first != second
    seen = {amount for shifts in (first, second) for pair in shifts.values() for amount in pair}
    assert seen == {-2, -1, 0, 1, 2}
    still = SequentialDataset(made, (2, 9, 13), batch_size=3, num_tbins=3, random_shift=2)
    assert set(_shifts(still).values()) == {(0, 0)}, "evaluation sees the recordings as they are"
