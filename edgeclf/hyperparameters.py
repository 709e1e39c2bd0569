"""The hyper-parameters of a classifier's training, as they stand in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from numbers import Real
from typing import Any, Literal, get_args

import numpy as np

from edgeclf.models import (
    Classifier,
    ConvRNNClassifier,
    LeNetClassifier,
    Mobilenetv2Classifier,
    SqueezenetClassifier,
)
from edgeclf_runtime.contract import BACKGROUND
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.preprocessing import create_preprocessing
from edgeclf_runtime.tensor_file import FRAME_MODES, FrameMode

ModelName = Literal["ConvRNNClassifier", "LeNetClassifier", "Mobilenetv2Classifier", "SqueezenetClassifier"]
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)
RECURRENT_MODELS: tuple[ModelName, ...] = ("ConvRNNClassifier", "LeNetClassifier")

WINDOWS_PER_BATCH = 64
"""How many windows a feed-forward model learns from at once, unless told otherwise."""

_COUNTS = (
    "height", "width", "delta_t", "preprocess_channels", "event_input_height", "event_input_width", "n_events",
    "feature_base", "feature_channels_out", "num_ev_reps", "label_delta_t", "num_tbins", "batch_size",
    "max_consecutive_batch",
)  # fmt: skip
_COUNTS_FROM_0 = ("random_shift", "num_workers")
_AMOUNTS = ("width_mul", "lr", "wd", "lr_scheduler_step_gamma", "random_rotation", "random_shear")
_FLAGS = ("use_label_freq", "interpolate_labels")
_SHARES = ("random_scale", "random_crop", "flip_horizontal", "flip_vertical")


@dataclass(frozen=True)
class HyperParameters:
    """What a checkpoint's `hyper_parameters` hold that edgeclf uses; names as in Metavision's checkpoints.

    Attributes:
        models: The classifier's class name.
        classes: Class names. For the recurrent models without the background, which is output 0; for the
            feed-forward ones the whole label map in the order of the outputs.
        height: Rows of an event frame.
        width: Columns of an event frame.
        delta_t: Duration of an event frame in µs.
        preprocess: Name of the preprocessing.
        preprocess_kwargs: Its arguments.
        preprocess_channels: Channels of an event frame.
        event_input_height: Rows of the sensor, None where the checkpoint does not say (Metavision's do not).
        event_input_width: Columns of the sensor.
        feature_base: Width of the first block of ConvRNN.
        feature_channels_out: Channels inside the head of the recurrent models.
        width_mul: Width multiplier of MobileNetV2.
        num_ev_reps: Frames that one prediction of a feed-forward model sees.
        mode: What ends a frame: `delta_t`, its duration, or `n_events`, its number of events.
        n_events: Events of a frame, where `mode` says so.
        label_delta_t: Interval in µs at which frames are labelled, where `use_label_freq`.
        use_label_freq: Whether only frames at the labelling interval count.
        interpolate_labels: Whether a frame between two labels of one class has that label too.
        class_weights: Weight of each output in the loss, in the order of the outputs; None: all alike.
        num_tbins: Frames of a recording in one training batch (length of truncated back-propagation).
        batch_size: Recordings side by side in one batch; for feed-forward models windows.
        max_consecutive_batch: Training batches after which a recording's memory starts anew; None: it never does.
        num_workers: Processes that load batches; 0: the training process itself.
        random_shift: Pixels by which training moves a recording's frames in each direction, at most.
        random_rotation: Degrees by which it turns them, at most.
        random_scale: Share by which it enlarges or shrinks them, at most.
        random_shear: Degrees by which it slants them, at most.
        random_crop: Share of a frame's area that it may cut away before it fills the frame again, at most.
        flip_horizontal: How likely it mirrors a recording left to right, 0 to 1.
        flip_vertical: How likely it mirrors a recording top to bottom, 0 to 1.
        lr: Learning rate.
        wd: Weight decay.
        lr_scheduler_step_gamma: What the learning rate is multiplied by after every epoch; None: it falls along half
            a cosine.
    """

    models: ModelName
    classes: tuple[str, ...]
    height: int
    width: int
    delta_t: int
    preprocess: str
    preprocess_kwargs: Mapping[str, Any] = field(default_factory=dict)
    preprocess_channels: int = 2
    event_input_height: int | None = None
    event_input_width: int | None = None
    feature_base: int = 16
    feature_channels_out: int = 256
    width_mul: float = 1.0
    num_ev_reps: int = 1
    mode: FrameMode = "delta_t"
    n_events: int | None = None
    label_delta_t: int | None = None
    use_label_freq: bool = False
    interpolate_labels: bool = False
    class_weights: tuple[float, ...] | None = None
    num_tbins: int = 10
    batch_size: int = 8
    max_consecutive_batch: int | None = None
    num_workers: int = 0
    random_shift: int = 0
    random_rotation: float = 0.0
    random_scale: float = 0.0
    random_shear: float = 0.0
    random_crop: float = 0.0
    flip_horizontal: float = 0.0
    flip_vertical: float = 0.0
    lr: float = 1e-3
    wd: float = 1e-4
    lr_scheduler_step_gamma: float | None = None

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str = "these hyper-parameters") -> HyperParameters:
        """Reads hyper-parameters of any age.

        Args:
            values: The checkpoint's `hyper_parameters`; unknown ones are ignored.
            source: What to call them in an error.

        Raises:
            UsageError: Where one that is needed is missing, or has a value that cannot be.
        """
        values = dict(values)
        if "preprocess_channels" not in values and "in_channels" in values:
            values["preprocess_channels"] = values["in_channels"]
        if not values.get("preprocess_kwargs"):
            values["preprocess_kwargs"] = {}
            if values.get("max_incr_per_pixel") is not None:
                values["preprocess_kwargs"] = {"max_incr_per_pixel": values["max_incr_per_pixel"]}
        if _plain(values.get("n_events")) == 0:  # as files and trainings say it whose frames end by duration
            values["n_events"] = None
        known = {f.name for f in fields(cls)}
        needed = {"models", "classes", "height", "width", "delta_t", "preprocess"}
        if missing := sorted(needed - {name for name, value in values.items() if value is not None}):
            raise UsageError(
                f"{source}: the hyper-parameters {', '.join(missing)} are missing, which every event-camera classifier "
                "has; give a checkpoint made by `edgeclf train` or by Metavision ML's classification training, or add "
                "them."
            )
        if f"{values['models']}Classifier" in MODEL_NAMES:
            values["models"] = f"{values['models']}Classifier"
        if values["models"] not in MODEL_NAMES:
            raise UsageError(
                f"{source}: the model is called {values['models']!r}, and edgeclf knows {', '.join(MODEL_NAMES)}."
            )
        taken = {name: _plain(value) for name, value in values.items() if name in known and value is not None}
        read = cls(**{name: _checked(name, value, source) for name, value in taken.items()})
        if read.class_weights is not None and len(read.class_weights) != len(read.labels):
            raise UsageError(
                f"{source}: there are {len(read.class_weights)} class_weights and {len(read.labels)} outputs "
                f"({', '.join(read.labels)}); give one for each."
            )
        if len(set(read.labels)) < len(read.labels):
            raise UsageError(
                f"{source}: the classes {', '.join(read.classes)} hold the background, which {read.models} has besides "
                "them as output 0; leave it out of them."
            )
        return read

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        return output_labels(self.models, self.classes)

    @property
    def sensor_size(self) -> tuple[int, int] | None:
        """Width and height of the sensor, where known."""
        if self.event_input_width is None or self.event_input_height is None:
            return None
        return (self.event_input_width, self.event_input_height)

    @property
    def frame_duration(self) -> int | None:
        """Duration of a frame in µs; None where frames end by their number of events, so that each has its own."""
        return self.delta_t if self.mode == "delta_t" else None

    def to_dict(self) -> dict[str, Any]:
        """Returns them as a dictionary of plain Python values, as a checkpoint stores them."""
        return asdict(self) | {
            "classes": list(self.classes),
            "class_weights": None if self.class_weights is None else list(self.class_weights),
            "preprocess_kwargs": dict(self.preprocess_kwargs),
        }

    def build_model(self) -> Classifier:
        """Returns the classifier with fresh weights.

        Raises:
            UsageError: Where the frames are too small for it, or have another number of channels than the
                preprocessing makes.
        """
        made = create_preprocessing(
            self.preprocess,
            sensor_size=self.sensor_size or (self.width, self.height),
            delta_t=self.delta_t,
            **self.preprocess_kwargs,
        )
        if made.channels != self.preprocess_channels:
            raise UsageError(
                f"The preprocessing {self.preprocess} makes {made.channels} channels, and the hyper-parameter "
                f"preprocess_channels is {self.preprocess_channels}."
            )
        outputs = len(self.labels)
        stacked = self.num_ev_reps * self.preprocess_channels
        model: Classifier
        if self.models == "ConvRNNClassifier":
            model = ConvRNNClassifier(self.preprocess_channels, self.feature_base, self.feature_channels_out, outputs)
        elif self.models == "LeNetClassifier":
            model = LeNetClassifier(self.preprocess_channels, self.feature_base, self.feature_channels_out, outputs)
        elif self.models == "Mobilenetv2Classifier":
            model = Mobilenetv2Classifier(stacked, self.width_mul, outputs, num_ev_reps=self.num_ev_reps)
        else:
            model = SqueezenetClassifier(stacked, outputs, num_ev_reps=self.num_ev_reps)
        model.state_spec(self.height, self.width)  # says so where the frames are too small
        return model


def output_labels(model: ModelName, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names of a model's outputs: the background first for the recurrent models."""
    return (BACKGROUND, *classes) if model in RECURRENT_MODELS else classes


def default_batch_size(model: ModelName) -> int:
    """Returns the batch size that a model is trained with unless told otherwise: recordings, or windows."""
    return HyperParameters.batch_size if model in RECURRENT_MODELS else WINDOWS_PER_BATCH


def model_classes(model: ModelName, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the hyper-parameter `classes` of a model that shall tell `classes` (background left out) apart."""
    return classes if model in RECURRENT_MODELS else (BACKGROUND, *classes)


def _checked(name: str, value: Any, source: str) -> Any:
    """Returns the value of a hyper-parameter in the type that it has here; raises where it cannot be one."""
    if name in _COUNTS or name in _COUNTS_FROM_0:
        smallest = 0 if name in _COUNTS_FROM_0 else 1
        if _is_number(value) and value >= smallest and value == int(value):
            return int(value)
        rule = f"a whole number of at least {smallest}"
    elif name in _AMOUNTS:
        if _is_number(value) and value >= 0:
            return float(value)
        rule = "a number of at least 0"
    elif name in _SHARES:
        if _is_number(value) and 0 <= value <= 1:
            return float(value)
        rule = "a number from 0 to 1"
    elif name in _FLAGS:
        if isinstance(value, (bool, int)) and value in (0, 1):
            return bool(value)
        rule = "true or false"
    elif name == "class_weights":
        value = value.tolist() if isinstance(value, np.ndarray) else value
        if isinstance(value, (list, tuple)) and all(_is_number(weight) and weight >= 0 for weight in value):
            return tuple(map(float, value))
        rule = "a list of numbers of at least 0"
    elif name == "mode":
        if value in FRAME_MODES:
            return value
        rule = " or ".join(FRAME_MODES)
    elif name == "classes":
        if isinstance(value, (list, tuple)) and value and len({str(label) for label in value}) == len(value):
            return tuple(str(label) for label in value)
        rule = "a list of different names"
    elif name == "preprocess_kwargs":
        if isinstance(value, Mapping):
            return {str(key): _plain(argument) for key, argument in value.items()}
        rule = "a dictionary of arguments"
    elif name == "preprocess":
        if isinstance(value, str):
            return value
        rule = "the name of a preprocessing"
    else:  # models, which is looked up
        return value
    raise UsageError(f"{source}: the hyper-parameter {name} is {value!r}, but must be {rule}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def _plain(value: Any) -> Any:
    """Returns a NumPy scalar as the Python number it is, and anything else as it is; real checkpoints hold them."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value
