from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from edgeclf.data.conversion import FrameRecipe
from edgeclf.data.labels import write_label_map
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


@pytest.fixture
def recordings_only(tmp_path: Path) -> Path:
    """A data set of `_td.dat` recordings of a sensor of 64 columns and 48 rows, with 40 ms of random events each."""
    rng = np.random.default_rng(0)
    root = tmp_path / "recordings"
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        t = np.sort(rng.integers(0, 40_000, 3000)).astype("<u4")
        x, y, p = rng.integers(0, 64, t.size), rng.integers(0, 48, t.size), rng.integers(0, 2, t.size)
        words = np.stack([t, (x | y << 14 | p << 28).astype("<u4")], axis=1)
        header = b"% Width 64\n% Height 48\n% Version 2\n" + bytes([0, 8])
        (root / split / "a_td.dat").write_bytes(header + words.tobytes())
        np.savez(root / split / "a_labels.npz", ts=np.arange(0, 40_000, 10_000), labels=np.array([0, 1, 0, 1]))
    write_label_map(root, ["left", "right"])
    return root


def test_how_frames_of_recordings_are_made_can_be_chosen(recordings_only: Path) -> None:
    found = hyperparameters_for(recordings_only, "ConvRNNClassifier")
    assert (found.preprocess, found.delta_t, found.preprocess_channels) == ("histo", 10_000, 2)
    assert (found.height, found.width, found.sensor_size) == (48, 64, (64, 48))
    chosen = {"preprocess": "diff", "delta_t": 20_000, "preprocess_kwargs": {"max_incr_per_pixel": 3.0}}
    found = hyperparameters_for(recordings_only, "ConvRNNClassifier", height=24, width=32, **chosen)
    assert {name: getattr(found, name) for name in chosen} == chosen
    assert (found.height, found.width, found.preprocess_channels) == (24, 32, 1)
    assert found.build_model().channels == 1
    recipe = FrameRecipe("diff", {"max_incr_per_pixel": 3.0}, 20_000)
    again = hyperparameters_for(recordings_only, "ConvRNNClassifier", recipe, height=24, width=32)
    assert again == found
    with pytest.raises(UsageError, match="timesurface does not take max_incr_per_pixel"):
        hyperparameters_for(recordings_only, "ConvRNNClassifier", **chosen | {"preprocess": "timesurface"})


def test_frames_that_are_made_already_cannot_be_made_in_another_way(tmp_path: Path, blobs: Path) -> None:
    as_made = {"preprocess": "histo", "delta_t": 10_000, "preprocess_kwargs": {"max_incr_per_pixel": 5}}
    expected = hyperparameters_for(blobs, "ConvRNNClassifier")
    other = FrameRecipe("diff", {}, 30_000)  # which is of recordings, and here are none
    assert hyperparameters_for(blobs, "ConvRNNClassifier", other, **as_made) == expected
    for change, says in (
        ({"preprocess": "diff"}, "preprocess histo, and preprocess diff is chosen"),
        ({"delta_t": 5000}, "delta_t 10000, and delta_t 5000 is chosen"),
        (
            {"preprocess_kwargs": {"max_incr_per_pixel": 2.0}},
            r"max_incr_per_pixel 5\.0, and max_incr_per_pixel 2\.0 is chosen",
        ),
    ):
        with pytest.raises(UsageError, match=f"its frames were made with {says}; leave that out"):
            hyperparameters_for(blobs, "ConvRNNClassifier", **as_made | change)
    data = Path(shutil.copytree(blobs, tmp_path / "data"))
    for path in data.rglob("*.h5"):
        with h5py.File(path, "r+") as file:
            file["data"].attrs.update({"mode": "n_events", "n_events": 500, "delta_t": 0})
            file["last_timestamps"] = 10_000 * np.arange(1, len(file["data"]) + 1)
    with pytest.raises(UsageError, match=r"number of events.*\(--delta-t\) has no meaning"):
        hyperparameters_for(data, "ConvRNNClassifier", delta_t=10_000)


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
