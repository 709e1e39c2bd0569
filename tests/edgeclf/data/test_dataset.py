from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from edgeclf.data.conversion import FrameRecipe, convert_events
from edgeclf.data.dataset import describe, recordings
from edgeclf.data.labels import LabelEvents, write_box_labels, write_label_map
from edgeclf.data.raw_writer import write_recording
from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.events import Events, open_recording
from edgeclf_runtime.tensor_file import TensorAttributes, TensorFile, write_tensor_file

OUTPUTS = ("background", "left", "right")


@pytest.fixture
def folder(tmp_path: Path, blobs: Path) -> Path:
    """A copy of `blobs` to damage."""
    return Path(shutil.copytree(blobs, tmp_path / "data set é"))


def opened(
    folder: Path, outputs=OUTPUTS, delta_t=10_000, preprocess="histo", arguments=None, label_delta_t=None, **others
):
    return recordings(folder, "test", outputs, delta_t, preprocess, arguments, label_delta_t, **others)


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
        assert recording.ends_us.tolist() == [10_000 * (k + 1) for k in range(frames)]
        assert [recording.start_us(k) for k in (0, 3)] == [0, 30_000]


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
    with pytest.raises(InputFileError, match=r"test: there is no \.h5 file in it \(nor a _td\.dat"):
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


# --- frames of a number of events


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    """A recording of four frames of 100 events each."""
    attributes = TensorAttributes("histo", 0, (6, 4), 50, {"max_incr_per_pixel": 5.0}, mode="n_events", n_events=100)
    data = np.random.default_rng(0).random((4, 2, 4, 6), np.float32)
    write_tensor_file(tmp_path / "test" / "a.h5", list(data), attributes, [199, 220, 900, 950])
    write_box_labels(tmp_path / "test" / "a_bbox.npy", LabelEvents(np.array([60, 199, 220, 221]), ONE_EACH), (4, 6))
    write_label_map(tmp_path, ["left", "right"])
    return tmp_path


ONE_EACH = np.array([0, 1, 0, 1])


def test_labels_of_counted_frames_go_by_their_ends(counted: Path) -> None:
    (recording,) = opened(counted, mode="n_events", n_events=100, delta_t=10_000)
    assert recording.ends_us.tolist() == [200, 221, 901, 951]
    assert recording.labels.tolist() == [2, 1, 2, 0]
    assert [recording.start_us(k) for k in range(4)] == [50, 200, 221, 901]


def test_counted_frames_are_for_models_of_as_many_events(counted: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="end by n_events, the model's delta_t"):
        opened(counted)
    with pytest.raises(UsageError, match="hold, in events, 100, the model's 50"):
        opened(counted, mode="n_events", n_events=50)
    with pytest.raises(UsageError, match="end by delta_t, the model's n_events"):
        opened(folder, mode="n_events", n_events=100)


# --- recordings of events


def blob_recording(path: Path, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(25_000, 95_000, 4000))
    x, y = rng.integers(0, 48, (2, 4000)).astype(np.uint16)
    write_recording(path, [Events(t, x, y, rng.integers(0, 2, 4000, np.uint8))], (48, 48), "DAT")


@pytest.fixture
def events_only(tmp_path: Path) -> Path:
    """A data set of one `_td.dat` recording."""
    blob_recording(tmp_path / "test" / "a_td.dat")
    labels = LabelEvents(np.array([30_000, 59_999]), np.array([0, 1]))
    write_box_labels(tmp_path / "test" / "a_bbox.npy", labels, (48, 48))
    write_label_map(tmp_path, ["left", "right"])
    return tmp_path


def test_a_dat_recording_stands_in_for_a_missing_tensor_file(events_only: Path) -> None:
    (recording,) = opened(events_only, arguments={"max_incr_per_pixel": 2})
    assert recording.labels.tolist() == [0, 1, 0, 2, 0, 0, 0, 0]
    assert recording.ends_us.tolist() == [30_000 + 10_000 * k for k in range(8)]
    assert (recording.start_us(0), recording.frame_shape) == (20_000, (2, 48, 48))
    target = events_only / "test" / "a.h5"
    convert_events(open_recording(recording.path), (48, 48), target, FrameRecipe("histo", {"max_incr_per_pixel": 2}))
    with TensorFile(target) as file:
        np.testing.assert_array_equal(recording.open().read(2, 7), file.read(2, 7))
    (converted,) = opened(events_only, arguments={"max_incr_per_pixel": 2})
    assert converted.path == target
    assert converted.labels.tolist() == recording.labels.tolist()
    assert converted.ends_us.tolist() == recording.ends_us.tolist()


def test_a_tensor_file_of_the_recordings_whole_name_counts_too(events_only: Path) -> None:
    (events_only / "test" / "a_bbox.npy").rename(events_only / "test" / "a_td_bbox.npy")
    assert [one.path.name for one in opened(events_only)] == ["a_td.dat"]
    target = events_only / "test" / "a_td.h5"
    convert_events(open_recording(events_only / "test" / "a_td.dat"), (48, 48), target, FrameRecipe())
    assert [one.path.name for one in opened(events_only)] == ["a_td.h5"]


def test_a_dat_recording_has_no_frames_of_a_number_of_events(events_only: Path) -> None:
    with pytest.raises(UsageError, match=r"a_td\.dat: .*`edgeclf dataset events --mode n_events`"):
        opened(events_only, mode="n_events", n_events=100)


def test_describe_makes_frames_of_a_dat_recording_as_asked(events_only: Path) -> None:
    found = describe(events_only)
    assert (found.attributes.preprocess, found.attributes.delta_t, found.frame_shape) == ("histo", 10_000, (2, 48, 48))
    recipe = FrameRecipe("diff", {"max_incr_per_pixel": 2}, 20_000, (24, 30))
    found = describe(events_only, recipe)
    assert (found.attributes.preprocess, found.attributes.delta_t, found.frame_shape) == ("diff", 20_000, (1, 24, 30))
    assert found.attributes.sensor_size == (48, 48)
    assert found.attributes.preprocess_kwargs == {"max_incr_per_pixel": 2}


# --- labels that do not fit


def test_labels_of_another_recording_are_refused_and_some_outside_are_said(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened(folder)
    assert not caplog.records
    path = folder / "test" / "test_1_bbox.npy"
    write_box_labels(path, LabelEvents(np.array([0, 20_000, 60_000]), np.array([0, 1, 1])), (48, 48))
    labels = opened(folder)[1].labels
    assert labels.tolist() == [1, 0, 2, 0, 0, 0]
    assert "1 of 3 label files also hold labels for times outside of their recording, such as" in caplog.text
    assert "test_1_bbox.npy" in caplog.text
    write_box_labels(path, LabelEvents(np.array([60_000, 90_000]), np.array([0, 1])), (48, 48))
    with pytest.raises(InputFileError, match=r"test_1_bbox\.npy: All its labels, from 60000 to 90000 µs, lie outside"):
        opened(folder)


def test_interpolation_and_255_reach_the_frames(folder: Path) -> None:
    (folder / "test" / "test_1_bbox.npy").unlink()
    arrays = {"ts": [0, 30_000, 40_000], "labels": [1, 1, 255]}
    np.savez(folder / "test" / "test_1_labels.npz", **arrays)
    assert opened(folder)[1].labels.tolist() == [2, 0, 0, 2, -1, 0]
    assert opened(folder, interpolate_labels=True)[1].labels.tolist() == [2, 2, 2, 2, -1, 0]
