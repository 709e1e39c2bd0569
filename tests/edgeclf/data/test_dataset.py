from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from edgeclf.data.dataset import describe, recordings
from edgeclf.data.labels import write_label_map
from edgeclf_runtime.errors import InputFileError, UsageError

OUTPUTS = ("background", "left", "right")


@pytest.fixture
def folder(tmp_path: Path, blobs: Path) -> Path:
    """A copy of `blobs` to damage."""
    return Path(shutil.copytree(blobs, tmp_path / "data set é"))


def opened(folder: Path, outputs=OUTPUTS, delta_t=10_000, preprocess="histo", arguments=None, label_delta_t=None):
    return recordings(folder, "test", outputs, delta_t, preprocess, arguments, label_delta_t)


def test_recordings_come_sorted_with_their_labels(folder: Path) -> None:
    found = opened(folder, arguments={"max_incr_per_pixel": 5, "of_another_version": 1})
    assert [recording.path.name for recording in found] == ["test_0.h5", "test_1.h5", "test_2.h5"]
    for i, recording in enumerate(found):
        with h5py.File(recording.path) as file:
            frames = file["data"].shape[0]
        assert recording.labels.tolist() == [0, 0] + [1 + i % 2] * (frames - 2)
        assert len(recording) == frames
        assert recording.frame_shape == (2, 48, 48)
        assert recording.attributes.delta_t == 10_000


def test_outputs_in_another_order_and_without_background(folder: Path) -> None:
    labels = opened(folder, outputs=("right", "left"))[0].labels
    assert labels.tolist() == [-1, -1] + [1] * (len(labels) - 2)


def test_only_frames_at_the_labelling_interval_count(folder: Path) -> None:
    labels = opened(folder, label_delta_t=30_000)[0].labels
    assert [k for k, label in enumerate(labels) if label >= 0] == list(range(0, len(labels), 3))


def test_labels_count_from_the_start_of_frame_0(tmp_path: Path, add_recording) -> None:
    add_recording(tmp_path / "test", "a", np.zeros((3, 2, 8, 8), np.float32), [None, 0, None], start_ts=27_777)
    write_label_map(tmp_path, ["left"])
    assert opened(tmp_path)[0].labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"delta_t": 20_000}, "last, in µs, 10000, the model's 20000"),
        ({"preprocess": "diff"}, "made by histo, the model's diff"),
        ({"arguments": {"max_incr_per_pixel": 2}}, "max_incr_per_pixel 5.0, the model's 2"),
        ({"outputs": ("background", "up")}, "none of the model's"),
    ],
)
def test_a_data_set_for_another_model_is_refused(folder: Path, arguments: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        opened(folder, **arguments)
    assert "data set é" in str(caught.value)


def test_what_is_missing_is_named(folder: Path) -> None:
    (folder / "test" / "test_1_bbox.npy").unlink()
    with pytest.raises(InputFileError, match=r"test_1\.h5: there is no label file"):
        opened(folder)
    for path in (folder / "test").iterdir():
        path.unlink()
    with pytest.raises(InputFileError, match=r"test: there is no \.h5 file in it"):
        opened(folder)
    (folder / "test").rmdir()
    with pytest.raises(InputFileError, match="has no folder test"):
        opened(folder)
    (folder / "label_map_dictionary.json").unlink()
    with pytest.raises(InputFileError, match=r"has no label_map_dictionary\.json"):
        opened(folder)


def test_what_is_damaged_is_named(folder: Path) -> None:
    whole = (folder / "test" / "test_2.h5").read_bytes()
    (folder / "test" / "test_2.h5").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(InputFileError, match=r"test_2\.h5: this is not an HDF5 file, or it is damaged"):
        opened(folder)
    (folder / "test" / "test_1_bbox.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputFileError, match=r"test_1_bbox\.npy: this label file cannot be read"):
        opened(folder)


def test_a_label_id_outside_the_map_names_its_file(folder: Path) -> None:
    write_label_map(folder, ["left"])
    with pytest.raises(InputFileError, match=r"test_1_bbox\.npy: The label ids 1 are not in"):
        opened(folder)


def test_a_file_without_frames_is_refused(folder: Path) -> None:
    with h5py.File(folder / "test" / "test_0.h5", "a") as file:
        file["data"].resize(0, axis=0)
    with pytest.raises(InputFileError, match=r"test_0\.h5: it holds no frame"):
        opened(folder)


def test_describe_reads_the_first_split_that_is_there(folder: Path) -> None:
    shutil.rmtree(folder / "train")
    found = describe(folder)
    assert (found.classes, found.frame_shape) == (("left", "right"), (2, 48, 48))
    assert (found.attributes.preprocess, found.attributes.sensor_size) == ("histo", (48, 48))
    assert found.attributes.preprocess_kwargs == {"max_incr_per_pixel": 5.0}
    shutil.rmtree(folder / "val")
    shutil.rmtree(folder / "test")
    with pytest.raises(InputFileError, match="none of the folders train, val and test"):
        describe(folder)
