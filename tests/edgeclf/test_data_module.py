from __future__ import annotations

import shutil
import subprocess
import sys
from argparse import Namespace
from collections import defaultdict
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from edgeclf.data.augmentation import Augmentation
from edgeclf.data.labels import write_label_map
from edgeclf.data.sequential import VideoInfo
from edgeclf.data_module import ClassificationDataModule, NonSequentialDataModule, data_module_for
from edgeclf.hyperparameters import HyperParameters
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


def test_interpolation_reaches_the_labels(tmp_path: Path, hyper, add_recording) -> None:
    add_recording(tmp_path / "test", "a", np.zeros((4, 2, 48, 48), np.float32), [0, None, None, 0])
    write_label_map(tmp_path, ["left", "right"])
    values = hyper("ConvRNN").to_dict()
    assert ClassificationDataModule(values, tmp_path).split("test")[0].labels.tolist() == [1, 0, 0, 1]
    values["interpolate_labels"] = True
    assert ClassificationDataModule(values, tmp_path).split("test")[0].labels.tolist() == [1, 1, 1, 1]


def test_every_kind_of_change_reaches_training_and_nothing_else(blobs: Path, hyper) -> None:
    amounts = {
        "random_shift": 3,
        "random_rotation": 4.0,
        "random_scale": 0.5,
        "random_shear": 6.0,
        "random_crop": 0.7,
        "flip_horizontal": 0.8,
        "flip_vertical": 0.9,
    }
    data = ClassificationDataModule(hyper("ConvRNN").to_dict() | amounts, blobs)
    assert data.augmentation == Augmentation(3, 4.0, 0.5, 6.0, 0.7, 0.8, 0.9)
    changes = {
        split: {piece.transformation for pieces in data.sequences(split).plan for piece in pieces if piece is not None}
        for split in ("train", "val", "test")
    }
    assert len(changes["train"]) == 4
    assert changes["val"] == changes["test"] == {None}


def test_the_curriculum_is_for_training_alone(blobs: Path, hyper) -> None:
    data = ClassificationDataModule(hyper("ConvRNN").to_dict() | {"max_consecutive_batch": 1}, blobs)
    assert not any(batch["mask_keep_memory"].any() for batch in data.train_dataloader())
    assert any(batch["mask_keep_memory"].any() for batch in data.test_dataloader())


# --- feed-forward models


def test_the_model_chooses_its_data_module(blobs: Path, hyper_of_each: HyperParameters) -> None:
    data = data_module_for(hyper_of_each.to_dict(), blobs, 3)
    sequential = hyper_of_each.models in ("ConvRNNClassifier", "LeNetClassifier")
    assert type(data) is (ClassificationDataModule if sequential else NonSequentialDataModule)
    assert (data.seed, data.data_dir) == (3, blobs)
    batch = next(iter(data.train_dataloader()))
    assert batch["inputs"].shape == (4 if sequential else hyper_of_each.num_ev_reps, 3, 2, 48, 48)
    assert batch["labels"].shape == (4 if sequential else 1, 3)
    assert next(iter(data.val_dataloader()))["labels"].shape == (4, 2)


def test_windows_of_all_recordings_are_mixed_and_learned_once(blobs: Path, hyper) -> None:
    values = hyper("Squeezenet").to_dict() | {"label_delta_t": 20_000, "use_label_freq": True}
    data = data_module_for(values, blobs, 1)
    seen = [(i.path, i.start_frame) for b in data.train_dataloader() for i in b["video_infos"] if i.path]
    expected = [(str(r.path), k) for r in data.split("train") for k in np.flatnonzero(r.labels >= 0).tolist()]
    assert sorted(seen) == sorted(expected)
    assert len({path for path, _ in seen[:6]}) > 2


# --- under Lightning's trainer


class Noting(LightningModule):
    """Notes which frames training sees in which epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: dict[int, list[tuple[str, int, int]]] = defaultdict(list)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def training_step(self, batch: dict) -> torch.Tensor:
        self.seen[self.current_epoch] += [(i.path, i.start_frame, i.frames) for i in batch["video_infos"] if i.path]
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch: dict) -> None:
        """There is one, so that validation comes between the epochs."""


def noted(data: ClassificationDataModule, folder: Path, epochs: int, resume: Path | None = None) -> dict[int, list]:
    module = Noting()
    keeper = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[keeper],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, data, ckpt_path=resume)
    return dict(module.seen)


LIGHTNINGS_OWN = (
    "ignore:.*does not have many workers.*",
    "ignore:The number of training batches.*:",
    "ignore:.*Checkpoint directory .* exists and is not empty.*",
    "ignore:`isinstance:FutureWarning",
)


@pytest.mark.filterwarnings(*LIGHTNINGS_OWN)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("model", ["ConvRNN", "Squeezenet"])
def test_each_epoch_has_its_own_order_also_where_training_is_resumed(
    tmp_path: Path, blobs: Path, hyper, workers: int, model: str
) -> None:
    values = hyper(model).to_dict() | {"num_workers": workers, "batch_size": 2}
    whole = noted(data_module_for(values, blobs, 5), tmp_path / "whole", 3)
    expected = data_module_for(values | {"num_workers": 0}, blobs, 5)
    dataset = expected.windows() if isinstance(expected, NonSequentialDataModule) else expected.sequences("train")
    for epoch in range(3):
        dataset.set_epoch(epoch)
        infos = [info for batch in dataset for info in batch["video_infos"] if info.path]
        assert whole[epoch] == [(info.path, info.start_frame, info.frames) for info in infos]
    assert len({tuple(seen) for seen in whole.values()}) == 3
    noted(data_module_for(values, blobs, 5), tmp_path / "parts", 2)
    resumed = noted(data_module_for(values, blobs, 5), tmp_path / "parts", 3, tmp_path / "parts" / "last.ckpt")
    assert resumed == {2: whole[2]}


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


@pytest.mark.parametrize("stage", [None, "fit", "validate", "test"])
def test_setup_finds_what_is_wrong_with_the_splits_of_a_stage(blobs: Path, hyper, tmp_path: Path, stage) -> None:
    values = hyper("ConvRNN").to_dict()
    ClassificationDataModule(values, blobs).setup(stage)
    copy = tmp_path / "copy"
    shutil.copytree(blobs, copy)
    needed = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ("train", "val", "test"))
    for split in ("train", "val", "test"):
        damaged = copy / split / f"{split}_0.h5"
        whole = damaged.read_bytes()
        damaged.write_bytes(whole[:100])
        if split in needed:
            with pytest.raises(InputFileError, match=f"{split}_0"):
                ClassificationDataModule(values, copy).setup(stage)
        else:
            ClassificationDataModule(values, copy).setup(stage)
        damaged.write_bytes(whole)


def test_setup_of_no_data_set_is_a_sentence(hyper, tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no such data set folder"):
        ClassificationDataModule(hyper("ConvRNN").to_dict(), tmp_path / "nowhere").setup()


_USERS_SCRIPT = """
import sys
from lightning.pytorch import Callback, Trainer
from edgeclf.data_module import ClassificationDataModule
from edgeclf.hyperparameters import HyperParameters
from edgeclf.lightning_model import ClassificationModel

class Seen(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        for row, info in enumerate(batch["video_infos"]):
            if info.path:
                keep = int(batch["mask_keep_memory"][row])
                line = f"{{trainer.current_epoch}} {{info.path}} {{info.start_frame}} {{info.frames}} {{keep}}\\n"
                with open(f"seen{{trainer.global_rank}}.txt", "a") as file:
                    file.write(line)

hparams = {hparams}
trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, logger=False,
                  enable_checkpointing=False, enable_progress_bar=False, callbacks=[Seen()])
trainer.fit(ClassificationModel(hparams), ClassificationDataModule(hparams, sys.argv[1]))
"""


@pytest.mark.slow
def test_a_users_own_trainer_shares_recordings_out_once(blobs: Path, hyper, tmp_path: Path) -> None:
    """Lightning's defaults, two processes: each recording is with one, whole and in order."""
    script = tmp_path / "train.py"
    script.write_text(_USERS_SCRIPT.format(hparams=hyper("ConvRNN").to_dict()), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script, blobs], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = defaultdict(list)
    for rank in range(2):
        for line in (tmp_path / f"seen{rank}.txt").read_text().splitlines():
            epoch, path, *numbers = line.split()
            seen[int(epoch), Path(path).stem].append((rank, *map(int, numbers)))
    lengths = {"train_0": 9, "train_1": 6, "train_2": 13, "train_3": 7}
    assert {key: len({rank for rank, *_ in pieces}) for key, pieces in seen.items()} == {
        (epoch, name): 1 for epoch in range(2) for name in lengths
    }
    for (_, name), pieces in seen.items():
        assert [piece[1:] for piece in pieces] == [
            (start, min(4, lengths[name] - start), int(start > 0)) for start in range(0, lengths[name], 4)
        ]
