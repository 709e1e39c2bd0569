"""Training a classifier on a data set folder."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data.dataset import Split, describe
from edgeclf.data.labels import IGNORED
from edgeclf.data_module import ClassificationDataModule
from edgeclf.hyperparameters import HyperParameters, ModelName, model_classes
from edgeclf.lightning_model import ClassificationModel
from edgeclf_runtime.errors import DeviceError, EdgeclfError, InputFileError, UsageError

# What a resumed training may do in another way than the one before it.
_FREE_TO_CHANGE = {"lr", "wd", "batch_size", "num_tbins", "random_shift"}


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
    dataset: Path,
    out: Path,
    hyper: HyperParameters,
    options: TrainerOptions,
    resume: Path | None = None,
    finetune: Path | None = None,
) -> TrainingResult:
    """Trains a classifier; the best checkpoint ends at `out/best.ckpt`, the last at `out/last.ckpt`.

    Args:
        dataset: A folder in Metavision's layout with the splits `train` and `val`.
        out: Where checkpoints and `metrics.csv` go.
        hyper: What to train.
        options: How to train it.
        resume: A `last.ckpt` to go on from.
        finetune: A checkpoint whose weights to start from; the outputs may be others.

    Raises:
        InputFileError: Where the data set or the checkpoint cannot be used.
        UsageError: Where the data set or the checkpoint does not fit the model, or an option is not one of Lightning's.
        DeviceError: Where the device is not there, or its memory is too small.
        EdgeclfError: Where training was interrupted, or ended before there was a checkpoint.
    """
    seed_everything(options.seed, verbose=False)
    data = ClassificationDataModule(hyper.to_dict(), dataset, options.seed)
    _check_labelled(data, dataset)  # errors of the data set come before the first epoch, as one sentence
    if resume is not None:
        _check_resumable(resume, hyper)
    model = ClassificationModel(hyper.to_dict())
    if finetune is not None:
        _start_from(finetune, model)
    _make_folder(out)
    keeper = ModelCheckpoint(
        out, "best", monitor="val_acc", mode="max", save_on_train_epoch_end=True, enable_version_counter=False
    )
    # Not `save_last`: that writes the last epoch only where it is the best one too.
    last = ModelCheckpoint(out, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = _trainer(out, options, [_SeededBatches(options.seed), keeper, last])
    if trainer.world_size > 1:
        raise UsageError(
            f"--devices {options.devices} --num-nodes {options.num_nodes} make {trainer.world_size} processes, each of "
            "which would train on all recordings; edgeclf trains in one so far: give --devices 1 --num-nodes 1."
        )
    with _quiet_lightning(), _sentences_for_failures(out):
        trainer.fit(model, data, ckpt_path=None if resume is None else str(resume))
    score = keeper.best_model_score
    if score is None:
        raise EdgeclfError(
            f"Nothing was trained, so there is no new checkpoint in {out}; give more --max-epochs than the training "
            "before had, or more --max-time."
        )
    return TrainingResult(out / "best.ckpt", out / "last.ckpt", trainer.current_epoch, float(score))


class _SeededBatches(Callback):
    """Gives each batch a seed of its own, so that dropout draws in a resumed training what it would have drawn."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seeds torch."""
        del pl_module, batch
        sequence = np.random.SeedSequence((self._seed, trainer.current_epoch, batch_idx))
        torch.manual_seed(int(sequence.generate_state(1)[0]))


def _make_folder(out: Path) -> None:
    """Makes the folder, so that one that cannot be written to is found before the first epoch is trained."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UsageError(f"{out}: no file can be written there ({error.strerror}); give another folder.") from error


def _trainer(out: Path, options: TrainerOptions, callbacks: list[Callback]) -> Trainer:
    """Returns Lightning's trainer; what it refuses becomes a sentence."""
    if options.progress_bar:
        callbacks = [*callbacks, TQDMProgressBar(leave=True)]
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    try:
        return Trainer(
            max_epochs=options.max_epochs,
            max_time=options.max_time,
            accelerator=options.accelerator,
            devices=options.devices,
            num_nodes=options.num_nodes,
            precision=options.precision,  # type: ignore[arg-type]  # Lightning checks the text
            logger=CSVLogger(out, name="", version=""),
            callbacks=callbacks,
            gradient_clip_val=1.0,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
            enable_progress_bar=options.progress_bar,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        no_device = isinstance(error, MisconfigurationException) and options.accelerator not in ("auto", "cpu")
        raise (DeviceError if no_device else UsageError)(
            f"Lightning cannot train with --accelerator {options.accelerator} --devices {options.devices} --precision "
            f"{options.precision} --max-time {options.max_time or '(none)'}: {_sentence(error)}"
        ) from error


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silences the warnings that tell a user nothing to do."""
    with warnings.catch_warnings():
        for message in (
            # One process loads while the network trains; more would need a share of the recordings each.
            ".*does not have many workers.*",
            "The number of training batches .* is smaller than the logging interval.*",
            "Your `IterableDataset` has `__len__` defined.*",
            ".*Checkpoint directory .* exists and is not empty.*",
            ".*Experiment logs directory .* exists and is not empty.*",
            # Going on in another folder, whose best.ckpt is the best of the epochs from then on.
            "The dirpath has changed.*",
            # A batch without a labelled frame.
            "`training_step` returned `None`.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        # Lightning's own use of torch.
        warnings.filterwarnings(
            "ignore",
            message=r"`isinstance\(treespec, LeafSpec\)` is deprecated",
            category=FutureWarning,
            module=r"lightning\.pytorch\.utilities\._pytree",
        )
        yield


@contextmanager
def _sentences_for_failures(out: Path) -> Iterator[None]:
    """Turns what ends training early into sentences."""
    try:
        yield
    except MisconfigurationException as error:  # such as fewer epochs than the checkpoint has
        raise UsageError(f"Lightning cannot train so: {_sentence(error)}") from error
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            "The device's memory is too small for this training; give a smaller --batch-size or --num-tbins."
        ) from error
    except SystemExit as error:  # Lightning's answer to Ctrl-C
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise EdgeclfError(
            f"Training was interrupted; --resume goes on from {out / 'last.ckpt'}, if an epoch was complete."
        ) from error


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())


def _check_labelled(data: ClassificationDataModule, dataset: Path) -> None:
    split: Split
    for split in ("train", "val"):
        if not any((recording.labels != IGNORED).any() for recording in data.sequences(split).recordings):
            raise InputFileError(
                f"{dataset / split}: no frame has a label that the model knows, so there is nothing to learn from or "
                "to judge by; check the label files."
            )


def _check_resumable(path: Path, hyper: HyperParameters) -> None:
    """Raises unless training as `hyper` says can go on from a checkpoint; Lightning loads it without asking twice."""
    found = load_checkpoint(path)
    if not found.resumable:
        raise InputFileError(
            f"{path}: this checkpoint holds weights only, from which training cannot go on; start from its weights "
            "with --finetune."
        )
    before, now = asdict(found.hyperparameters), asdict(hyper)
    differing = [name for name in now if name not in _FREE_TO_CHANGE and before[name] != now[name]]
    if differing:
        raise UsageError(
            f"{path}: training cannot go on from it with another model or data set: "
            + ", ".join(f"{name} was {before[name]} and is {now[name]}" for name in differing)
            + "; give what it was trained with, or leave --resume out."
        )


def _start_from(path: Path, model: ClassificationModel) -> None:
    """Takes over a checkpoint's weights; those of the last layer only where it has as many outputs."""
    weights = load_checkpoint(path).weights
    own = model.net.state_dict()
    fitting = {name: weights[name] for name in own if name in weights and weights[name].shape == own[name].shape}
    *body, weight, bias = own
    if not fitting.keys() >= set(body):
        raise UsageError(
            f"{path}: its weights do not fit {model.settings.models} with these options; give the --model and the "
            "widths that it was trained with."
        )
    if not fitting.keys() >= {weight, bias}:
        fitting = {name: fitting[name] for name in body}
    model.net.load_state_dict(fitting, strict=False)
