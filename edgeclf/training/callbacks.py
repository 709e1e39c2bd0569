"""What happens beside training: seeds, the progress bar, demo videos, and a folder that is used anew."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from edgeclf.data.sequential import Batch
from edgeclf.lightning_model import ClassificationModel
from edgeclf_runtime.files import remove_leftovers

logger = logging.getLogger(__name__)


class SeededBatches(Callback):
    """Gives each batch a seed of its own, so that dropout draws in a resumed training what it would have drawn."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seeds torch, each process in another way."""
        del pl_module, batch
        place = (trainer.current_epoch, batch_idx, *([trainer.global_rank] if trainer.global_rank else []))
        torch.manual_seed(int(np.random.SeedSequence((self._seed, *place)).generate_state(1)[0]))


class ClearedFolder(Callback):
    """Removes files of an earlier training once this one begins, and what a killed one left half-written.

    Not before: every process must have read what it starts from, which may be one of them.

    Args:
        folder: The training's folder.
        paths: The files in it, or in folders of it, which go too where nothing else is in them.
        targets: The files that this training will write whole.
    """

    def __init__(self, folder: Path, paths: Iterable[Path], targets: Iterable[Path]) -> None:
        self._folder, self._paths, self._targets = folder, tuple(paths), tuple(targets)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Removes them, in one process."""
        del pl_module, stage
        if not trainer.is_global_zero:
            return
        for path in self._paths:
            path.unlink(missing_ok=True)
        for below in {path.parent for path in self._paths} - {self._folder}:
            with suppress(OSError):  # something else is in it
                below.rmdir()
        remove_leftovers(self._targets)


class DemoVideos(Callback):
    """Writes a demo video after every so many epochs, of the validation recordings."""

    def __init__(self, every: int) -> None:
        self._every = every

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes it, in one process and of that process's recordings."""
        if not trainer.is_global_zero or (trainer.current_epoch + 1) % self._every:
            return
        assert isinstance(pl_module, ClassificationModel)
        batches: Iterable[Batch] = trainer.datamodule.val_dataloader()  # type: ignore[attr-defined]  # set by `fit`
        path = pl_module.demo_video(batches, epoch=trainer.current_epoch)
        logger.info("%s: a demo video, after epoch %d", path, trainer.current_epoch)


class StandardErrorBar(TQDMProgressBar):
    """Lightning's progress bar on standard error; its own goes to standard output, where results go."""

    def init_train_tqdm(self) -> Tqdm:
        """Returns the bar of training."""
        return self._bar(self.train_description, 0, leave=True)

    def init_validation_tqdm(self) -> Tqdm:
        """Returns the bar of validation, below that of training."""
        return self._bar(self.validation_description, 1, leave=False)

    def _bar(self, description: str, position: int, leave: bool) -> Tqdm:
        return Tqdm(
            desc=description,
            position=position,
            leave=leave,
            disable=self.is_disabled,
            dynamic_ncols=True,
            file=sys.stderr,
            smoothing=0,
            bar_format=self.BAR_FORMAT,
        )
