from __future__ import annotations

import logging
from dataclasses import replace
from functools import reduce

import numpy as np
import pytest
import torch

from edgeclf_runtime import slicing
from edgeclf_runtime.errors import DamagedInputError, UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.frames import EventFrames, FrameMaker, StoredFrames, frames_of
from edgeclf_runtime.slicing import Slice
from edgeclf_runtime.sources import IteratorSource, open_source
from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file


def opened(path, contract, sensor_size=None, **bounds):
    return frames_of(open_source(path, sensor_size), contract, **bounds)


def shrunk(frames, height, width):
    return torch.nn.functional.interpolate(torch.from_numpy(frames), size=(height, width), mode="area").numpy()


def data_of(source):
    return np.stack([frame.data for frame in source])


@pytest.fixture
def write_tensors(tmp_path):
    def write(frames=None, name="frames.h5", **changes):
        made = TensorAttributes("histo", 10_000, (32, 24), 40_000, {"max_incr_per_pixel": 2})
        if frames is None:
            frames = np.random.default_rng(3).random((5, 2, 24, 32)).astype(np.float32)
        write_tensor_file(tmp_path / name, frames, replace(made, **changes))
        return tmp_path / name

    return write


# The frames that the model is fed, against a plain loop over the vendor's events and torch's resizing.


@pytest.mark.parametrize(
    ("name", "sensor", "delta_t", "frames"), [("evt2", (640, 480), 10_000, 6), ("evt3", (1280, 720), 1_000, 10)]
)
@pytest.mark.parametrize(
    ("preprocess", "channels", "size"), [("histo", 2, (120, 160)), ("diff", 1, (100, 150)), ("histo", 2, None)]
)
def test_frames_of_real_recordings(
    shared_data, tiny, by_loop, name, sensor, delta_t, frames, preprocess, channels, size
):
    recordings = shared_data / "recordings"
    vendor = np.load(recordings / f"{name}_sample.npz")
    events = list(zip(*(vendor[field].tolist() for field in "txyp"), strict=True))
    start = events[0][0] // delta_t * delta_t
    stop = events[-1][0] // delta_t * delta_t + delta_t
    expected = by_loop(events, start, stop, delta_t, sensor, 2, preprocess)
    size = size or (sensor[1], sensor[0])
    contract = replace(tiny, delta_t=delta_t, preprocess=preprocess, sensor_size=sensor, frame_shape=(channels, *size))

    source = opened(recordings / f"{name}_sample.raw", contract, sensor_size=(640, 480) if name == "evt2" else None)
    found = list(source)

    assert source.source.problems == []
    assert len(found) == len(expected) == frames
    assert [frame.index for frame in found] == list(range(frames))
    assert [frame.end_us for frame in found] == [start + (k + 1) * delta_t for k in range(frames)]
    assert min(expected[k].any() for k in range(frames))
    for frame, right in zip(found, expected, strict=True):
        assert frame.data.dtype == np.float32
        np.testing.assert_allclose(frame.data, shrunk(right[None], *size)[0], atol=1e-6)


def test_every_frame_of_a_recording_with_silence(write_dat, random_events, tiny, by_loop):
    events = random_events(500, 40_000, 1, start=25_000) + random_events(500, 30_000, 2, start=2_000_000)
    source = opened(write_dat("a.dat", events), tiny)
    expected = shrunk(by_loop(events, 20_000, 2_030_000), 12, 16)
    for _ in range(2):  # from the start again
        np.testing.assert_allclose(data_of(source), expected, atol=1e-6)
    assert len(expected) == 201


def test_start_and_duration(write_dat, random_events, tiny, by_loop):
    events = random_events(900, 100_000, 1)
    found = list(opened(write_dat("a.dat", events), tiny, start_ts=12_345, max_duration=45_000))
    inside = [event for event in events if 12_345 <= event[0] < 62_345]
    np.testing.assert_allclose(
        np.stack([frame.data for frame in found]), shrunk(by_loop(inside, 12_345, 62_345), 12, 16), atol=1e-6
    )
    assert [frame.end_us for frame in found] == [22_345, 32_345, 42_345, 52_345, 62_345]


def test_time_of_preparation(write_dat, random_events, tiny):
    assert all(0 < f.preparation_us < 1e6 for f in opened(write_dat("a.dat", random_events(9, 9, 1)), tiny))


def test_frame_maker_without_a_size_keeps_the_preprocessings(by_loop, random_events):
    maker = FrameMaker("histo", {"max_incr_per_pixel": 2}, 10_000, (32, 24))
    assert (maker.frame_size, maker.channels) == ((24, 32), 2)
    events = random_events(300, 10_000, 1)
    columns = (np.array(column) for column in zip(*events, strict=True))
    types = (np.int64, np.uint16, np.uint16, np.uint8)
    piece = Slice(0, 0, 10_000, Events(*(c.astype(t) for c, t in zip(columns, types, strict=True))))
    np.testing.assert_allclose(maker(piece), by_loop(events, 0, 10_000)[0], atol=1e-6)


def test_frame_maker_counts_from_the_preprocessings_size():
    arguments = {"downsampling_factor": 1}
    assert FrameMaker("histo", arguments, 10_000, (32, 24), (12, 16)).frame_size == (12, 16)
    with pytest.raises(UsageError, match=r"Frames of 12×16 .* enlarged to 24×32"):
        FrameMaker("histo", arguments, 10_000, (32, 24), (24, 32))


# Recordings that a model cannot take, and damaged ones.


@pytest.mark.parametrize("shape", [(2, 25, 16), (2, 12, 33), (2, 48, 64)])
def test_recording_that_would_have_to_be_enlarged(write_dat, tiny, shape):
    path = write_dat("a.dat", [(0, 0, 0, 0)])
    with pytest.raises(UsageError, match=rf"a\.dat does not fit the model\. Frames of 24×32 .*{shape[1]}×{shape[2]}"):
        opened(path, replace(tiny, frame_shape=shape))


def test_preprocessing_of_other_channels(write_dat, tiny):
    with pytest.raises(UsageError, match=r"a\.dat does not fit the model\. .*diff makes 1 channels.*takes 2"):
        opened(write_dat("a.dat", [(0, 0, 0, 0)]), replace(tiny, preprocess="diff"))


@pytest.mark.parametrize("changes", [{"preprocess": "no_such"}, {"preprocess_kwargs": {"no_such": 1}}, {"delta_t": 0}])
def test_preprocessing_that_is_not_known(write_dat, tiny, changes):
    with pytest.raises(UsageError, match=r"a\.dat does not fit the model\. "):
        opened(write_dat("a.dat", [(0, 0, 0, 0)]), replace(tiny, **changes))


def test_recording_that_was_cut_off(write_dat, random_events, tiny, by_loop):
    events = random_events(300, 50_000, 1)
    source = opened(write_dat("a.dat", events, cut=3), tiny)
    np.testing.assert_allclose(data_of(source), shrunk(by_loop(events[:-1], 0, 50_000), 12, 16), atol=1e-6)
    assert len(source.source.problems) == 1
    assert "a.dat was cut off" in source.source.problems[0]


# Tensor files.


def test_frames_of_a_tensor_file(write_tensors, tiny):
    frames = np.random.default_rng(3).random((5, 2, 24, 32)).astype(np.float32)
    source = opened(write_tensors(frames), tiny)
    assert isinstance(source, StoredFrames)
    for _ in range(2):  # from the start again
        found = list(source)
        assert [(frame.index, frame.end_us) for frame in found] == [(k, 40_000 + (k + 1) * 10_000) for k in range(5)]
        np.testing.assert_allclose([frame.data for frame in found], shrunk(frames, 12, 16), atol=1e-6)
    assert source.source.problems == []


def test_tensor_file_of_the_models_size(write_tensors, tiny):
    frames = np.random.default_rng(3).random((2, 2, 12, 16)).astype(np.float32)
    np.testing.assert_array_equal(data_of(opened(write_tensors(frames), tiny)), frames)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preprocess": "diff"}, "were made by diff, the model's histo"),
        ({"delta_t": 20_000}, "last, in µs, 20000, the model's 10000"),
        ({"preprocess_kwargs": {"max_incr_per_pixel": 5}}, "were made with max_incr_per_pixel 5, the model's 2"),
        (
            {"preprocess_kwargs": {"max_incr_per_pixel": np.array([2, 2])}},
            r"were made with max_incr_per_pixel \[2, 2\], the m",
        ),
    ],
)
def test_tensor_file_made_otherwise(write_tensors, tiny, changes, message):
    path = write_tensors(**changes)
    with pytest.raises(UsageError, match=rf"frames\.h5 does not fit the model: its frames {message}"):
        opened(path, tiny)


def test_tensor_file_that_does_not_state_the_arguments(write_tensors, tiny):
    assert len(list(opened(write_tensors(preprocess_kwargs={}), tiny))) == 5


def test_tensor_file_of_other_channels(write_tensors, tiny):
    path = write_tensors(np.zeros((1, 3, 24, 32), np.float32))
    with pytest.raises(UsageError, match="its frames have channels: 3, the model's 2"):
        opened(path, tiny)


def test_tensor_file_that_would_have_to_be_enlarged(write_tensors, tiny):
    path = write_tensors(np.zeros((1, 2, 11, 32), np.float32))
    with pytest.raises(UsageError, match=r"frames\.h5 does not fit the model\. Frames of 11×32 .*enlarged to 12×16"):
        opened(path, tiny)


@pytest.mark.parametrize("bounds", [{"start_ts": 0}, {"max_duration": 10}])
def test_tensor_file_is_used_whole(write_tensors, tiny, bounds):
    with pytest.raises(UsageError, match="a tensor file is used whole"):
        opened(write_tensors(), tiny, **bounds)


def test_tensor_file_that_is_damaged_on_the_way(write_tensors, tiny):
    frames = np.zeros((3, 2, 24, 32), np.float32)
    frames[2, 0, 0, 0] = np.nan
    iterator = iter(opened(write_tensors(frames), tiny))
    assert [next(iterator).index for _ in range(2)] == [0, 1]
    with pytest.raises(DamagedInputError, match="frame 2"):
        next(iterator)


# Sensors of another form than the one that the model was trained for.


@pytest.mark.parametrize(
    ("size", "trained", "warned"),
    [
        ((32, 24), (640, 480), False),
        ((64, 24), (640, 480), True),
        ((32, 24), (1280, 720), True),
        ((32, 24), None, False),  # then the frames' own form counts
        ((32, 32), None, True),
    ],
)
def test_warning_where_shapes_are_distorted(write_dat, tiny, caplog, size, trained, warned):
    caplog.set_level(logging.INFO, "edgeclf_runtime")
    opened(write_dat("a.dat", [(0, 0, 0, 0)], size=size), replace(tiny, sensor_size=trained))
    assert [record.levelname for record in caplog.records] == (["WARNING"] if warned else [])
    if warned:
        assert f"a sensor of {size[0]}×{size[1]} (width × height) is squeezed into frames of 16×12" in caplog.text


# Any source of events does, one of the user's own too.


def test_frames_of_a_python_iterator(write_dat, random_events, tiny):
    events = random_events(50, 30_000, 4)
    columns = tuple(np.array(column) for column in zip(*events, strict=True))
    stream = frames_of(IteratorSource([columns], (32, 24)), tiny)
    assert isinstance(stream, EventFrames)
    np.testing.assert_array_equal(data_of(stream), data_of(opened(write_dat("a.dat", events), tiny)))
    with pytest.raises(TypeError, match="not a str"):
        frames_of("a.dat", tiny)


def test_damage_of_the_source(random_events, tiny):
    columns = tuple(
        np.array(column) for column in zip(*[*random_events(50, 30_000, 4), (29_999, 32, 0, 1)], strict=True)
    )
    stream = frames_of(IteratorSource([columns], (32, 24)), tiny)
    assert stream.damage == {}
    assert len(list(stream)) == 3
    assert stream.damage == {"events outside the sensor": 1}
    assert stream.problems == stream.source.problems
    assert "outside the sensor" in stream.problems[0]


def test_events_that_found_no_room_in_a_frame(random_events, tiny, monkeypatch):
    monkeypatch.setattr(slicing, "MOST_EVENTS", 15)
    events = random_events(50, 30_000, 4)
    columns = tuple(np.array(column) for column in zip(*events, strict=True))
    stream = frames_of(IteratorSource([columns], (32, 24), name="flood"), tiny)
    assert stream.damage == {}
    assert len(list(stream)) == 3
    beyond = sum(max(0, sum(t // 10_000 == k for t, *_ in events) - 15) for k in range(3))
    assert beyond > 0
    assert stream.damage == {"events beyond what a frame takes": beyond}
    assert len(stream.problems) == 1
    assert f"{beyond} event(s) of flood were left out, as a frame takes" in stream.problems[0]


def test_events_that_found_no_room_in_a_merged_frame(random_events, tiny, monkeypatch):
    monkeypatch.setattr(slicing, "MOST_EVENTS", 15)
    columns = tuple(np.array(column) for column in zip(*random_events(50, 30_000, 4), strict=True))
    stream = frames_of(IteratorSource([columns], (32, 24), name="flood"), tiny)
    stream.make(reduce(stream.merge, stream.pieces()))
    assert stream.damage == {"events beyond what a frame takes": 50 - 15}
