from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from edgeclf.data.conversion import FrameRecipe, convert_events
from edgeclf.data.dat_frames import DatFrames, index_dat
from edgeclf.data.raw_writer import write_recording
from edgeclf_runtime.errors import DamagedInputError, InputFileError, UsageError
from edgeclf_runtime.events import Events, open_recording
from edgeclf_runtime.tensor_file import TensorFile

SENSOR = (20, 12)


def random_events(t: np.ndarray, seed: int = 0, beyond: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, SENSOR[0] + beyond, t.size), rng.integers(0, SENSOR[1] + beyond, t.size)
    return Events(t.astype(np.int64), x.astype(np.uint16), y.astype(np.uint16), rng.integers(0, 2, t.size, np.uint8))


def write_dat(path: Path, events: Events, header: str = "% Width 20\n% Height 12\n% Version 2\n") -> Path:
    """Writes words as the format's description has them; the project's own writer refuses what is out of order."""
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = events.t % (1 << 32)
    words[:, 1] = events.x | events.y.astype(np.uint32) << 14 | events.p.astype(np.uint32) << 28
    path.write_bytes(f"% Data file containing CD events.\n{header}% end\n".encode() + b"\x0c\x08" + words.tobytes())
    return path


def converted(path: Path, preprocess: str = "histo", delta_t: int = 1000, **arguments: object) -> np.ndarray:
    """The frames of the tensor file that `edgeclf dataset events` makes of it."""
    target = path.with_suffix(".h5")
    recipe = FrameRecipe(preprocess, arguments, delta_t)
    convert_events(open_recording(path), SENSOR, target, recipe)
    with TensorFile(target) as file:
        index = index_dat(path, delta_t)
        assert index.start_us == file.attributes.start_ts
        found = DatFrames(index, preprocess, arguments)
        assert found.shape == file.shape
        np.testing.assert_array_equal(found.frame_ends(), file.frame_ends())
        return file.read(0, len(file))


def check_equal(frames: DatFrames, expected: np.ndarray, seed: int = 0) -> None:
    np.testing.assert_array_equal(frames.read(0, len(expected) + 5), expected)
    rng = np.random.default_rng(seed)
    for _ in range(30):
        start, stop = sorted(rng.integers(0, len(expected) + 1, 2).tolist())
        np.testing.assert_array_equal(frames.read(start, stop), expected[start:stop])


@pytest.mark.parametrize("preprocess", ["histo", "diff"])
@pytest.mark.parametrize("delta_t", [700, 1000, 100_000_000])
def test_equals_the_converted_file_at_any_place(tmp_path: Path, preprocess: str, delta_t: int) -> None:
    t = np.sort(np.random.default_rng(1).integers(12_345, 60_000, 5000))
    t[t > 40_000] += 5_500  # frames without events
    path = tmp_path / "a_td.dat"
    write_recording(path, [random_events(t)], SENSOR, "DAT")
    expected = converted(path, preprocess, delta_t, max_incr_per_pixel=2)
    frames = DatFrames(index_dat(path, delta_t), preprocess, {"max_incr_per_pixel": 2})
    check_equal(frames, expected)
    if delta_t == 1000:
        assert not expected[30].any()


@pytest.mark.parametrize("seed", range(6))
def test_blocks_late_events_and_roll_overs_equal_the_converted_file(tmp_path: Path, seed: int) -> None:
    """Several blocks of a decoder, time that jitters and rolls over, and events beside the sensor."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 40_000, 200_000)) + (0 if seed % 2 else (1 << 32) - 21_000)
    jitter = (0, 30, 900, 2500)[seed % 4]
    t = np.maximum(t - rng.integers(0, jitter + 1, t.size) * (rng.random(t.size) < 0.01), 0)
    beyond = 3 * (seed % 3)
    path = write_dat(tmp_path / "a_td.dat", random_events(t, seed, beyond))
    expected = converted(path)
    if seed % 2 == 0:
        assert len(expected) in (40, 41, 42, 43)
    check_equal(DatFrames(index_dat(path, 1000), "histo", {}), expected, seed)


def test_a_block_beside_the_sensor_holds_nothing(tmp_path: Path) -> None:
    t = np.arange(200_000) // 10
    events = random_events(t)
    events.x[60_000:140_000] = 5000
    path = write_dat(tmp_path / "a_td.dat", events)
    check_equal(DatFrames(index_dat(path, 1000), "histo", {}), converted(path))


def test_the_real_recording_equals_its_conversion(tmp_path: Path, shared_data: Path) -> None:
    recorded = open_recording(shared_data / "recordings" / "evt3_sample.raw")
    path = tmp_path / "a_td.dat"
    write_recording(path, recorded, recorded.sensor_size, "DAT")
    target = tmp_path / "a.h5"
    convert_events(recorded, recorded.sensor_size, target, FrameRecipe("histo", {"downsampling_factor": 3}, 5000))
    with TensorFile(target) as file:
        check_equal(DatFrames(index_dat(path, 5000), "histo", {"downsampling_factor": 3}), file.read(0, len(file)))


def test_it_can_be_handed_to_another_process(tmp_path: Path) -> None:
    path = write_dat(tmp_path / "a_td.dat", random_events(np.arange(5000)))
    index = index_dat(path, 1000)
    again = pickle.loads(pickle.dumps(index))
    np.testing.assert_array_equal(DatFrames(again, "histo", {}).read(1, 3), DatFrames(index, "histo", {}).read(1, 3))


def test_what_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    t = np.array([100, 200, 150, 300])
    events = random_events(t)
    events.x[3] = 20
    path = write_dat(tmp_path / "a_td.dat", events)
    path.write_bytes(path.read_bytes() + b"123")
    index = index_dat(path, 1000)
    assert index.cuts.tolist() == [0, 3]
    recording = open_recording(path)
    assert sum(map(len, recording)) == 3
    assert [record.message for record in caplog.records] == recording.problems
    assert len(recording.problems) == 3


def test_what_is_no_dat_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"empty_td\.dat: this recording holds no events"):
        index_dat(write_dat(tmp_path / "empty_td.dat", random_events(np.empty(0))), 1000)
    with pytest.raises(InputFileError, match=r"size_td\.dat does not tell the sensor's size"):
        index_dat(write_dat(tmp_path / "size_td.dat", random_events(np.arange(3)), "% Version 2\n"), 1000)
    raw = tmp_path / "raw_td.dat"
    write_recording(raw, [random_events(np.arange(30))], SENSOR, "EVT3")
    with pytest.raises(InputFileError, match="it holds EVT3, and only a DAT file can stand in"):
        index_dat(raw, 1000)
    with pytest.raises(UsageError, match="no preprocessing called nothing"):
        DatFrames(index_dat(write_dat(tmp_path / "a_td.dat", random_events(np.arange(3))), 1000), "nothing", {})


def test_a_file_that_changes_or_goes_away_is_a_sentence(tmp_path: Path) -> None:
    path = write_dat(tmp_path / "a_td.dat", random_events(np.arange(9000)))
    frames = DatFrames(index_dat(path, 1000), "histo", {})
    path.write_bytes(path.read_bytes()[:-80])
    with pytest.raises(DamagedInputError, match=r"a_td\.dat was changed while it was in use"):
        frames.read(0, 2)
    path.unlink()
    with pytest.raises(DamagedInputError, match=r"a_td\.dat cannot be read on \(No such file"):
        frames.read(0, 2)
