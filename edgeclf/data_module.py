"""The Lightning data module: train, val and test loaders over a data set in Metavision's layout."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from edgeclf.data.dataset import LabelledRecording, Split, recordings
from edgeclf.data.sequential import Batch, SequentialDataset
from edgeclf.hyperparameters import HyperParameters
from edgeclf_runtime.errors import UsageError


class ClassificationDataModule(LightningDataModule):
    """Sequential loaders over the splits of a data set.

    Args:
        hparams: Hyper-parameters (see `HyperParameters`) as a namespace or mapping.
        data_dir: The data set folder; where None, the hyper-parameter `dataset_path`.
        seed: Of the order of the training recordings.

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
        self._sequences: dict[str, SequentialDataset] = {}

    def split(self, split: Split) -> list[LabelledRecording]:
        """Returns the recordings of a split with their labels.

        Raises:
            InputFileError: Where files are missing or are not what they should be.
            UsageError: Where they are not made for this model.
        """
        settings = self.settings
        return recordings(
            self.data_dir,
            split,
            settings.labels,
            settings.delta_t,
            settings.preprocess,
            settings.preprocess_kwargs,
            settings.label_delta_t if settings.use_label_freq else None,
        )

    def sequences(self, split: Split) -> SequentialDataset:
        """Returns a split as batches of consecutive frames; the training recordings shuffled.

        Raises:
            InputFileError: Where files are missing or are not what they should be.
            UsageError: Where they are not made for this model.
        """
        if split not in self._sequences:
            settings = self.settings
            self._sequences[split] = SequentialDataset(
                self.split(split),
                (settings.preprocess_channels, settings.height, settings.width),
                settings.batch_size,
                settings.num_tbins,
                self.seed if split == "train" else None,
                settings.random_shift if split == "train" else 0,
            )
        return self._sequences[split]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Returns the training batches of the trainer's epoch.

        The recordings come in another order every epoch where the trainer asks for the loader anew in each
        (`reload_dataloaders_every_n_epochs=1`).
        """
        sequences = self.sequences("train")
        if self.trainer is not None:
            sequences.set_epoch(self.trainer.current_epoch)
        return DataLoader(sequences, batch_size=None)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Returns the validation batches."""
        return DataLoader(self.sequences("val"), batch_size=None)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Returns the test batches."""
        return DataLoader(self.sequences("test"), batch_size=None)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Moves a batch's tensors to `device`; its `video_infos` stay as they are."""
        del dataloader_idx  # every loader gives the same kind of batch
        return {
            "inputs": batch["inputs"].to(device),
            "labels": batch["labels"].to(device),
            "mask_keep_memory": batch["mask_keep_memory"].to(device),
            "frame_is_labeled": batch["frame_is_labeled"].to(device),
            "video_infos": batch["video_infos"],
        }
