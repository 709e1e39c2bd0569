from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeclf.data.augmentation import Augmentation
from edgeclf.data.dataset import LabelledRecording
from edgeclf.data.loader import batch_loader
from edgeclf.data.plan import SequentialPlan, WindowPlan
from edgeclf.data.sequential import RecordingDataset, VideoInfo
from edgeclf_runtime.errors import InputFileError
from edgeclf_runtime.tensor_file import TensorAttributes

LENGTHS = (5, 1, 12, 4, 8, 3, 3)
SHAPE = (2, 4, 6)


def sequential_dataset(recordings, shape, *arguments, **named) -> RecordingDataset:
    plan = SequentialPlan(list(map(len, recordings)), *arguments, **named)
    return RecordingDataset(recordings, shape, plan)


def window_dataset(recordings, shape, *arguments, **named) -> RecordingDataset:
    plan = WindowPlan([recording.labels for recording in recordings], *arguments, **named)
    return RecordingDataset(recordings, shape, plan)


@pytest.fixture
def made(tmp_path: Path, add_recording) -> list[LabelledRecording]:
    rng = np.random.default_rng(0)
    result = []
    for i, length in enumerate(LENGTHS):
        path = add_recording(tmp_path, f"r{i}", rng.random((length, *SHAPE), np.float32), [None] * length)
        ends_us = 10 * np.arange(1, length + 1)
        result.append(
            LabelledRecording(path, np.arange(length) % 3 - 1, ends_us, TensorAttributes("histo", 10, (6, 4)), SHAPE)
        )
    return result


def loaded(dataset: RecordingDataset, workers: int) -> list[list]:
    loader = batch_loader(dataset, workers)
    result = []
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        result.append(list(loader))
    assert len(loader) == len(result[0])
    return result


@pytest.mark.parametrize("kind", ["sequences", "windows"])
def test_any_number_of_processes_loads_the_same_batches(made: list[LabelledRecording], kind: str) -> None:
    augmentation = Augmentation(rotation=20.0)
    dataset: RecordingDataset
    if kind == "sequences":
        dataset = sequential_dataset(made, SHAPE, 2, 3, 7, augmentation=augmentation)
    else:
        dataset = window_dataset(made, SHAPE, 3, 2, 7, augmentation)
    alone = loaded(dataset, 0)
    assert not torch.equal(alone[0][0]["inputs"], alone[1][0]["inputs"])
    for workers in (1, 2):  # the files are open in this process by now
        for one_epoch, other in zip(alone, loaded(dataset, workers), strict=True):
            for batch, same in zip(one_epoch, other, strict=True):
                assert batch.keys() == same.keys()
                assert same["video_infos"] == batch["video_infos"]
                assert isinstance(same["video_infos"][0], VideoInfo)
                for key in batch.keys() - {"video_infos"}:
                    assert torch.equal(batch[key], same[key])


def test_an_epoch_may_be_left_early(made: list[LabelledRecording]) -> None:
    dataset = sequential_dataset(made, SHAPE, 2, 1, 7)
    loader = batch_loader(dataset, 2)
    assert next(iter(loader)).keys() == dataset[next(iter(dataset.plan))].keys()
    dataset.set_epoch(1)
    for batch, expected in zip(loader, dataset, strict=True):
        assert torch.equal(batch["inputs"], expected["inputs"])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_while_loading_is_its_sentence_and_nothing_else(made: list[LabelledRecording], workers: int) -> None:
    made[3].path.unlink()
    with pytest.raises(InputFileError) as caught:
        list(batch_loader(sequential_dataset(made, SHAPE, 2, 3), workers))
    assert str(caught.value) == f"{made[3].path}: there is no such file."
