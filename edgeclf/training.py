"""Training a classifier on a data set folder."""

from __future__ import annotations

import logging
import shutil
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger

from edgeclf.data.dataset import describe
from edgeclf.data_module import ClassificationDataModule
from edgeclf.hyperparameters import HyperParameters, ModelName, model_classes
from edgeclf.lightning_model import ClassificationModel
from edgeclf_runtime.errors import InputFileError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainerOptions:
    """How and where Lightning trains; see its `Trainer`.

    Attributes:
        max_epochs: Epochs.
        max_time: Longest duration, `DD:HH:MM:SS`.
        accelerator: `cpu`, `gpu`, `auto`, …
        devices: Number of devices, `auto`, or a list such as `0,1`.
        num_nodes: Machines.
        precision: Such as `32-true` or `bf16-mixed`.
        seed: Of weights and of the order of recordings.
        progress_bar: Whether to show one.
    """

    max_epochs: int = 20
    max_time: str | None = None
    accelerator: str = "auto"
    devices: str = "auto"
    num_nodes: int = 1
    precision: str = "32-true"
    seed: int = 0
    progress_bar: bool = True


@dataclass(frozen=True)
class TrainingResult:
    """What training left.

    Attributes:
        best: The checkpoint with the best validation accuracy.
        last: The last one, from which training can go on.
        epochs: Epochs trained.
        val_accuracy: The best checkpoint's share of validation frames that are right.
    """

    best: Path
    last: Path
    epochs: int
    val_accuracy: float


def hyperparameters_for(dataset: Path, model: ModelName, **chosen: int | float | None) -> HyperParameters:
    """Returns the hyper-parameters for a model on a data set: the data set's own and the `chosen` ones.

    Raises:
        InputFileError: Where the folder is no data set.
    """
    found = describe(dataset)
    made = found.attributes
    channels, height, width = found.frame_shape
    hyper = HyperParameters(
        models=model,
        classes=model_classes(model, found.classes),
        height=height,
        width=width,
        delta_t=made.delta_t,
        preprocess=made.preprocess,
        preprocess_kwargs=made.preprocess_kwargs,
        preprocess_channels=channels,
        event_input_width=made.sensor_size[0],
        event_input_height=made.sensor_size[1],
    )
    return replace(hyper, **{name: value for name, value in chosen.items() if value is not None})  # type: ignore[arg-type]


def train(
    dataset: Path, out: Path, hyper: HyperParameters, options: TrainerOptions, resume: Path | None = None
) -> TrainingResult:
    """Trains a classifier; the best checkpoint ends at `out/best.ckpt`, the last at `out/last.ckpt`.

    Args:
        dataset: A folder in Metavision's layout with the splits `train` and `val`.
        out: Where checkpoints and `metrics.csv` go.
        hyper: What to train.
        options: How to train it.
        resume: A `last.ckpt` to go on from.

    Raises:
        InputFileError: Where the data set or the checkpoint cannot be used.
        UsageError: Where the data set does not fit the model.
    """
    seed_everything(options.seed, verbose=False)
    data = ClassificationDataModule(hyper.to_dict(), dataset, options.seed)
    for split in ("train", "val"):  # errors of the data set come before the first epoch, as one sentence
        data.sequences(split)
    if resume is not None and not resume.is_file():
        raise InputFileError(f"{resume}: there is no such checkpoint to go on from.")
    model = ClassificationModel(hyper.to_dict())
    keeper = ModelCheckpoint(
        out, filename="best", monitor="val_acc", mode="max", save_last=True, enable_version_counter=False
    )
    callbacks: list[Callback] = [keeper]
    if options.progress_bar:
        callbacks.append(TQDMProgressBar(leave=True))
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    trainer = Trainer(
        max_epochs=options.max_epochs,
        max_time=options.max_time,
        accelerator=options.accelerator,
        devices=options.devices,
        num_nodes=options.num_nodes,
        precision=options.precision,  # type: ignore[arg-type] - Lightning checks the text
        logger=CSVLogger(out, name="", version=""),
        callbacks=callbacks,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        enable_progress_bar=options.progress_bar,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        # One process loads while the network trains; more would need a share of the recordings each.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*Experiment logs directory .* exists and is not empty.*")
        trainer.fit(model, data, ckpt_path=None if resume is None else str(resume))
    best, last = out / "best.ckpt", out / "last.ckpt"
    if not last.is_file():  # where nothing came after the best epoch Lightning writes the same state once
        shutil.copyfile(keeper.best_model_path, last)
    score = keeper.best_model_score
    return TrainingResult(best, last, trainer.current_epoch, float("nan") if score is None else float(score))
