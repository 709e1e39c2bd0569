"""The options of `edgeclf train`, in the sections of its help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from edgeclf.hyperparameters import MODEL_NAMES, WINDOWS_PER_BATCH, HyperParameters, ModelName
from edgeclf.training import LOGGERS, TrainerOptions
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.preprocessing import preprocessing_names

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_SHORT_NAMES = [name.removesuffix("Classifier") for name in MODEL_NAMES]
_DEFAULTS = {f.name: f.default for f in fields(HyperParameters)}

_COUNT = click.IntRange(min=1)
_SHARE = click.FloatRange(0, 1)
_AMOUNT = click.FloatRange(min=0)
_MORE_THAN_0 = click.FloatRange(min=0, min_open=True)


class SectionedOption(click.Option):
    """An option that knows under which heading of the help it stands."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose help lists its options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options, section by section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                sections.setdefault(getattr(parameter, "section", "General"), []).append(record)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def _section(title: str, *options: tuple[tuple[str, ...], dict[str, Any]]) -> Callable[[Decorated], Decorated]:
    def add(command: Decorated) -> Decorated:
        for names, settings in reversed(options):
            command = click.option(*names, cls=SectionedOption, section=title, **settings)(command)
        return command

    return add


def _hyper(name: str, kind: Any, text: str, **settings: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """An option that is a hyper-parameter: None unless given, since a resumed training has its own default."""
    default = _DEFAULTS[name.removeprefix("--").replace("-", "_")]
    if default and "show_default" not in settings:
        settings["show_default"] = f"{default:g}"
    return (name,), {"type": kind, "default": None, "help": text, **settings}


def _flag(name: str, text: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    return (name,), {"is_flag": True, "default": None, "help": text}


def _model_name(_context: click.Context, _parameter: click.Parameter, value: str | None) -> ModelName | None:
    if value is None:
        return None
    for name in MODEL_NAMES:
        if value.lower().removesuffix("classifier") == name.lower().removesuffix("classifier"):
            return name
    raise UsageError(f"There is no model called {value!r}; there are {', '.join(_SHORT_NAMES)}.")


def _weights(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[float, ...] | str | None:
    if value is None or value == "balanced":
        return value
    try:
        return tuple(float(weight) for weight in value.split(","))
    except ValueError as error:
        raise UsageError(
            f"--class-weights {value}: give balanced, or a number for each output with commas between, like 0.5,1,1."
        ) from error


model_options = _section(
    "Model",
    (("--model",), {"callback": _model_name, "metavar": "NAME", "show_default": "ConvRNN", "default": None,
                    "help": ", ".join(_SHORT_NAMES) + "."}),
    _hyper("--feature-base", _COUNT, "Width of the first block of ConvRNN."),
    _hyper("--feature-channels-out", _COUNT, "Channels inside the head of the recurrent models."),
    _hyper("--width-mul", _MORE_THAN_0, "Width multiplier of Mobilenetv2."),
    _hyper("--num-ev-reps", _COUNT, "Frames that one prediction of a feed-forward model sees."),
)  # fmt: skip

learning_options = _section(
    "Learning",
    (("--max-epochs",), {"type": _COUNT, "default": None, "show_default": str(TrainerOptions.max_epochs)}),
    (("--max-time",), {"metavar": "DD:HH:MM:SS", "help": "Stop after this long."}),
    (("--patience",), {"type": _COUNT, "default": None,
                       "help": "Stop after so many epochs in which the validation's loss has not fallen."}),
    _hyper("--lr", _MORE_THAN_0, "Learning rate."),
    _hyper("--lr-scheduler-step-gamma", _MORE_THAN_0,
           "What the learning rate is multiplied by after every epoch, 1 keeps it constant; it falls along half a "
           "cosine unless given."),
    _hyper("--wd", _AMOUNT, "Weight decay."),
    (("--class-weights",), {"callback": _weights, "metavar": "balanced|W,W,…", "default": None,
                            "help": "Weights of the outputs in the loss, background first; balanced: so that all "
                                    "count alike."}),
    (("--seed",), {"type": click.IntRange(0, 2**32 - 1), "default": None, "show_default": "0",
                   "help": "The same seed trains the same weights, on the same machine."}),
)  # fmt: skip

data_options = _section(
    "Data",
    (("--height-width",), {"type": click.IntRange(min=1), "nargs": 2, "default": None, "metavar": "HEIGHT WIDTH",
                           "help": "Rows and columns of the model's frames, which are the data set's shrunk to that; "
                                   "as the data set's unless given."}),
    (("--preprocess",), {"type": click.Choice(preprocessing_names()), "default": None,
                         "help": "How events become a frame, where the data set holds _td.dat recordings; as the .h5 "
                                 "files say where it holds those, else histo unless given."}),
    (("--delta-t",), {"type": _COUNT, "default": None,
                      "help": "Duration of an event frame in µs, of _td.dat recordings as above; 10000 unless given."}),
    (("--max-incr-per-pixel",), {"type": _MORE_THAN_0, "default": None,
                                 "help": "Events that saturate a pixel, of _td.dat recordings as above; 5 unless "
                                         "given."}),
    _hyper("--batch-size", _COUNT, "Recordings side by side; for feed-forward models windows of frames.",
           show_default=f"{_DEFAULTS['batch_size']} recordings, {WINDOWS_PER_BATCH} windows"),
    _hyper("--num-tbins", _COUNT, "Frames of each recording in a batch."),
    _hyper("--max-consecutive-batch", _COUNT,
           "Batches of a training recording after which its memory starts anew; never unless given."),
    _hyper("--num-workers", click.IntRange(min=0), "Processes that load batches; the training itself unless given."),
    _hyper("--label-delta-t", _COUNT, "Interval in µs at which the labels were made, for --use-label-freq."),
    _flag("--use-label-freq", "Learn from and judge only frames at the labels' interval."),
    _flag("--interpolate-labels", "A frame between two labels of one class has that label too."),
)  # fmt: skip

augmentation_options = _section(
    "Augmentation, of each training recording, in another way every epoch",
    _hyper("--random-shift", click.IntRange(min=0), "Move it by up to so many pixels."),
    _hyper("--random-rotation", _AMOUNT, "Turn it by up to so many degrees."),
    _hyper("--random-scale", _SHARE, "Enlarge or shrink it by up to this share."),
    _hyper("--random-shear", _AMOUNT, "Slant it by up to so many degrees."),
    _hyper("--random-crop", _SHARE, "Cut away up to this share of its area."),
    _hyper("--flip-horizontal", _SHARE, "Mirror it left to right, with this probability."),
    _hyper("--flip-vertical", _SHARE, "Mirror it top to bottom, with this probability."),
)  # fmt: skip

trainer_options = _section(
    "Machine, as Lightning names it",
    (("--accelerator",), {"default": "auto", "show_default": True, "help": "cpu, gpu, …"}),
    (("--devices",), {"default": "auto", "show_default": True, "help": "How many, or which."}),
    (("--num-nodes",), {"type": _COUNT, "default": 1, "show_default": True, "help": "How many machines."}),
    (("--strategy",), {"default": "auto", "show_default": True, "help": "How processes train together, like ddp."}),
    (("--precision",), {"default": None, "show_default": TrainerOptions.precision, "help": "Like bf16-mixed."}),
    (("--deterministic",), {"is_flag": True, "help": "Use only algorithms that give the same numbers every time."}),
)  # fmt: skip

checkpoint_options = _section(
    "Checkpoints and logs",
    (("--checkpoint",), {"type": click.Path(path_type=Path),
                         "help": "Where --resume goes on, OUT/last.ckpt unless given; or what --finetune starts "
                                 "from."}),
    (("--resume",), {"is_flag": True,
                     "help": "Go on with an earlier training. Unless given anew, the model, the options of learning, "
                             "data and augmentation, and --precision stay as they were; --max-time, --accelerator, "
                             "--devices, --num-nodes, --strategy, --deterministic, --logger and --demo-every do not."}),
    (("--finetune",), {"is_flag": True, "help": "Start from the weights of --checkpoint, for these classes: those of "
                                                "the same name keep their outputs' weights."}),
    (("--overwrite",), {"is_flag": True, "help": "Let this training take the place of another one in OUT, its logs "
                                                 "and videos included."}),
    (("--logger", "loggers"), {"type": click.Choice(LOGGERS), "multiple": True, "default": ("csv",),
                               "show_default": "csv",
                               "help": "Where metrics go: OUT/metrics.csv, OUT/tensorboard; may be given twice."}),
    (("--demo-every",), {"type": click.IntRange(min=0), "default": 0, "metavar": "EPOCHS",
                         "help": "Write a video of the classifier at work to OUT/videos, every so many epochs."}),
)  # fmt: skip
