"""Small checkpoints of all four models, batch normalisation with statistics as after training, and a small data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgeclf.data.labels import LabelEvents, write_box_labels, write_label_map
from edgeclf.hyperparameters import MODEL_NAMES, HyperParameters, ModelName, model_classes
from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file

SIDE = 48
CLASSES = ("left", "right")
# Every model, the feed-forward ones with memory and without: their default is one frame at a time.
CASES: dict[str, tuple[ModelName, int]] = {
    "ConvRNNClassifier": ("ConvRNNClassifier", 1),
    "LeNetClassifier": ("LeNetClassifier", 1),
    "Mobilenetv2Classifier": ("Mobilenetv2Classifier", 3),
    "SqueezenetClassifier": ("SqueezenetClassifier", 3),
    "Mobilenetv2WithoutMemory": ("Mobilenetv2Classifier", 1),
    "SqueezenetWithoutMemory": ("SqueezenetClassifier", 1),
}


@pytest.fixture(scope="module", params=CASES)
def case_name(request: pytest.FixtureRequest) -> str:
    """The name of each entry of `checkpoints`, one after the other."""
    return str(request.param)


def small_hyperparameters(model: ModelName, num_ev_reps: int) -> HyperParameters:
    return HyperParameters(
        models=model,
        classes=model_classes(model, CLASSES),
        height=SIDE,
        width=SIDE,
        delta_t=10_000,
        preprocess="histo",
        preprocess_kwargs={"max_incr_per_pixel": 5.0},
        event_input_width=SIDE,
        event_input_height=SIDE,
        feature_base=4,
        feature_channels_out=8,
        width_mul=0.25,
        num_ev_reps=num_ev_reps,
    )


def settle_statistics(network: nn.Module) -> None:
    """Gives the batch normalisations of a network statistics and weights as after training."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.05, 0.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)


def write_checkpoint(path: Path, model: ModelName, num_ev_reps: int) -> Path:
    """Writes a checkpoint whose weights and statistics are large enough that an error in any of them shows."""
    torch.manual_seed(MODEL_NAMES.index(model))
    hyper = small_hyperparameters(model, num_ev_reps)
    network = hyper.build_model()
    settle_statistics(network)
    weights = {f"net.{name}": value for name, value in network.state_dict().items()}
    torch.save({"hyper_parameters": hyper.to_dict(), "state_dict": weights}, path)
    return path


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {name: write_checkpoint(folder / f"{name}.ckpt", *case) for name, case in CASES.items()}


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five recordings of a bar that moves left or right between pauses, of different lengths."""
    root = tmp_path_factory.mktemp("data set")
    write_label_map(root, CLASSES)
    rng = np.random.default_rng(0)
    attributes = TensorAttributes("histo", 10_000, (SIDE, SIDE), 0, {"max_incr_per_pixel": 5.0})
    for number in range(5):
        frames, shown = [], []
        for k in range(13 + number):
            frame = (rng.random((2, SIDE, SIDE)) < 0.01).astype(np.float32) * 0.2
            direction = number % 2
            if 3 <= k < 11:
                column = (4 * k if direction else SIDE - 4 * k) % SIDE
                frame[direction, 8:40, column] = 1.0
                shown.append((k * 10_000, direction))
            frames.append(frame)
        path = root / "test" / f"bar_{number}.h5"
        write_tensor_file(path, frames, attributes)
        t, class_id = np.array(shown).T
        write_box_labels(path.with_name(f"bar_{number}_bbox.npy"), LabelEvents(t, class_id), (SIDE, SIDE))
    return root
