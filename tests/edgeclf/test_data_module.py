from __future__ import annotations

import shutil
from argparse import Namespace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from edgeclf.data.labels import write_label_map
from edgeclf.data.sequential import VideoInfo
from edgeclf.data_module import ClassificationDataModule
from edgeclf_runtime.errors import EdgeclfError, InputFileError, UsageError


def starts(loader) -> list[str]:
    return [Path(i.path).stem for batch in loader for i in batch["video_infos"] if i.path and i.start_frame == 0]


def test_loaders_give_whole_batches_of_each_split(blobs: Path, hyper) -> None:
    data = ClassificationDataModule(hyper("ConvRNN").to_dict(), blobs)
    for loader, split, count in (
        (data.train_dataloader(), "train", 4),
        (data.val_dataloader(), "val", 2),
        (data.test_dataloader(), "test", 3),
    ):
        batches = list(loader)
        assert batches[0]["inputs"].shape == (4, min(3, count), 2, 48, 48)
        assert isinstance(batches[0]["video_infos"][0], VideoInfo)
        assert sorted(starts(loader)) == [f"{split}_{i}" for i in range(count)]


def test_only_training_is_shuffled(blobs: Path, hyper) -> None:
    values = hyper("ConvRNN").to_dict() | {"batch_size": 1}
    orders = {tuple(starts(ClassificationDataModule(values, blobs, seed=seed).train_dataloader())) for seed in range(6)}
    assert len(orders) > 2
    for seed in range(3):
        data = ClassificationDataModule(values, blobs, seed=seed)
        assert starts(data.test_dataloader()) == ["test_0", "test_1", "test_2"]


def test_the_folder_may_stand_in_the_hyper_parameters(blobs: Path, hyper) -> None:
    values = hyper("ConvRNN").to_dict()
    data = ClassificationDataModule(Namespace(**values, dataset_path=str(blobs)))
    assert data.data_dir == blobs
    with pytest.raises(UsageError, match="Nothing says where the data set is"):
        ClassificationDataModule(values)


def test_use_label_freq_counts_frames_at_the_interval_only(blobs: Path, hyper) -> None:
    values = hyper("ConvRNN").to_dict() | {"label_delta_t": 40_000}
    all_frames = ClassificationDataModule(values, blobs).split("test")
    some = ClassificationDataModule(values | {"use_label_freq": True}, blobs).split("test")
    assert all((recording.labels >= 0).all() for recording in all_frames)
    for recording in some:
        assert np.flatnonzero(recording.labels >= 0).tolist() == list(range(0, len(recording), 4))


def test_a_batch_moves_whole(blobs: Path, hyper) -> None:
    data = ClassificationDataModule(hyper("ConvRNN").to_dict(), blobs)
    batch = next(iter(data.val_dataloader()))
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved.keys() == batch.keys()
    assert {moved[key].device.type for key in batch if key != "video_infos"} == {"meta"}
    assert moved["video_infos"] == batch["video_infos"]


def test_another_preprocessing_argument_is_refused(blobs: Path, hyper) -> None:
    values = hyper("ConvRNN").to_dict() | {"preprocess_kwargs": {"max_incr_per_pixel": 3}}
    with pytest.raises(UsageError, match=r"max_incr_per_pixel 5\.0, the model's 3"):
        ClassificationDataModule(values, blobs).sequences("test")


@pytest.mark.parametrize("change", [{"height": 49}, {"width": 64}])
def test_frames_smaller_than_the_models_are_refused(blobs: Path, hyper, change: dict[str, int]) -> None:
    with pytest.raises(InputFileError, match=r"test_0\.h5: its frames have 2 channels of 48×48"):
        ClassificationDataModule(hyper("ConvRNN").to_dict() | change, blobs).sequences("test")


def test_a_recording_unlike_the_others_is_named(tmp_path: Path, blobs: Path, hyper, add_recording) -> None:
    folder = Path(shutil.copytree(blobs, tmp_path / "data"))
    add_recording(folder / "test", "test_1", np.zeros((5, 1, 48, 48), np.float32), [None] * 5)
    with pytest.raises(InputFileError, match=r"test_1\.h5: its frames have 1 channels"):
        ClassificationDataModule(hyper("ConvRNN").to_dict(), folder).sequences("test")
    add_recording(folder / "test", "test_1", np.zeros((5, 2, 60, 52), np.float32), [None] * 5)
    larger = ClassificationDataModule(hyper("ConvRNN").to_dict(), folder)
    assert {tuple(batch["inputs"].shape[2:]) for batch in larger.test_dataloader()} == {(2, 48, 48)}


def test_damage_found_while_loading_is_a_sentence(tmp_path: Path, blobs: Path, hyper) -> None:
    folder = Path(shutil.copytree(blobs, tmp_path / "data"))
    path = folder / "test" / "test_0.h5"
    with h5py.File(path) as file:
        at = file["data"].id.get_chunk_info(3).byte_offset
    content = bytearray(path.read_bytes())
    content[at : at + 20] = b"\xff" * 20
    path.write_bytes(content)
    data = ClassificationDataModule(hyper("ConvRNN").to_dict(), folder)
    with pytest.raises(EdgeclfError, match=r"test_0\.h5: .*frames 0 to 3 cannot be read"):
        list(data.test_dataloader())


def test_classes_of_the_data_set_that_the_model_lacks_are_left_out(tmp_path: Path, blobs: Path, hyper) -> None:
    folder = Path(shutil.copytree(blobs, tmp_path / "data"))
    write_label_map(folder, ["left", "up"])
    found = ClassificationDataModule(hyper("ConvRNN").to_dict(), folder).split("test")
    assert [set(recording.labels.tolist()) for recording in found] == [{0, 1}, {0, -1}, {0, 1}]
