"""`edgeclf train`: train a classifier on a data set."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from edgeclf.hyperparameters import MODEL_NAMES, ModelName
from edgeclf.training import TrainerOptions, hyperparameters_for
from edgeclf.training import train as fit
from edgeclf_runtime.console import is_quiet, json_option, say, verbosity_options, write_json
from edgeclf_runtime.errors import UsageError

_SHORT_NAMES = [name.removesuffix("Classifier") for name in MODEL_NAMES]


def _model_name(_context: click.Context, _parameter: click.Parameter, value: str) -> ModelName:
    for name in MODEL_NAMES:
        if value.lower().removesuffix("classifier") == name.lower().removesuffix("classifier"):
            return name
    raise UsageError(f"There is no model called {value!r}; there are {', '.join(_SHORT_NAMES)}.")


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", callback=_model_name, default="ConvRNN", show_default=True,
              metavar="NAME", help=", ".join(_SHORT_NAMES) + ".")  # fmt: skip
@click.option("--max-epochs", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--max-time", metavar="DD:HH:MM:SS", help="Stop after this long.")
@click.option(
    "--lr",
    type=click.FloatRange(min=0, min_open=True),
    default=1e-3,
    show_default=True,
    help="Learning rate.",
)
@click.option("--wd", type=click.FloatRange(min=0), default=1e-4, show_default=True, help="Weight decay.")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True,
              help="Recordings side by side.")  # fmt: skip
@click.option("--num-tbins", type=click.IntRange(min=1), default=10, show_default=True,
              help="Frames of each recording in a batch.")  # fmt: skip
@click.option("--random-shift", type=click.IntRange(min=0), default=0, show_default=True,
              help="Move each recording by up to so many pixels, another way every epoch.")  # fmt: skip
@click.option("--feature-base", type=click.IntRange(min=1), default=16, show_default=True,
              help="Width of the first block of ConvRNN.")  # fmt: skip
@click.option("--feature-channels-out", type=click.IntRange(min=1), default=256, show_default=True,
              help="Channels inside the head of the recurrent models.")  # fmt: skip
@click.option("--width-mul", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
              help="Width multiplier of Mobilenetv2.")  # fmt: skip
@click.option("--num-ev-reps", type=click.IntRange(min=1), default=1, show_default=True,
              help="Frames that one prediction of a feed-forward model sees.")  # fmt: skip
@click.option("--accelerator", default="auto", show_default=True, help="cpu, gpu, … as Lightning names them.")
@click.option("--devices", default="auto", show_default=True, help="How many, or which, as Lightning takes it.")
@click.option("--num-nodes", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--precision", default="32-true", show_default=True, help="As Lightning names it, like bf16-mixed.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Where --resume goes on, OUT/last.ckpt unless given; or what --finetune starts from.",
)
@click.option("--resume", is_flag=True, help="Go on with an earlier training.")
@click.option("--finetune", is_flag=True, help="Start from the weights of --checkpoint, for these classes.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True,
              help="The same seed trains the same weights, on the same machine.")  # fmt: skip
@json_option
@verbosity_options
def train(
    dataset: Path,
    out: Path,
    model: ModelName,
    max_epochs: int,
    max_time: str | None,
    lr: float,
    wd: float,
    batch_size: int,
    num_tbins: int,
    random_shift: int,
    feature_base: int,
    feature_channels_out: int,
    width_mul: float,
    num_ev_reps: int,
    accelerator: str,
    devices: str,
    num_nodes: int,
    precision: str,
    checkpoint: Path | None,
    resume: bool,
    finetune: bool,
    seed: int,
    json_path: str | None,
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
    hyper = hyperparameters_for(
        dataset, model, lr=lr, wd=wd, batch_size=batch_size, num_tbins=num_tbins, random_shift=random_shift,
        feature_base=feature_base, feature_channels_out=feature_channels_out, width_mul=width_mul,
        num_ev_reps=num_ev_reps,
    )  # fmt: skip
    options = TrainerOptions(
        max_epochs, max_time, accelerator, devices, num_nodes, precision, seed,
        progress_bar=sys.stderr.isatty() and not is_quiet(),
    )  # fmt: skip
    result = fit(
        dataset,
        out,
        hyper,
        options,
        resume=(checkpoint or out / "last.ckpt") if resume else None,
        finetune=checkpoint if finetune else None,
    )
    say(f"{result.best}: {result.val_accuracy:.1%} of the validation frames right, after {result.epochs} epochs")
    if json_path is not None:
        write_json(json_path, {**asdict(result), "best": str(result.best), "last": str(result.last)})
