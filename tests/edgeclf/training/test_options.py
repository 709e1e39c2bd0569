from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from edgeclf.training import balanced_class_weights, hyperparameters_for
from edgeclf_runtime.errors import InputFileError, UsageError


def test_hyper_parameters_come_from_the_data_set(blobs: Path, hyper) -> None:
    found = hyperparameters_for(
        blobs, "ConvRNNClassifier", feature_base=2, feature_channels_out=8, num_tbins=4, lr=None
    )
    assert found == replace(hyper("ConvRNN"), batch_size=8)
    other = hyperparameters_for(blobs, "SqueezenetClassifier")
    assert (other.classes, other.batch_size) == (("background", "left", "right"), 64)
    assert hyperparameters_for(blobs, "SqueezenetClassifier", batch_size=3).batch_size == 3


def test_frames_that_end_by_their_number_of_events(tmp_path: Path, blobs: Path) -> None:
    data = Path(shutil.copytree(blobs, tmp_path / "data"))
    for path in data.rglob("*.h5"):
        with h5py.File(path, "r+") as file:
            file["data"].attrs.update({"mode": "n_events", "n_events": 500, "delta_t": 0})
            file["last_timestamps"] = 10_000 * np.arange(1, len(file["data"]) + 1)
    found = hyperparameters_for(data, "ConvRNNClassifier")
    assert (found.mode, found.n_events) == ("n_events", 500)
    assert hyperparameters_for(blobs, "ConvRNNClassifier").n_events is None


def test_what_cannot_be_is_a_sentence(tmp_path: Path, blobs: Path) -> None:
    with pytest.raises(InputFileError, match="label_map_dictionary"):
        hyperparameters_for(tmp_path, "ConvRNNClassifier")
    with pytest.raises(UsageError, match=r"2 class_weights and 3 outputs \(background, left, right\)"):
        hyperparameters_for(blobs, "ConvRNNClassifier", class_weights=(1.0, 2.0))


def test_balanced_weights_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels = [rng.choice([-1, 0, 1, 2, 3], size, p=[0.2, 0.4, 0.3, 0.05, 0.05]) for size in (50, 3, 200)]
    together = np.concatenate(labels)
    together = together[together >= 0]
    expected = compute_class_weight("balanced", classes=np.arange(4), y=together)
    assert balanced_class_weights(labels, 4) == pytest.approx(expected.tolist())


def test_an_output_without_a_frame_has_weight_1() -> None:
    labels = np.array([0, 0, 0, 2, -1])
    expected = compute_class_weight("balanced", classes=np.array([0, 2]), y=labels[:4])
    assert balanced_class_weights([labels], 4) == pytest.approx([expected[0], 1.0, expected[1], 1.0])
