"""The Lightning data modules: train, val and test loaders over a data set in Metavision's layout."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from edgeclf.data.augmentation import Augmentation
from edgeclf.data.dataset import LabelledRecording, Split, recordings
from edgeclf.data.frame_labels import load_classes
from edgeclf.data.loader import batch_loader
from edgeclf.data.plan import SequentialPlan, WindowPlan
from edgeclf.data.sequential import Batch, RecordingDataset
from edgeclf.hyperparameters import RECURRENT_MODELS, HyperParameters
from edgeclf_runtime.errors import UsageError

__all__ = ["ClassificationDataModule", "NonSequentialDataModule", "data_module_for", "load_classes"]


class ClassificationDataModule(LightningDataModule):
    """Sequential loaders over the splits of a data set.

    With several processes (`Trainer(devices=…, use_distributed_sampler=False)`), each loads other recordings.

    Args:
        hparams: Hyper-parameters (see `HyperParameters`) as a namespace or mapping.
        data_dir: The data set folder; where None, the hyper-parameter `dataset_path`.
        seed: Of the order of the training recordings and of how they are changed.

    Raises:
        UsageError: Where a hyper-parameter cannot be, or nothing says where the data set is.
    """

    def __init__(
        self, hparams: Namespace | Mapping[str, Any], data_dir: str | Path | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        values = vars(hparams) if isinstance(hparams, Namespace) else hparams
        self.settings = HyperParameters.from_mapping(values)
        folder = values.get("dataset_path") if data_dir is None else data_dir
        if folder is None:
            raise UsageError("Nothing says where the data set is; give data_dir or the hyper-parameter dataset_path.")
        self.data_dir = Path(folder)
        self.seed = seed
        self._recordings: dict[Split, list[LabelledRecording]] = {}

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the model's frames."""
        return self.settings.preprocess_channels, self.settings.height, self.settings.width

    @property
    def augmentation(self) -> Augmentation:
        """How training recordings are changed."""
        settings = self.settings
        return Augmentation(
            shift=settings.random_shift,
            rotation=settings.random_rotation,
            scale=settings.random_scale,
            shear=settings.random_shear,
            crop=settings.random_crop,
            flip_horizontal=settings.flip_horizontal,
            flip_vertical=settings.flip_vertical,
        )

    def setup(self, stage: str | None = None) -> None:
        """Looks through the recordings that a stage of Lightning's needs, so that what is wrong with them shows first.

        Args:
            stage: `fit`, `validate` or `test`; None, as in Metavision's scripts: all splits that are there.

        Raises:
            InputFileError: Where files are missing or are not what they should be.
            UsageError: Where they are not made for this model.
        """
        needed: dict[str | None, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        there = tuple(split for split in get_args(Split) if (self.data_dir / split).is_dir())
        for split in needed.get(stage, there or ("train",)):
            self.split(split)

    def split(self, split: Split) -> list[LabelledRecording]:
        """Returns the recordings of a split with their labels, looked through once.

        Raises:
            InputFileError: Where files are missing or are not what they should be.
            UsageError: Where they are not made for this model.
        """
        if split not in self._recordings:
            settings = self.settings
            self._recordings[split] = recordings(
                self.data_dir,
                split,
                settings.labels,
                settings.delta_t,
                settings.preprocess,
                settings.preprocess_kwargs,
                settings.label_delta_t if settings.use_label_freq else None,
                settings.interpolate_labels,
                settings.mode,
                settings.n_events,
            )
        return self._recordings[split]

    def sequences(self, split: Split) -> RecordingDataset:
        """Returns a split as batches of consecutive frames; the training recordings shuffled and changed.

        Raises:
            InputFileError: Where files are missing or are not what they should be.
            UsageError: Where they are not made for this model.
        """
        settings = self.settings
        training = split == "train"
        rank, world_size = self._place()
        found = self.split(split)
        plan = SequentialPlan(
            list(map(len, found)),
            settings.batch_size,
            settings.num_tbins,
            self.seed if training else None,
            settings.max_consecutive_batch if training else None,
            self.augmentation if training else None,
            rank,
            world_size,
        )
        return RecordingDataset(found, self.frame_shape, plan)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Returns the training batches, in another order every epoch: Lightning tells the plan which one it is."""
        return self._loader(self.sequences("train"))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Returns the validation batches."""
        return self._loader(self.sequences("val"))

    def test_dataloader(self) -> DataLoader[Batch]:
        """Returns the test batches."""
        return self._loader(self.sequences("test"))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Moves a batch's tensors to `device`; its `video_infos` stay as they are."""
        del dataloader_idx  # every loader gives the same kind of batch
        return {
            "inputs": batch["inputs"].to(device, non_blocking=True),
            "labels": batch["labels"].to(device, non_blocking=True),
            "mask_keep_memory": batch["mask_keep_memory"].to(device, non_blocking=True),
            "frame_is_labeled": batch["frame_is_labeled"].to(device, non_blocking=True),
            "video_infos": batch["video_infos"],
        }

    def _place(self) -> tuple[int, int]:
        """Returns the number of this process among those that train, and how many there are."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _loader(self, dataset: RecordingDataset) -> DataLoader[Batch]:
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return batch_loader(dataset, self.settings.num_workers, on_gpu)


class NonSequentialDataModule(ClassificationDataModule):
    """Loaders for the training of a feed-forward classifier: labelled frames of all recordings in random order.

    A training batch is `inputs` `[num_ev_reps, B, C, H, W]`, the frames that a prediction sees, the oldest first, and
    `labels` `[1, B]`, that of the last of them. Validation and test see every frame, as a stream, in
    sequential batches.
    """

    def windows(self) -> RecordingDataset:
        """Returns the training split as batches of windows, shuffled and changed.

        Raises:
            InputFileError: Where files are missing or are not what they should be.
            UsageError: Where they are not made for this model.
        """
        settings = self.settings
        rank, world_size = self._place()
        found = self.split("train")
        plan = WindowPlan(
            [recording.labels for recording in found],
            settings.batch_size,
            settings.num_ev_reps,
            self.seed,
            self.augmentation,
            rank,
            world_size,
        )
        return RecordingDataset(found, self.frame_shape, plan)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Returns the training batches, in another order every epoch."""
        return self._loader(self.windows())


def data_module_for(
    hparams: Namespace | Mapping[str, Any], data_dir: str | Path | None = None, seed: int = 0
) -> ClassificationDataModule:
    """Returns the data module that the training of a classifier needs; see `ClassificationDataModule`.

    Args:
        hparams: Hyper-parameters as a namespace or mapping.
        data_dir: The data set folder; where None, the hyper-parameter `dataset_path`.
        seed: Of all that is random in it.

    Raises:
        UsageError: Where a hyper-parameter cannot be, or nothing says where the data set is.
    """
    sequential = ClassificationDataModule(hparams, data_dir, seed)
    if sequential.settings.models in RECURRENT_MODELS:
        return sequential
    return NonSequentialDataModule(hparams, data_dir, seed)
