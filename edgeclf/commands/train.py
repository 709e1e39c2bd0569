"""`edgeclf train`: train a classifier on a data set."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import click
from lightning.pytorch.utilities import rank_zero_only

from edgeclf.checkpoint import Checkpoint, load_checkpoint
from edgeclf.commands.train_options import (
    SectionedCommand,
    augmentation_options,
    checkpoint_options,
    data_options,
    learning_options,
    model_options,
    trainer_options,
)
from edgeclf.data.conversion import FrameRecipe
from edgeclf.data.labels import class_names, read_label_map
from edgeclf.data_module import ClassificationDataModule
from edgeclf.hyperparameters import MODEL_NAMES, RECURRENT_MODELS, HyperParameters, ModelName, model_classes
from edgeclf.training import TrainerOptions, balanced_class_weights, hyperparameters_for
from edgeclf.training import train as fit
from edgeclf_runtime.console import is_quiet, json_option, say, verbosity_options, write_json
from edgeclf_runtime.errors import UsageError

logger = logging.getLogger(__name__)

# What the data set says, also where a training goes on.
_OF_THE_DATA = {
    "models", "classes", "delta_t", "preprocess", "preprocess_kwargs", "preprocess_channels", "event_input_height",
    "event_input_width", "mode", "n_events",
}  # fmt: skip


@click.command(cls=SectionedCommand)
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@model_options
@learning_options
@data_options
@augmentation_options
@trainer_options
@checkpoint_options
@json_option
@verbosity_options
def train(
    dataset: Path,
    out: Path,
    checkpoint: Path | None,
    resume: bool,
    finetune: bool,
    overwrite: bool,
    json_path: str | None,
    **given: Any,
) -> None:
    """Train a classifier on DATASET; the best checkpoint ends at OUT/best.ckpt, the last at OUT/last.ckpt.

    Example: edgeclf train nmnist runs/nmnist --model ConvRNN --max-epochs 10
    """
    if resume and finetune:
        raise UsageError("--resume goes on with a training and --finetune starts a new one; give one of them.")
    if finetune and checkpoint is None:
        raise UsageError("--finetune starts from the weights of a checkpoint; name it with --checkpoint.")
    if checkpoint is not None and not (resume or finetune):
        raise UsageError("--checkpoint is where --resume goes on or --finetune starts; give one of them too.")
    first = _is_first_process()
    if not first:
        logging.getLogger("edgeclf").setLevel(logging.ERROR)
    start = checkpoint or out / "last.ckpt"
    before = load_checkpoint(start) if resume else None
    given = {name: value for name, value in given.items() if value is not None}
    result = fit(
        dataset,
        out,
        _hyperparameters(dataset, given, before),
        _trainer_options(given, before),
        resume=start if resume else None,
        finetune=checkpoint if finetune else None,
        overwrite=overwrite,
    )
    if not first:
        return
    epochs = "1 epoch" if result.epochs == 1 else f"{result.epochs} epochs"
    say(f"{result.best}: {result.val_accuracy:.1%} of the validation frames right, after {epochs}")
    if json_path is not None:
        write_json(json_path, {**asdict(result), "best": str(result.best), "last": str(result.last)})


def _is_first_process() -> bool:
    """Whether this is the first of several processes that train together, each of which runs this command."""
    rank: int = getattr(rank_zero_only, "rank", 0)  # Lightning's, of what starts the others
    return rank == 0


def _hyperparameters(dataset: Path, given: Mapping[str, Any], before: Checkpoint | None) -> HyperParameters:
    """Returns what is given, else what a training to go on with had, else the defaults."""
    names = {f.name for f in fields(HyperParameters)}
    chosen = {name: value for name, value in given.items() if name in names}
    chosen |= dict(zip(("height", "width"), given.get("height_width", ()), strict=False))
    if "max_incr_per_pixel" in given:
        chosen["preprocess_kwargs"] = {"max_incr_per_pixel": given["max_incr_per_pixel"]}
    model, recipe = given.get("model", "ConvRNNClassifier"), None
    if before is not None:
        had = before.hyperparameters
        model = given.get("model", had.models)
        _check_same_classes(dataset, before)
        chosen = {name: getattr(had, name) for name in names - _OF_THE_DATA} | chosen
        recipe = FrameRecipe(had.preprocess, had.preprocess_kwargs, had.delta_t)
    _warn_of_idle_options(model, given)
    if chosen.get("use_label_freq") and chosen.get("label_delta_t") is None:
        raise UsageError("--use-label-freq keeps only frames at the labels' interval; give it with --label-delta-t.")
    if "label_delta_t" in given and not chosen.get("use_label_freq"):
        raise UsageError("--label-delta-t is the interval of --use-label-freq; give that too.")
    balanced = chosen.get("class_weights") == "balanced"
    hyper = hyperparameters_for(dataset, model, recipe, **(chosen | {"class_weights": None} if balanced else chosen))
    if not balanced:
        return hyper
    recordings = ClassificationDataModule(hyper.to_dict(), dataset).split("train")
    weights = balanced_class_weights([recording.labels for recording in recordings], len(hyper.labels))
    shown = ", ".join(f"{label} {weight:.3g}" for label, weight in zip(hyper.labels, weights, strict=True))
    logger.info("class weights: %s", shown)
    return replace(hyper, class_weights=weights)


def _check_same_classes(dataset: Path, before: Checkpoint) -> None:
    had, found = before.hyperparameters, class_names(read_label_map(dataset))
    if had.classes != model_classes(had.models, found):
        raise UsageError(
            f"{before.path}: it was trained on a data set with the classes {', '.join(had.classes)}, and {dataset} has "
            f"{', '.join(found)}; give that data set, or start from its weights with --finetune."
        )


def _warn_of_idle_options(model: ModelName, given: Mapping[str, Any]) -> None:
    """Says so where an option was given that has no influence on this model."""
    recurrent = set(RECURRENT_MODELS)
    of_some: dict[str, set[ModelName]] = {
        "feature_base": {"ConvRNNClassifier"},
        "feature_channels_out": recurrent,
        "max_consecutive_batch": recurrent,
        "num_ev_reps": set(MODEL_NAMES) - recurrent,
        "width_mul": {"Mobilenetv2Classifier"},
    }
    for name, models in of_some.items():
        if name in given and model not in models:
            option, others = f"--{name.replace('_', '-')}", ", ".join(sorted(models))
            logger.warning("%s means nothing to %s and is not used; it is for %s.", option, model, others)


def _trainer_options(given: Mapping[str, Any], before: Checkpoint | None) -> TrainerOptions:
    """Returns what is given, else what a training to go on with kept, else the defaults."""
    names = {f.name for f in fields(TrainerOptions)}
    chosen = {name: value for name, value in given.items() if name in names}
    kept = {} if before is None else dict(before.trained_with)
    shown = sys.stderr.isatty() and not is_quiet() and _is_first_process()
    return TrainerOptions(**(kept | chosen), progress_bar=shown)
