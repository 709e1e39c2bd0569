"""Starting from the weights of another training, whose classes may be others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from edgeclf.checkpoint import Checkpoint
from edgeclf.hyperparameters import HyperParameters
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.preprocessing import effective_arguments

# What the shapes of the weights follow from, besides the classes.
_SHAPES = ("models", "preprocess_channels", "feature_base", "feature_channels_out", "width_mul", "num_ev_reps")

# What the frames that the weights were trained on follow from.
_FRAMES = ("preprocess", "preprocess_kwargs", "mode", "delta_t", "n_events")


@dataclass(frozen=True)
class PretrainedWeights:
    """Weights to start from.

    Attributes:
        state: The network's whole `state_dict`.
        taken: The outputs whose weights come from the checkpoint.
        fresh: The outputs that start anew.
    """

    state: dict[str, Tensor]
    taken: tuple[str, ...]
    fresh: tuple[str, ...]


def pretrained_weights(
    checkpoint: Checkpoint, own: Mapping[str, Tensor], settings: HyperParameters
) -> PretrainedWeights:
    """Returns a network's weights with those of a checkpoint in their place.

    The last layer has a row of weights and a bias for each output. An output takes over those of the checkpoint's
    output of the same name, wherever that stands there; an output that the checkpoint does not have keeps its own.

    Args:
        checkpoint: What to start from.
        own: The network's own `state_dict`, the last layer's weight and bias last.
        settings: The network's hyper-parameters.

    Raises:
        UsageError: Where the checkpoint's weights, those of its outputs aside, do not fit the network.
    """
    before = checkpoint.hyperparameters
    *body, weight, bias = own
    _check_fits(checkpoint, own, body, weight, settings)
    state = {name: checkpoint.weights[name].clone() for name in body}
    for name in (weight, bias):
        state[name] = own[name].clone()
        for row, label in enumerate(settings.labels):
            if label in before.labels:
                state[name][row] = checkpoint.weights[name][before.labels.index(label)]
    taken = tuple(label for label in settings.labels if label in before.labels)
    return PretrainedWeights(state, taken, tuple(label for label in settings.labels if label not in taken))


def differing_frames(before: HyperParameters, now: HyperParameters) -> list[str]:
    """Returns how frames are made in another way now than before, a phrase for each difference.

    The duration of frames that end by their number of events says nothing, and so makes no difference.
    """
    names = [name for name in _FRAMES if name != "delta_t" or (before.frame_duration and now.frame_duration)]
    return [_difference(name, before, now) for name in names if _made_by(before)[name] != _made_by(now)[name]]


def _made_by(settings: HyperParameters) -> dict[str, Any]:
    """Returns what frames follow from, with all arguments of the preprocessing, those left out included."""
    arguments = effective_arguments(settings.preprocess, settings.preprocess_kwargs)
    return {name: getattr(settings, name) for name in _FRAMES} | {"preprocess_kwargs": arguments}


def _difference(name: str, before: HyperParameters, now: HyperParameters) -> str:
    return f"{name} was {getattr(before, name)} and is {getattr(now, name)}"


def _check_fits(
    checkpoint: Checkpoint, own: Mapping[str, Tensor], body: list[str], weight: str, settings: HyperParameters
) -> None:
    before, found = checkpoint.hyperparameters, checkpoint.weights
    shapes = {name: tuple(own[name].shape) for name in body}
    outputs = len(before.labels)
    (*_, bias) = own
    # The checkpoint has a row for each of its own outputs.
    shapes |= {weight: (outputs, *own[weight].shape[1:]), bias: (outputs,)}
    wrong = [name for name, shape in shapes.items() if name not in found or tuple(found[name].shape) != shape]
    if not wrong:
        return
    differing = [
        _difference(name, before, settings) for name in _SHAPES if getattr(before, name) != getattr(settings, name)
    ]
    name = wrong[0]
    has = f"the shape {tuple(found[name].shape)}" if name in found else "no counterpart"
    details = "; ".join([*differing, f"{name} needs the shape {shapes[name]} and has {has} there"])
    raise UsageError(
        f"{checkpoint.path}: its weights do not fit {settings.models} with these hyper-parameters ({details}); give "
        "the model and the widths that it was trained with."
    )
