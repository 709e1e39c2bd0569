"""What the tests of the workstation share: recordings made by hand, and a tiny data set of moving blobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgeclf.data.labels import LabelEvents, write_box_labels, write_label_map
from edgeclf.hyperparameters import HyperParameters
from edgeclf.models import Classifier
from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file

DELTA_T = 10_000
ATTRIBUTES = TensorAttributes("histo", DELTA_T, (48, 48), 0, {"max_incr_per_pixel": 5.0})

AddRecording = Callable[..., Path]


def _add_recording(
    folder: Path, name: str, data: np.ndarray, class_ids: Sequence[int | None], **attributes: object
) -> Path:
    """Writes NAME.h5 and NAME_bbox.npy; `class_ids` holds an id for each frame, None for background."""
    made = replace(ATTRIBUTES, **attributes)
    write_tensor_file(folder / f"{name}.h5", list(data), made)
    labelled = [(made.start_ts + k * made.delta_t, c) for k, c in enumerate(class_ids) if c is not None]
    labels = LabelEvents(np.array([t for t, _ in labelled], np.int64), np.array([c for _, c in labelled], np.int64))
    write_box_labels(folder / f"{name}_bbox.npy", labels, (48, 48))
    return folder / f"{name}.h5"


@pytest.fixture(scope="session")
def add_recording() -> AddRecording:
    """Writes a recording's two files: `(folder, name, data [N, C, H, W], class ids of the frames, **attributes)`."""
    return _add_recording


def _blob(class_id: int, frames: int, rng: np.random.Generator) -> np.ndarray:
    """A bright block that wanders to the left (0, in channel 0) or to the right (1, in channel 1)."""
    data = (rng.random((frames, 2, 48, 48)) < 0.01).astype(np.float32) / 5
    row, column = rng.integers(4, 30), rng.integers(10, 30)
    for k in range(frames):
        at = (column + (-1, 1)[class_id] * k) % 40
        data[k, class_id, row : row + 8, at : at + 8] = 1
    return data


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of two classes, 48×48 pixels, in recordings of 6 to 13 frames, two frames of background first."""
    root = tmp_path_factory.mktemp("blobs")
    rng = np.random.default_rng(0)
    for split, lengths in {"train": (9, 6, 13, 7), "val": (8, 11), "test": (13, 6, 9)}.items():
        for i, frames in enumerate(lengths):
            class_id = i % 2
            data = _blob(class_id, frames, rng)
            data[:2] = 0
            _add_recording(root / split, f"{split}_{i}", data, [None, None, *[class_id] * (frames - 2)])
    write_label_map(root, ["left", "right"])
    return root


TINY = HyperParameters(
    models="ConvRNNClassifier",
    classes=("left", "right"),
    height=48,
    width=48,
    delta_t=DELTA_T,
    preprocess="histo",
    preprocess_kwargs={"max_incr_per_pixel": 5.0},
    preprocess_channels=2,
    event_input_height=48,
    event_input_width=48,
    feature_base=2,
    feature_channels_out=8,
    num_tbins=4,
    batch_size=3,
)


@pytest.fixture(params=["ConvRNN", "LeNet", "Mobilenetv2", "Squeezenet"])
def hyper_of_each(request: pytest.FixtureRequest) -> HyperParameters:
    """Hyper-parameters of each of the four classifiers, small, for `blobs`; feed-forward ones see several frames."""
    return _hyper(request.param)


def _hyper(name: str) -> HyperParameters:
    whole = ("background", "left", "right")
    changes = {
        "ConvRNN": {},
        "LeNet": {},
        "Mobilenetv2": {"classes": whole, "num_ev_reps": 3, "width_mul": 0.1},
        "Squeezenet": {"classes": whole, "num_ev_reps": 2},
    }
    return replace(TINY, models=f"{name}Classifier", **changes[name])


@pytest.fixture(scope="session")
def hyper() -> Callable[[str], HyperParameters]:
    """Hyper-parameters of a classifier by its short name."""
    return _hyper


@pytest.fixture(scope="session")
def build() -> Callable[[HyperParameters], Classifier]:
    """Builds a classifier in evaluation mode whose batch normalisation looks trained, so that none is a no-op."""

    def made(settings: HyperParameters) -> Classifier:
        torch.manual_seed(1)
        model = settings.build_model()
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.running_mean.uniform_(-0.2, 0.2)
                    module.running_var.uniform_(0.5, 1.5)
        return model.eval()

    return made
