from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeclf_runtime.benchmark.real_frames import event_frames, open_scaled
from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.frames import open_frames
from edgeclf_runtime.preprocessing import preprocessing_names
from edgeclf_runtime.sources.recording import RecordingSource
from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file

PLAIN = {"preprocess_kwargs": {"max_incr_per_pixel": 2}, "sensor_size": (32, 24), "frame_shape": (2, 24, 32)}


def test_they_are_what_the_runtime_itself_makes_of_the_recording(tiny, write_dat, random_events):
    path = write_dat("a.dat", random_events(4000, 95_000, seed=1, start=23_456))
    right = np.stack([frame.data for frame in open_frames(path, tiny)])
    assert len(right) == 10
    found = event_frames(tiny, path, 7)
    assert found.dtype == np.float32
    assert np.array_equal(found, right[:7])


def test_a_recording_that_is_too_short_is_cut_finer(tiny, write_dat, random_events, by_loop):
    contract = replace(tiny, **PLAIN)
    events = [(t + 5_003, x, y, p) for t, x, y, p in random_events(900, 19_000, seed=2)]
    first, last = events[0][0], events[-1][0]
    found = event_frames(contract, write_dat("a.dat", events), 16)
    duration = (last - first) // 16 + 1
    assert duration < contract.delta_t
    assert np.array_equal(found, by_loop(events, first, first + 16 * duration, duration))
    assert all(frame.any() for frame in found)


def test_coordinates_are_scaled_to_the_model_s_sensor(tiny, write_dat, random_events, by_loop):
    contract = replace(tiny, **PLAIN)
    events = random_events(600, 30_000, seed=3)
    # A sensor of 64×72, every event in the same place of the picture.
    larger = [(t, 2 * x, 3 * y, p) for t, x, y, p in events]
    found = event_frames(contract, write_dat("a.dat", larger, size=(64, 72)), 3)
    assert np.array_equal(found, by_loop(events, 0, 30_000))


def test_a_contract_that_does_not_say_its_sensor(tiny, write_dat, random_events):
    path = write_dat("a.dat", random_events(600, 30_000, seed=4))
    contract = replace(tiny, sensor_size=None, preprocess_kwargs={"max_incr_per_pixel": 2, "downsampling_factor": 1})
    found = event_frames(contract, path, 3)
    assert found.shape == (3, 2, 12, 16)
    assert np.array_equal(found, event_frames(replace(contract, sensor_size=(32, 24)), path, 3))


@pytest.mark.parametrize("recording", ["evt2_sample.raw", "evt3_sample.raw"])
@pytest.mark.parametrize("preprocess", preprocessing_names())
def test_real_recordings_and_every_preprocessing(tiny, shared_data, recording, preprocess):
    from edgeclf_runtime.preprocessing import create_preprocessing

    channels = create_preprocessing(preprocess, (160, 120), 33_000).channels
    contract = replace(
        tiny, preprocess=preprocess, preprocess_kwargs={}, sensor_size=(160, 120), delta_t=33_000,
        frame_shape=(channels, 60, 80),
    )  # fmt: skip
    found = event_frames(contract, shared_data / "recordings" / recording, 5)
    assert found.shape == (5, channels, 60, 80)
    assert np.isfinite(found).all()
    assert all(frame.any() for frame in found)
    assert not np.array_equal(found[0], found[1])


def test_tensor_files(tiny, tmp_path):
    frames = np.random.default_rng(5).integers(0, 3, (6, 2, 12, 16)).astype(np.float32) / 2
    made = TensorAttributes("histo", 10_000, (32, 24), preprocess_kwargs={"max_incr_per_pixel": 2})
    path = tmp_path / "a.h5"
    write_tensor_file(path, frames, made)
    assert np.array_equal(event_frames(tiny, path, 4), frames[:4])
    assert np.array_equal(event_frames(tiny, path, 9), frames)
    with pytest.raises(UsageError, match=r"a\.h5 does not fit the model: its frames have channels: 2, the model's 3"):
        event_frames(replace(tiny, frame_shape=(3, 12, 16)), path, 4)


def test_a_model_is_not_measured_on_zeros(tiny, tmp_path, write_dat):
    made = TensorAttributes("histo", 10_000, (32, 24), preprocess_kwargs={"max_incr_per_pixel": 2})
    write_tensor_file(tmp_path / "zeros.h5", np.zeros((6, 2, 12, 16), np.float32), made)
    for path in (tmp_path / "zeros.h5", write_dat("empty.dat", [])):
        with pytest.raises(InputFileError, match=rf"{path.name}: there is no event in its first 4 frames"):
            event_frames(tiny, path, 4)


def test_files_that_are_not_there(tiny, tmp_path):
    with pytest.raises(InputFileError, match="there is no such file"):
        event_frames(tiny, tmp_path / "gone.raw", 4)


def test_what_was_wrong_with_a_scaled_recording_is_told(tiny, write_dat, random_events):
    events = [*random_events(50, 20_000, 1), (20_000, 40, 0, 1)]
    path = write_dat("a.dat", events)
    plain, larger = open_frames(path, tiny), open_scaled(replace(tiny, sensor_size=(64, 48)), path)
    for stream in (plain, larger):
        for _ in stream:
            pass
    assert larger.source.sensor_size == (64, 48)
    assert larger.problems == plain.problems != []
    assert larger.damage == plain.damage != {}


@pytest.mark.parametrize("fails", [True, False])
def test_sources_are_closed(tiny, write_dat, random_events, monkeypatch, fails):
    closed = []
    monkeypatch.setattr(RecordingSource, "close", lambda source: closed.append(source.name))
    path = write_dat("a.dat", random_events(50, 20_000, 1))
    if fails:
        with pytest.raises(UsageError, match="makes 2 channels"):
            event_frames(replace(tiny, frame_shape=(3, 12, 16)), path, 2)
    else:
        event_frames(tiny, path, 2)
    assert closed == [str(path)]
