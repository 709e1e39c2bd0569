"""A training from its first check to its last checkpoint."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer, seed_everything

from edgeclf.checkpoint import TRAINED_WITH, Checkpoint, load_checkpoint
from edgeclf.data.dataset import Split
from edgeclf.data.labels import IGNORED
from edgeclf.data_module import ClassificationDataModule, data_module_for
from edgeclf.hyperparameters import HyperParameters
from edgeclf.lightning_model import ClassificationModel
from edgeclf.training.callbacks import ClearedFolder, DemoVideos, SeededBatches, StandardErrorBar
from edgeclf.training.checkpoints import Keeper, Patience, WholeCheckpoints
from edgeclf.training.failures import one_line, quiet_lightning, sentences_for_failures
from edgeclf.training.loggers import METRICS_FILE, make_loggers
from edgeclf.training.options import TrainerOptions, TrainingResult
from edgeclf_runtime.errors import DeviceError, EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.outputs.mp4 import check_video_package

logger = logging.getLogger(__name__)

BEST, LAST = "best.ckpt", "last.ckpt"
_LOGS = (METRICS_FILE, "tensorboard/events.out.tfevents.*", "tensorboard/hparams.yaml", "videos/demo_epoch_*.mp4")

# What a resumed training may do in another way than the one before it.
_FREE_TO_CHANGE = {
    "lr", "wd", "lr_scheduler_step_gamma", "batch_size", "num_tbins", "max_consecutive_batch", "num_workers",
    "class_weights", "random_shift", "random_rotation", "random_scale", "random_shear", "random_crop",
    "flip_horizontal", "flip_vertical",
}  # fmt: skip


def train(
    dataset: Path,
    out: Path,
    hyper: HyperParameters,
    options: TrainerOptions,
    resume: Path | None = None,
    finetune: Path | None = None,
    overwrite: bool = False,
) -> TrainingResult:
    """Trains a classifier; the best checkpoint ends at `out/best.ckpt`, the last at `out/last.ckpt`.

    Where several processes train, each calls this, and each gets the result.

    Args:
        dataset: A folder in Metavision's layout with the splits `train` and `val`.
        out: Where checkpoints and metrics go.
        hyper: What to train.
        options: How to train it.
        resume: A `last.ckpt` to go on from.
        finetune: A checkpoint whose weights to start from; the classes may be others.
        overwrite: Whether the checkpoints, metrics and videos of another training in `out` may go.

    Raises:
        InputFileError: Where the data set or the checkpoint cannot be used.
        UsageError: Where the data set or the checkpoint does not fit the model, an option is not one of Lightning's, or
            `out` holds another training.
        MissingPackageError: Where an option needs a package that is not installed.
        DeviceError: Where the device is not there, or its memory is too small.
        EdgeclfError: Where training was interrupted, diverged, or ended before there was a checkpoint.
    """
    seed_everything(options.seed, workers=True, verbose=False)
    if options.demo_every:
        check_video_package()
    data = data_module_for(hyper.to_dict(), dataset, options.seed)
    _check_labelled(data, dataset)  # errors of the data set come before the first epoch, as one sentence
    before = None if resume is None else _resumable(resume, hyper, options)
    model = ClassificationModel(hyper.to_dict() | _kept_options(options))
    if finetune is not None:
        model.load_pretrained(finetune)
    goes_on_here = before is not None and before.path.resolve().parent == out.resolve()
    earlier = [] if goes_on_here else _earlier_files(out, overwrite)
    _make_folder(out)
    keeper = Keeper(out, "best", goes_on_here, monitor="val_acc")
    # Not `save_last`: that writes the last epoch only where it is the best one too.
    last = Keeper(out, "last", goes_on_here)
    cleared = ClearedFolder(out, earlier, [out / BEST, out / LAST, out / METRICS_FILE])
    callbacks = [cleared, SeededBatches(options.seed), *_chosen_callbacks(options), keeper, last]
    trainer = _trainer(out, options, callbacks, before if goes_on_here else None)
    with quiet_lightning(), sentences_for_failures(out):
        trainer.fit(model, data, ckpt_path=None if resume is None else str(resume))
    score = keeper.best_model_score
    if score is None:
        raise EdgeclfError(
            f"Nothing was trained, so there is no new checkpoint in {out}; give more --max-epochs than the training "
            "before had, or more --max-time."
        )
    stopper = trainer.early_stopping_callback
    if isinstance(stopper, Patience) and stopper.stopped_epoch:
        logger.info("stopped: the validation's loss has not fallen for %d epochs", stopper.patience)
    return TrainingResult(out / BEST, out / LAST, trainer.current_epoch, float(score))


def _kept_options(options: TrainerOptions) -> dict[str, Any]:
    return {name: value for name, value in asdict(options).items() if name in TRAINED_WITH and value is not None}


def _chosen_callbacks(options: TrainerOptions) -> list[Callback]:
    chosen: list[Callback] = []
    if options.patience is not None:
        chosen.append(Patience(options.patience))
    if options.demo_every:
        chosen.append(DemoVideos(options.demo_every))
    if options.progress_bar:
        chosen.append(StandardErrorBar(leave=True))
    return chosen


def _earlier_files(out: Path, overwrite: bool) -> list[Path]:
    """Returns what another training left in the folder; raises where there are checkpoints that must not go."""
    checkpoints = [name for name in (BEST, LAST) if (out / name).is_file()]
    if checkpoints and not overwrite:
        raise UsageError(
            f"{out}: it holds the checkpoints of a training ({', '.join(checkpoints)}); go on with that by --resume, "
            "give another folder, or let this training take its place by --overwrite."
        )
    logs = [path for pattern in _LOGS for path in sorted(out.glob(pattern)) if path.is_file()]
    return [*(out / name for name in checkpoints), *logs]


def _make_folder(out: Path) -> None:
    """Makes the folder, so that one that cannot be written to is found before the first epoch is trained."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise UsageError(f"{out}: no file can be written there ({error.strerror}); give another folder.") from error


def _trainer(out: Path, options: TrainerOptions, callbacks: list[Callback], before: Checkpoint | None) -> Trainer:
    """Returns Lightning's trainer; what it refuses becomes a sentence. `before` is what goes on in the same folder."""
    if "spawn" in options.strategy or "fork" in options.strategy or "notebook" in options.strategy:
        raise UsageError(
            f"--strategy {options.strategy} starts processes that cannot report back; give --strategy ddp, which runs "
            "the same command once for each device."
        )
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    epochs_before = 0 if before is None or before.epoch is None else before.epoch + 1
    loggers = make_loggers(out, options.loggers, epochs_before, None if before is None else before.steps)
    try:
        return Trainer(
            max_epochs=options.max_epochs,
            max_time=options.max_time,
            accelerator=options.accelerator,
            strategy=options.strategy,
            devices=options.devices,
            num_nodes=options.num_nodes,
            precision=options.precision,  # type: ignore[arg-type]  # Lightning checks the text
            logger=loggers,
            callbacks=callbacks,
            plugins=[WholeCheckpoints()],
            default_root_dir=out,
            gradient_clip_val=1.0,
            num_sanity_val_steps=0,
            deterministic=options.deterministic or None,
            enable_progress_bar=options.progress_bar,
            enable_model_summary=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        no_device = isinstance(error, MisconfigurationException) and options.accelerator not in ("auto", "cpu")
        raise (DeviceError if no_device else UsageError)(
            f"Lightning cannot train with --accelerator {options.accelerator} --devices {options.devices} --strategy "
            f"{options.strategy} --precision {options.precision} --max-time {options.max_time or '(none)'}: "
            f"{one_line(error)}"
        ) from error


def _check_labelled(data: ClassificationDataModule, dataset: Path) -> None:
    split: Split
    for split in ("train", "val"):
        if not any((recording.labels != IGNORED).any() for recording in data.split(split)):
            raise InputFileError(
                f"{dataset / split}: no frame has a label that the model knows, so there is nothing to learn from or "
                "to judge by; check the label files."
            )


def _resumable(path: Path, hyper: HyperParameters, options: TrainerOptions) -> Checkpoint:
    """Returns a checkpoint from which training as `hyper` says can go on; Lightning loads it without asking twice."""
    found = load_checkpoint(path)
    if not found.resumable:
        raise InputFileError(
            f"{path}: this checkpoint holds weights only, from which training cannot go on; start from its weights "
            "with --finetune."
        )
    before: Mapping[str, Any] = asdict(found.hyperparameters)
    now = asdict(hyper)
    differing = [name for name in now if name not in _FREE_TO_CHANGE and before[name] != now[name]]
    if "models" in differing:
        differing = ["models"]  # the others follow from it
    if differing:
        raise UsageError(
            f"{path}: training cannot go on from it with another model or data set: "
            + ", ".join(f"{name} was {before[name]} and is {now[name]}" for name in differing)
            + "; give what it was trained with, or leave --resume out."
        )
    in_vain = found.epochs_in_vain
    if options.patience is not None and in_vain is not None and in_vain >= options.patience:
        raise UsageError(
            f"{path}: the validation's loss had not fallen for {in_vain} epochs, after which training with --patience "
            f"{options.patience} has come to its end; to go on all the same, give a larger --patience than {in_vain}."
        )
    return found
