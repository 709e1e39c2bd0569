"""The Lightning module that trains a classifier."""

from __future__ import annotations

import logging
import math
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, distributed
from torch.nn import functional
from torchmetrics import MeanMetric

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data.labels import IGNORED
from edgeclf.data.sequential import Batch
from edgeclf.evaluation import LogitsCollector, RecordingLogits, unroll_batch
from edgeclf.hyperparameters import HyperParameters
from edgeclf.models import State, detach_state
from edgeclf.pretrained import differing_frames, pretrained_weights
from edgeclf.utils_metrics import compute_kpis
from edgeclf.video import demo_images, open_with_viewer, write_h264
from edgeclf_runtime.errors import EdgeclfError

logger = logging.getLogger(__name__)


class ClassificationModel(LightningModule):
    """Trains a classifier by truncated back-propagation through time.

    The network is `net`. Its memory is kept here between consecutive batches of a recording, cut off from the graph,
    and cleared by `mask_keep_memory` where a new recording starts; the loss is the cross-entropy of labelled frames,
    weighted by `class_weights`. The learning rate falls to zero along half a cosine over the trainer's epochs
    (Loshchilov & Hutter 2017, without restarts), or by `lr_scheduler_step_gamma` after every epoch.

    Where several processes train, a step's loss is the mean over the labelled frames of all of them, and results are
    those of all recordings.

    Args:
        hparams: Hyper-parameters (see `HyperParameters`), as the namespace of a command line or as a mapping;
            `root_dir` among them says where demo videos go.

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
        weights = self.settings.class_weights
        # Not persistent: a checkpoint's weights are the network's alone.
        self.register_buffer("_class_weights", None if weights is None else torch.tensor(weights), persistent=False)
        self._memory: State | None = None
        self._training_memory: State | None = None
        self._train_loss = MeanMetric()
        self._collector = LogitsCollector()

    def forward(self, batch: Batch) -> Tensor:
        """Returns logits `[T, B, K]` of a batch and keeps the memory for the next one."""
        logits, state = unroll_batch(self.net, batch, self._memory)
        self._memory = detach_state(state)
        return logits

    def load_pretrained(self, checkpoint_path: str | Path) -> None:
        """Takes a checkpoint's weights, to train on from them; the classes may be others.

        Outputs of the same name as the checkpoint's, wherever they stand there, take over their weights; the others
        start anew. Which are which is logged, and a warning where the checkpoint saw frames of another kind.

        Args:
            checkpoint_path: A checkpoint of `edgeclf train` or of Metavision ML's classification training.

        Raises:
            InputFileError: Where the checkpoint cannot be used.
            UsageError: Where its weights do not fit the network, the outputs' own aside.
        """
        checkpoint = load_checkpoint(checkpoint_path)
        found = pretrained_weights(checkpoint, self.net.state_dict(), self.settings)
        self.net.load_state_dict(found.state)
        taken = f"the outputs {', '.join(found.taken)} are taken over" if found.taken else "no output is taken over"
        fresh = f"; {', '.join(found.fresh)} start anew" if found.fresh else ""
        logger.info("%s: %s%s", checkpoint.path, taken, fresh)
        if differing := differing_frames(checkpoint.hyperparameters, self.settings):
            logger.warning(
                "%s: its weights were trained on frames that were made in another way (%s), which this training must "
                "unlearn first.",
                checkpoint.path, ", ".join(differing),
            )  # fmt: skip

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns Adam with decoupled weight decay (AdamW); see `on_train_epoch_start` for its learning rate.

        Adam's own weight decay is divided by the running size of the gradients, so that it hardly touches the weights
        that change most; decoupled, `wd` means the same for all of them (Loshchilov & Hutter 2019). The states of
        both have the same form, so training goes on from an Adam's checkpoint too.

        The learning rate falls along half a cosine, or by the factor `lr_scheduler_step_gamma` after every epoch; a
        factor of 1 keeps it constant.
        """
        return torch.optim.AdamW(self.parameters(), lr=self.settings.lr, weight_decay=self.settings.wd)

    def on_train_epoch_start(self) -> None:
        """Forgets what the epoch before left in memory, and sets the epoch's learning rate."""
        self._memory = None
        self._train_loss.reset()
        rate = self.settings.lr * self._learning_rate_factor()
        # A scheduler of torch would come back from a checkpoint with the length of the training that made it, and
        # raise the rate again where a resumed one goes on for longer; as would the weight decay.
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"], group["weight_decay"] = rate, self.settings.wd

    def _learning_rate_factor(self) -> float:
        if self.settings.lr_scheduler_step_gamma is not None:
            return self.settings.lr_scheduler_step_gamma**self.current_epoch
        epochs = self.trainer.max_epochs or -1
        return (1 + math.cos(math.pi * self.current_epoch / epochs)) / 2 if epochs > 0 else 1.0

    def training_step(self, batch: Batch, batch_nb: int) -> Tensor | None:
        """Returns the loss of the labelled frames; None, which skips the step, where no frame is labelled.

        Raises:
            EdgeclfError: Where the loss is no longer a number.
        """
        loss, weight = self._loss_of(batch)
        # A process without a labelled frame must take the step with the others, which wait for its gradients.
        together = several_processes()
        total, total_weight, processes = loss.detach(), weight, 1
        if together:
            sums = torch.stack([total, weight])
            distributed.all_reduce(sums)
            (total, total_weight), processes = sums, distributed.get_world_size()
        if not torch.isfinite(total):
            raise EdgeclfError(
                f"Training diverged: in batch {batch_nb} of epoch {self.current_epoch} the loss is no longer a number. "
                "Checkpoints of the epochs before are as they were; give a smaller learning rate (--lr), or look for "
                "odd values in the data."
            )
        if not total_weight and not together:
            return None
        self._train_loss.update(total / total_weight.clamp_min(1e-12), total_weight)
        # Gradients are averaged over the processes, so that this makes them those of the mean over all frames.
        loss = loss * processes / total_weight.clamp_min(1e-12)
        self.log("loss", loss.detach(), prog_bar=True, logger=False, batch_size=1)
        return loss

    def _loss_of(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the summed loss of a batch and the summed weight of its frames; without gradient where that is 0."""
        if any(info.path for info in batch["video_infos"]):
            return summed_loss(self(batch), batch["labels"], self._weights())
        self._memory = None
        # Only filler, which batch normalisation must not see: zero through all parameters, which another process's
        # step waits for.
        nothing = torch.stack([(parameter * 0).float().sum() for parameter in self.net.parameters()]).sum()
        return nothing, torch.zeros_like(nothing)

    def _weights(self) -> Tensor | None:
        weights = self._class_weights
        assert weights is None or isinstance(weights, Tensor)
        return weights

    def on_train_epoch_end(self) -> None:
        """Logs `train_loss`, the mean over the epoch's labelled frames."""
        # Every process has the same; the largest of equal ones is exact where a mean would be rounded.
        self.log("train_loss", self._train_loss.compute(), sync_dist=True, reduce_fx="max")

    def on_validation_start(self) -> None:
        """Puts training's memory aside: validation may come within an epoch (`Trainer(val_check_interval=…)`)."""
        self._training_memory = self._memory

    def on_validation_end(self) -> None:
        """Lets training go on with its memory."""
        self._memory, self._training_memory = self._training_memory, None

    def on_validation_epoch_start(self) -> None:
        """Starts with no memory and no results."""
        self._memory, self._collector = None, LogitsCollector()

    def validation_step(self, batch: Batch, batch_nb: int) -> None:
        """Collects the logits of a batch."""
        del batch_nb
        if any(info.path for info in batch["video_infos"]):
            self._collector.add(batch, self(batch))

    def on_validation_epoch_end(self) -> None:
        """Logs `val_loss`, `val_acc` (frames), `val_recording_acc`, and `val_precision_<label>`, `val_recall_<label>`.

        Raises:
            EdgeclfError: Where the loss is no longer a number.
        """
        recordings = gathered(self._collector.recordings())
        loss = self._mean_loss(recordings)
        if not math.isfinite(loss):
            raise EdgeclfError(
                f"Training diverged: after epoch {self.current_epoch} the validation's loss is no longer a number. "
                "Checkpoints of the epochs before are as they were; give a smaller learning rate (--lr)."
            )
        kpis = self._kpis(recordings)
        self._log_each({"val_loss": loss, "val_acc": kpis["accuracy"], "val_recording_acc": kpis["recording_accuracy"]},
                       prog_bar=True)  # fmt: skip
        self._log_each({f"val_{name}": kpis[name] for name in kpis if name.startswith(("precision_", "recall_"))})

    def on_test_epoch_start(self) -> None:
        """Starts with no memory and no results."""
        self.on_validation_epoch_start()

    def test_step(self, batch: Batch, batch_nb: int) -> None:
        """Collects the logits of a batch."""
        self.validation_step(batch, batch_nb)

    def on_test_epoch_end(self) -> None:
        """Logs every KPI as `test_<name>`, such as `test_precision_<label>`."""
        kpis = self._kpis(gathered(self._collector.recordings()))
        self._log_each({f"test_{name}": value for name, value in kpis.items()})

    def demo_video(
        self,
        test_data: Iterable[Batch],
        epoch: int = 0,
        num_batches: int = 100,
        show_video: bool = False,
        show_pred: bool = True,
        fps: int = 30,
    ) -> Path:
        """Writes a video of the classifier at work, a tile for each stream, and returns its path.

        It goes to `videos/` in the folder that the hyper-parameter `root_dir` names, else in the trainer's
        `default_root_dir`, else in the current folder. No display is needed. Training's memory is as it was afterwards.

        Args:
            test_data: Batches, such as those of the data module's `test_dataloader()`.
            epoch: Names the video.
            num_batches: Batches that it shows, at most.
            show_video: Whether to open it with the desktop's viewer when it is done.
            show_pred: Whether to show what the classifier says, and not only the events and the right answer.
            fps: Event frames a second.

        Raises:
            MissingPackageError: Where the package that writes videos is not installed.
            UsageError: Where there is no batch, or nothing can be written there.
        """
        training, memory = self.training, self._memory
        self.eval()
        self._memory = None
        try:
            with torch.inference_mode():
                images = demo_images(
                    test_data,
                    self._demo_logits if show_pred else None,
                    self.settings.labels,
                    num_batches,
                )
                path = write_h264(self._video_folder() / f"demo_epoch_{epoch:03d}.mp4", images, fps)
        finally:
            self.train(training)
            self._memory = memory
        if show_video:
            open_with_viewer(path)
        return path

    def _demo_logits(self, batch: Batch) -> Tensor:
        """Returns the logits of a batch that is still where the loader left it."""
        like = next(self.net.parameters())
        moved = batch.copy()
        moved["inputs"] = batch["inputs"].to(like)
        moved["mask_keep_memory"] = batch["mask_keep_memory"].to(like)
        logits: Tensor = self(moved)
        return logits

    def _video_folder(self) -> Path:
        root = self.hparams.get("root_dir")
        if not root:
            attached = getattr(self, "_trainer", None) is not None
            root = self.trainer.default_root_dir if attached else "."
        return Path(root) / "videos"

    def _mean_loss(self, recordings: list[RecordingLogits]) -> float:
        """Returns the mean loss of the labelled frames, as training has it."""
        logits = torch.cat([recording.logits for recording in recordings])
        labels = torch.cat([recording.labels for recording in recordings])
        weights = self._weights()
        loss, weight = summed_loss(logits, labels, None if weights is None else weights.cpu())
        return float(loss / weight.clamp_min(1e-12))

    def _kpis(self, recordings: list[RecordingLogits]) -> dict[str, float]:
        results = [recording.result() for recording in recordings]
        return compute_kpis(results, self.settings.labels, self.settings.frame_duration)

    def _log_each(self, values: Mapping[str, float], prog_bar: bool = False) -> None:
        """Logs values of which every process has the same."""
        self.log_dict(dict(values), prog_bar=prog_bar, sync_dist=True, reduce_fx="max")


def summed_loss(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Returns the sum of the labelled frames' cross-entropy, each times its class's weight, and the sum of the weights.

    The quotient is torch's weighted mean; where no frame is labelled both are 0, and the gradient too.

    Args:
        logits: `[..., K]`.
        labels: int64 `[...]`, -1 where a frame is left out.
        class_weights: `[K]`; None: all 1.
    """
    flat, labels = logits.flatten(0, -2), labels.flatten()
    flat = flat if flat.dtype == torch.float64 else flat.float()
    weights = flat.new_ones(flat.shape[1]) if class_weights is None else class_weights.to(flat)
    loss = functional.cross_entropy(flat, labels, weights, ignore_index=IGNORED, reduction="sum")
    return loss, weights[labels[labels != IGNORED]].sum()


def several_processes() -> bool:
    """Whether this process trains together with others, so that results must be put together."""
    return distributed.is_available() and distributed.is_initialized()


def gathered(recordings: list[RecordingLogits]) -> list[RecordingLogits]:
    """Returns the recordings of all processes, sorted by path; each must call this. Of a single one, its own."""
    if not several_processes():
        return recordings
    parts: list[list[RecordingLogits]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(parts, recordings)
    return sorted((recording for part in parts for recording in part), key=lambda recording: recording.path)
