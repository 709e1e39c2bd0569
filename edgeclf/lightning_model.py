"""The Lightning module that trains a classifier."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional

from edgeclf.data.labels import IGNORED
from edgeclf.data.sequential import Batch
from edgeclf.evaluation import LogitsCollector, unroll_batch
from edgeclf.hyperparameters import HyperParameters
from edgeclf.models import State, detach_state
from edgeclf.utils_metrics import compute_kpis


class ClassificationModel(LightningModule):
    """Trains a classifier by truncated back-propagation through time.

    The network is `net`. Its memory is kept here between consecutive batches of a recording, cut off from the graph,
    and cleared by `mask_keep_memory` where a new recording starts; the loss is the cross-entropy of labelled frames.
    The learning rate falls to zero along half a cosine over the trainer's epochs (Loshchilov & Hutter 2017, without
    restarts).

    Args:
        hparams: Hyper-parameters (see `HyperParameters`), as the namespace of a command line or as a mapping.

    Raises:
        UsageError: Where a hyper-parameter cannot be, or the frames are too small for the network.
    """

    def __init__(self, hparams: Namespace | Mapping[str, Any]) -> None:
        super().__init__()
        hparams = vars(hparams) if isinstance(hparams, Namespace) else dict(hparams)
        self.settings = HyperParameters.from_mapping(hparams)
        # Under the argument's own name: by that `load_from_checkpoint` knows what to call this with.
        hparams = hparams | self.settings.to_dict()
        self.save_hyperparameters(hparams)
        self.net = self.settings.build_model()
        self._memory: State | None = None
        self._collector = LogitsCollector()

    def forward(self, batch: Batch) -> Tensor:
        """Returns logits `[T, B, K]` of a batch and keeps the memory for the next one."""
        logits, state = unroll_batch(self.net, batch, self._memory)
        self._memory = detach_state(state)
        return logits

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns AdamW; see `on_train_epoch_start` for its learning rate."""
        return torch.optim.AdamW(self.parameters(), lr=self.settings.lr, weight_decay=self.settings.wd)

    def on_train_epoch_start(self) -> None:
        """Forgets what validation left in memory, and sets the epoch's learning rate."""
        self._memory = None
        epochs = self.trainer.max_epochs or -1
        share = self.current_epoch / epochs if epochs > 0 else 0.0
        # A scheduler of torch would come back from a checkpoint with the length of the training that made it, and
        # raise the rate again where a resumed one goes on for longer.
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.settings.lr * (1 + math.cos(math.pi * share)) / 2

    def training_step(self, batch: Batch, batch_nb: int) -> Tensor | None:
        """Returns the loss of the labelled frames; None, which skips the step, where no frame is labelled."""
        del batch_nb
        logits = self(batch)
        if not batch["frame_is_labeled"].any():
            return None
        loss = functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED)
        self.log("train_loss", loss, prog_bar=True, batch_size=batch["labels"].shape[1])
        return loss

    def on_validation_epoch_start(self) -> None:
        """Starts with no memory and no results."""
        self._memory, self._collector = None, LogitsCollector()

    def validation_step(self, batch: Batch, batch_nb: int) -> None:
        """Collects the logits of a batch."""
        del batch_nb
        self._collector.add(batch, self(batch))

    def on_validation_epoch_end(self) -> None:
        """Logs `val_acc` (frames), `val_recording_acc` and `val_loss`."""
        recordings = self._collector.recordings()
        kpis = self._kpis()
        logits = torch.cat([recording.logits for recording in recordings])
        labels = torch.cat([recording.labels for recording in recordings])
        self.log("val_loss", functional.cross_entropy(logits, labels, ignore_index=IGNORED), prog_bar=True)
        self.log("val_acc", kpis["accuracy"], prog_bar=True)
        self.log("val_recording_acc", kpis["recording_accuracy"], prog_bar=True)

    def on_test_epoch_start(self) -> None:
        """Starts with no memory and no results."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Batch, batch_nb: int) -> None:
        """Collects the logits of a batch."""
        self.validation_step(batch, batch_nb)

    def on_test_epoch_end(self) -> None:
        """Logs every KPI as `test_<name>`."""
        self.log_dict({f"test_{name}": value for name, value in self._kpis().items()})

    def _kpis(self) -> dict[str, float]:
        results = [recording.result() for recording in self._collector.recordings()]
        return compute_kpis(results, self.settings.labels, self.settings.delta_t)
