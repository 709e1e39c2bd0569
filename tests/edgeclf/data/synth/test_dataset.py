from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from edgeclf.data.conversion import FrameRecipe, convert_events
from edgeclf.data.dataset import describe
from edgeclf.data.labels import read_labels
from edgeclf.data.synth.dataset import SENSOR_SIZE, SplitSizes, labels_of, synthesise
from edgeclf.data.synth.recording import GestureRecording, Segment, simulate_recording
from edgeclf_runtime.events import Events, open_recording
from edgeclf_runtime.tensor_file import TensorFile

RECIPE = FrameRecipe("histo", {"max_incr_per_pixel": 4.0}, 20_000, (40, 40))


def make(out: Path, workers: int, seed: int = 3, sizes: SplitSizes = SplitSizes(1, 0, 1)) -> list[str]:  # noqa: B008
    return list(synthesise(out, sizes, RECIPE, seed, workers))


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".h5")
    found = {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    for path in sorted(root.rglob("*.h5")):  # of HDF5 only what it holds is promised
        with TensorFile(path) as file:
            content = file.read(0, len(file)).tobytes() + repr(file.attributes).encode()
        found[str(path.relative_to(root))] = hashlib.sha256(content).hexdigest()
    return found


@pytest.mark.slow
def test_the_data_set_is_the_same_whatever_the_number_of_workers(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "geste é"
    assert make(two, workers=2) == ["gestures_0000", "gestures_0001"]
    make(one, workers=1)
    assert digests(one) == digests(two)
    assert set(digests(two)) == {
        "label_map_dictionary.json",
        "raw/train/gestures_0000.raw", "train/gestures_0000.h5", "train/gestures_0000_bbox.npy",
        "raw/test/gestures_0001.raw", "test/gestures_0001.h5", "test/gestures_0001_bbox.npy",
    }  # fmt: skip
    names = json.loads((two / "label_map_dictionary.json").read_text())
    assert sorted(names.values()) == ["paper", "rock", "scissors"]
    found = describe(two)
    assert (found.frame_shape, found.attributes.sensor_size) == ((2, 40, 40), (320, 320))
    assert_files_agree(two, "test", 1, tmp_path)


def assert_files_agree(made: Path, split: str, i: int, scratch: Path) -> None:
    """The RAW file converted again gives the frames, and the labels say when the simulator showed what."""
    raw = open_recording(made / "raw" / split / f"gestures_{i:04}.raw")
    assert (raw.format, raw.sensor_size) == ("EVT3", SENSOR_SIZE)
    convert_events(raw, raw.sensor_size, scratch / "again.h5", RECIPE, start_ts=0)
    assert raw.problems == []
    with TensorFile(made / split / f"gestures_{i:04}.h5") as file, TensorFile(scratch / "again.h5") as again:
        stored = file.read(0, len(file))
        np.testing.assert_array_equal(stored, again.read(0, len(again)))
        assert file.attributes.start_ts == 0
    simulated = simulate_recording(np.random.SeedSequence(3).spawn(2)[i])
    shown = {}
    for k in range(len(stored)):
        for segment in simulated.segments:
            if segment.start_us <= k * 20_000 + 10_000 < segment.end_us:
                shown[k * 20_000] = segment.class_id
    labels = read_labels(made / split / f"gestures_{i:04}_bbox.npy")
    assert dict(zip(labels.t.tolist(), labels.class_id.tolist(), strict=True)) == shown
    assert len(labels.t) == len(shown) > 60  # three gestures of 600 ms or more
    busy = stored.sum((1, 2, 3))
    is_gesture = np.isin(np.arange(len(stored)) * 20_000, list(shown))
    assert busy[is_gesture].mean() > 3 * busy[~is_gesture].mean()


def test_a_frame_is_labelled_where_a_gesture_is_shown_in_its_middle() -> None:
    recording = GestureRecording(Events.empty(), 1000, (Segment(150, 349, 2), Segment(349, 650, 0)))
    labels = labels_of(recording, 8, 100)
    assert labels.t.tolist() == [100, 200, 300, 400, 500]  # the middle of the frame at 600 is the first µs after
    assert labels.class_id.tolist() == [2, 2, 0, 0, 0]


def test_a_recording_without_gestures_has_no_labels() -> None:
    labels = labels_of(GestureRecording(Events.empty(), 1000, ()), 8, 100)
    assert (labels.t.size, labels.class_id.size) == (0, 0)
