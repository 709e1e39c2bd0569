from __future__ import annotations

import pickle
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeclf.data import sequential
from edgeclf.data.augmentation import Augmentation
from edgeclf.data.dataset import LabelledRecording
from edgeclf.data.plan import SequentialPlan, WindowPlan
from edgeclf.data.sequential import RecordingDataset
from edgeclf_runtime.errors import InputFileError
from edgeclf_runtime.tensor_file import TensorAttributes

LENGTHS = (5, 1, 12, 4, 8, 3, 3)
SHAPE = (2, 4, 6)
START_TS = 1_000


def sequential_dataset(recordings, shape, *arguments, **named) -> RecordingDataset:
    plan = SequentialPlan(list(map(len, recordings)), *arguments, **named)
    return RecordingDataset(recordings, shape, plan)


def window_dataset(recordings, shape, *arguments, **named) -> RecordingDataset:
    plan = WindowPlan([recording.labels for recording in recordings], *arguments, **named)
    return RecordingDataset(recordings, shape, plan)


def labelled(path: Path, labels: np.ndarray, shape: tuple[int, int, int], start_ts: int = 0) -> LabelledRecording:
    ends_us = start_ts + 10 * np.arange(1, labels.size + 1)
    attributes = TensorAttributes("histo", 10, (shape[2], shape[1]), start_ts)
    return LabelledRecording(path, labels, ends_us, attributes, shape)


@pytest.fixture
def made(tmp_path: Path, add_recording) -> list[LabelledRecording]:
    """Recordings whose pixels say which frame of which recording they are."""
    result = []
    for i, length in enumerate(LENGTHS):
        data = np.empty((length, *SHAPE), np.float32)
        data[:] = (100 * i + np.arange(length) + 1)[:, None, None, None]
        path = add_recording(tmp_path, f"r{i}", data, [None] * length, start_ts=START_TS)
        result.append(labelled(path, np.arange(length) % 3 - 1, SHAPE, START_TS))
    return result


def sequences(made, batch_size, num_tbins, seed=None, shape=SHAPE) -> RecordingDataset:
    return sequential_dataset(made, shape, batch_size, num_tbins, seed)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("num_tbins", [1, 3, 4, 30])
@pytest.mark.parametrize("seed", [None, 5])
def test_every_frame_of_every_recording_once_and_in_order(made, batch_size: int, num_tbins: int, seed) -> None:
    rows = min(batch_size, len(LENGTHS))
    frames, labels, row_of = defaultdict(list), defaultdict(list), {}
    dataset = sequences(made, batch_size, num_tbins, seed)
    batches = list(dataset)
    assert len(dataset) == len(batches)
    for batch in batches:
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
                assert info.ends_us == tuple(info.batch_start_us + 10 * (k + 1) for k in range(info.frames))
                frames[number] += pixels[: info.frames, 0, 0, 0].tolist()
                labels[number] += batch["labels"][: info.frames, row].tolist()
            assert not pixels[info.frames :].any()
            assert (batch["labels"][info.frames :, row] == -1).all()
            assert batch["mask_keep_memory"][row].item() == float(info.start_frame > 0)
    assert dict(frames) == {i: [100 * i + k + 1 for k in range(n)] for i, n in enumerate(LENGTHS)}
    assert dict(labels) == {i: [k % 3 - 1 for k in range(n)] for i, n in enumerate(LENGTHS)}


def order(dataset: RecordingDataset) -> list[str]:
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
    recording = labelled(path, np.zeros(3, np.int64), (2, 12, 15))
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


def test_a_run_that_starts_within_a_recording_starts_without_memory(made) -> None:
    dataset = sequential_dataset(made, SHAPE, 2, 2, max_consecutive_batch=2)
    starts = defaultdict(list)
    for batch in dataset:
        for info, keep in zip(batch["video_infos"], batch["mask_keep_memory"].flatten().tolist(), strict=True):
            if info.path and not keep:
                starts[Path(info.path).stem].append(info.start_frame)
    assert dict(starts) == {f"r{i}": list(range(0, length, 4)) for i, length in enumerate(LENGTHS)}


def test_all_frames_of_a_recording_are_changed_alike_and_another_way_every_epoch(tmp_path, add_recording) -> None:
    data = np.random.default_rng(0).random((7, 2, 9, 13)).astype(np.float32)
    recordings = [
        labelled(add_recording(tmp_path, f"a{i}", data, [None] * 7), np.zeros(7, np.int64), (2, 9, 13))
        for i in range(5)
    ]
    augmentation = Augmentation(shift=2, rotation=30.0, flip_horizontal=0.5)
    dataset = sequential_dataset(recordings, (2, 9, 13), 3, 3, shuffle_seed=1, augmentation=augmentation)
    seen = []
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        frames = defaultdict(list)
        for batch in dataset:
            for row, info in enumerate(batch["video_infos"]):
                frames[info.path].append(batch["inputs"][: info.frames, row])
        for recording in recordings:
            changes = {
                piece.transformation
                for pieces in dataset.plan
                for piece in pieces
                if piece is not None and dataset.recordings[piece.recording] is recording
            }
            (change,) = changes
            expected = change.apply(torch.from_numpy(data))
            assert torch.equal(torch.cat(frames[str(recording.path)]), expected)
            seen.append(change)
    assert len(set(seen)) == 10
    still = sequential_dataset(recordings, (2, 9, 13), 1, 7, augmentation=augmentation)
    assert all(torch.equal(batch["inputs"][:, 0], torch.from_numpy(data)) for batch in still)


# --- windows


@pytest.mark.parametrize("most_bytes", [0, 1 << 30], ids=["from files", "from memory"])
@pytest.mark.parametrize("frames", [1, 3, 6])
def test_a_window_holds_the_frames_before_its_label_and_zeros_before_the_recording(
    made, frames: int, most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequential, "_MOST_BYTES_IN_MEMORY", most_bytes)
    dataset = window_dataset(made, SHAPE, 4, frames, seed=2)
    seen = []
    for batch in dataset:
        rows = len(batch["video_infos"])
        assert batch["inputs"].shape == (frames, rows, *SHAPE)
        assert batch["labels"].shape == batch["frame_is_labeled"].shape == (1, rows)
        assert not batch["mask_keep_memory"].any()
        for row, info in enumerate(batch["video_infos"]):
            if not info.path:
                assert not batch["inputs"][:, row].any()
                assert batch["labels"][0, row] == -1
                continue
            number, last = int(Path(info.path).stem[1:]), info.start_frame
            expected = [100 * number + k + 1 if k >= 0 else 0 for k in range(last - frames + 1, last + 1)]
            assert batch["inputs"][:, row, 1, 3, 5].tolist() == expected
            assert batch["labels"][0, row] == last % 3 - 1
            assert (info.frames, info.batch_start_us) == (1, START_TS + last * 10)
            assert info.ends_us == (START_TS + (last + 1) * 10,)
            seen.append((number, last))
    assert sorted(seen) == [(i, k) for i, length in enumerate(LENGTHS) for k in range(length) if k % 3]


def test_windows_of_a_small_data_set_read_each_file_once(made, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    of_disk = LabelledRecording.open
    monkeypatch.setattr(LabelledRecording, "open", lambda self: opened.append(self.path) or of_disk(self))
    dataset = window_dataset(made, SHAPE, 4, 3, augmentation=Augmentation(shift=2))
    first = [batch["inputs"].clone() for batch in dataset]
    again = [batch["inputs"] for batch in dataset]
    with_labels = [recording.path for recording in made if (recording.labels >= 0).any()]
    assert sorted(opened) == sorted(with_labels)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True)), "what is in memory stays as it was"


# --- processes


def test_a_data_set_goes_to_another_process_without_its_open_files(made) -> None:
    dataset = sequences(made, 2, 3)
    before = list(dataset)
    again = list(pickle.loads(pickle.dumps(dataset)))
    assert all(torch.equal(a["inputs"], b["inputs"]) for a, b in zip(before, again, strict=True))
