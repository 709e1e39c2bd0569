"""What a training is told, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgeclf.data.conversion.frames import FrameRecipe, complete_arguments
from edgeclf.data.dataset import describe
from edgeclf.data.labels import IGNORED
from edgeclf.hyperparameters import HyperParameters, ModelName, default_batch_size, model_classes
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.preprocessing import canonical_arguments, effective_arguments
from edgeclf_runtime.tensor_file import TensorAttributes

LoggerName = Literal["csv", "tensorboard"]
# Where frames end by their number of events, and a file says nothing about their duration, which means nothing there.
_METAVISIONS_DELTA_T = 10_000
LOGGERS: tuple[LoggerName, ...] = get_args(LoggerName)


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
        progress_bar: Whether to show one, on standard error.
        strategy: How several processes train together, such as `ddp`.
        patience: Epochs without a smaller validation loss after which training ends; None: it goes on.
        deterministic: Whether only algorithms are used that give the same numbers every time.
        loggers: Where metrics go.
        demo_every: Epochs from one demo video to the next; 0: there is none.
    """

    max_epochs: int = 20
    max_time: str | None = None
    accelerator: str = "auto"
    devices: str = "auto"
    num_nodes: int = 1
    precision: str = "32-true"
    seed: int = 0
    progress_bar: bool = True
    strategy: str = "auto"
    patience: int | None = None
    deterministic: bool = False
    loggers: tuple[LoggerName, ...] = ("csv",)
    demo_every: int = 0


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


def hyperparameters_for(
    dataset: Path, model: ModelName, recipe: FrameRecipe | None = None, **chosen: Any
) -> HyperParameters:
    """Returns the hyper-parameters for a model on a data set: the data set's own and the `chosen` ones.

    Args:
        dataset: A folder in Metavision's layout.
        model: The classifier.
        recipe: How frames are made where the data set holds `_td.dat` recordings and nothing of it is chosen; None: as
            `edgeclf dataset events` does it.
        chosen: Hyper-parameters by name; None counts as not chosen. Frames of another `height` and `width` than the
            files' are those shrunk; of `preprocess_kwargs` only some arguments need be there.

    Raises:
        InputFileError: Where the folder is no data set.
        UsageError: Where a chosen one cannot be, or the frames of the data set were made in another way.
    """
    chosen = {name: value for name, value in chosen.items() if value is not None}
    found = describe(dataset, _chosen_recipe(recipe or FrameRecipe(), chosen))
    _check_made_so(dataset, found.attributes, chosen)
    chosen.pop("preprocess_kwargs", None)  # which the frames have, and others too
    made = found.attributes
    channels, height, width = found.frame_shape
    hyper = HyperParameters(
        models=model,
        classes=model_classes(model, found.classes),
        height=height,
        width=width,
        delta_t=made.delta_t or _METAVISIONS_DELTA_T,
        preprocess=made.preprocess,
        preprocess_kwargs=made.preprocess_kwargs,
        preprocess_channels=channels,
        event_input_width=made.sensor_size[0],
        event_input_height=made.sensor_size[1],
        mode=made.mode,
        n_events=made.n_events or None,
        batch_size=default_batch_size(model),
    )
    hyper = replace(hyper, **chosen)
    return HyperParameters.from_mapping(hyper.to_dict(), source=str(dataset))


def _chosen_recipe(recipe: FrameRecipe, chosen: Mapping[str, Any]) -> FrameRecipe:
    """Returns how frames of `_td.dat` recordings are made: as a recipe says, but for what is chosen."""
    preprocess = chosen.get("preprocess", recipe.preprocess)
    arguments: dict[str, Any] = dict(chosen.get("preprocess_kwargs", {}))
    complete_arguments(preprocess, arguments)  # raises where it does not take one; those left out have their defaults
    if preprocess == recipe.preprocess:
        arguments = {**recipe.preprocess_kwargs, **arguments}
    return replace(
        recipe, preprocess=preprocess, preprocess_kwargs=arguments, delta_t=chosen.get("delta_t", recipe.delta_t)
    )


def _check_made_so(dataset: Path, made: TensorAttributes, chosen: Mapping[str, Any]) -> None:
    """Raises where the frames of a data set were made in another way than is chosen."""
    if "delta_t" in chosen and made.mode != "delta_t":
        raise UsageError(
            f"{dataset}: its frames end by their number of events, so that a duration (--delta-t) has no meaning; "
            "leave it out."
        )
    has = effective_arguments(made.preprocess, made.preprocess_kwargs)
    has |= {"preprocess": made.preprocess, "delta_t": made.delta_t}
    wanted = {name: chosen[name] for name in ("preprocess", "delta_t") if name in chosen}
    wanted |= canonical_arguments(made.preprocess, chosen.get("preprocess_kwargs", {}))
    for name, value in wanted.items():
        if has.get(name) != value:
            raise UsageError(
                f"{dataset}: its frames were made with {name} {has.get(name, '(none)')}, and {name} {value} is chosen; "
                "leave that out, or make the data set again with `edgeclf dataset events`."
            )


def balanced_class_weights(labels: Iterable[NDArray[np.int64]], outputs: int) -> tuple[float, ...]:
    """Returns a weight for each output so that all outputs count alike: frames / (outputs present · its frames).

    This is scikit-learn's "balanced" (King & Zeng 2001). An output without a frame has weight 1.

    Args:
        labels: The right output for each frame of each recording, -1 where a frame is left out.
        outputs: Number of outputs.
    """
    counts = np.zeros(outputs, np.int64)
    for recording in labels:
        counts += np.bincount(recording[recording != IGNORED], minlength=outputs)
    present = np.count_nonzero(counts)
    return tuple(float(counts.sum() / (present * count)) if count else 1.0 for count in counts)
