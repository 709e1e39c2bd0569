"""`histo` and `diff` against a loop that adds the events one at a time."""

from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.preprocessing import create_preprocessing
from edgeclf_runtime.slicing import slices

RECORDINGS = [("evt2_sample", (640, 480)), ("evt3_sample", (1280, 720))]


def make_events(x, y, p):
    n = len(x)
    return Events(
        np.arange(n, dtype=np.int64), np.asarray(x, np.uint16), np.asarray(y, np.uint16), np.asarray(p, np.uint8)
    )


def one_by_one(name, events, sensor_size, max_incr_per_pixel=5.0, downsampling_factor=0):
    """The definition: float64, a loop over the events, clipping after each."""
    width, height = (size >> downsampling_factor for size in sensor_size)
    step = 1 / (max_incr_per_pixel * 4**downsampling_factor)
    frame = [[[0.0] * width for _ in range(height)] for _ in range(2)]
    for x, y, p in zip(events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True):
        x, y = x >> downsampling_factor, y >> downsampling_factor
        if x < width and y < height:
            if name == "histo":
                frame[p][y][x] = min(frame[p][y][x] + step, 1.0)
            else:
                frame[0][y][x] = min(max(frame[0][y][x] + (step if p else -step), -1.0), 1.0)
    return np.array(frame if name == "histo" else frame[:1])


def assert_equals_one_by_one(name, events, sensor_size, **arguments):
    made = create_preprocessing(name, sensor_size=sensor_size, delta_t=10_000, **arguments)
    frame = made(events, 0)
    expected = one_by_one(name, events, sensor_size, **arguments)
    assert frame.dtype == np.float32
    assert frame.flags.c_contiguous
    assert frame.shape == expected.shape == (made.channels, *made.frame_size(sensor_size[1], sensor_size[0]))
    np.testing.assert_allclose(frame, expected, rtol=0, atol=1e-6)
    return frame


@pytest.fixture(params=["histo", "diff"])
def name(request):
    return request.param


@pytest.mark.parametrize("downsampling_factor", [0, 1, 2])
@pytest.mark.parametrize("max_incr_per_pixel", [5.0, 1, 2.5, 0.4, 17])
# From frames nearly empty, whose pixels are looked up singly, to frames where most pixels saturate; and a sensor that
# is no multiple of 4.
@pytest.mark.parametrize(
    ("events", "sensor_size"), [(40, (37, 22)), (700, (37, 22)), (20_000, (34, 34)), (9000, (16, 8))]
)
def test_random_events(name, events, sensor_size, max_incr_per_pixel, downsampling_factor):
    rng = np.random.default_rng([events, downsampling_factor])
    # Each pixel prefers one polarity, or few would ever saturate.
    x, y = rng.integers(0, sensor_size[0], events), rng.integers(0, sensor_size[1], events)
    p = rng.random(events) < rng.random((sensor_size[1], sensor_size[0]))[y, x]
    assert_equals_one_by_one(
        name,
        make_events(x, y, p),
        sensor_size,
        max_incr_per_pixel=max_incr_per_pixel,
        downsampling_factor=downsampling_factor,
    )


@pytest.mark.parametrize("downsampling_factor", [0, 1, 2])
@pytest.mark.parametrize("positive", [0.5, 0.52, 0.9, 1.0])
def test_hot_pixels_among_calm_ones(name, positive, downsampling_factor):
    rng = np.random.default_rng(3)
    n = 10_007
    x = np.where(rng.random(n) < 0.6, 9, rng.integers(0, 32, n))
    y = np.where(rng.random(n) < 0.6, 4, rng.integers(0, 20, n))
    frame = assert_equals_one_by_one(
        name, make_events(x, y, rng.random(n) < positive), (32, 20), downsampling_factor=downsampling_factor
    )
    if positive == 1.0:
        assert frame[-1, 4 >> downsampling_factor, 9 >> downsampling_factor] == 1


@pytest.mark.parametrize(
    ("polarities", "value"),
    [
        ([1] * 5, 1.0),
        ([1] * 6, 1.0),
        ([1] * 9 + [0], 0.8),  # falls below 1 at once, however many came before
        ([0] + [1] * 9, 1.0),
        ([0] * 9 + [1], -0.8),
        ([1] * 9 + [0] * 14 + [1], -0.8),  # through both ends
        ([1, 0] * 50, 0.0),  # many, and never near an end
        ([1] * 6 + [0, 1] * 50, 1.0),
        ([1] * 6 + [1, 0] * 50, 0.8),
    ],
)
def test_diff_saturates_event_by_event(polarities, value):
    n = len(polarities)
    frame = create_preprocessing("diff", sensor_size=(3, 2), delta_t=1000)(make_events([1] * n, [1] * n, polarities), 0)
    assert frame[0, 1, 1] == np.float32(value)
    assert np.count_nonzero(frame) == (value != 0)


def test_a_histogram_has_the_negative_events_first():
    frame = create_preprocessing("histo", sensor_size=(4, 3), delta_t=1000)(
        make_events([3, 0, 0], [2, 1, 1], [0, 1, 1]), 0
    )
    expected = np.zeros((2, 3, 4), np.float32)
    expected[0, 2, 3] = 0.2
    expected[1, 1, 0] = 0.4
    np.testing.assert_array_equal(frame, expected)


def test_events_beyond_the_frame_are_dropped(name):
    # 35×21 shrinks to 8×5 (f = 2): columns from 32 and rows from 20 have no pixel; the rest lies beyond the sensor.
    events = make_events([31, 32, 34, 5, 35, 60000, 5], [19, 3, 3, 20, 3, 3, 60000], [1] * 7)
    frame = assert_equals_one_by_one(name, events, (35, 21), downsampling_factor=2)
    assert np.count_nonzero(frame) == 1
    whole = assert_equals_one_by_one(name, events, (35, 21))
    assert np.count_nonzero(whole) == 4


def test_no_events_give_zeros(name):
    assert_equals_one_by_one(name, Events.empty(), (7, 5))


def test_frames_are_the_callers_own(name):
    made = create_preprocessing(name, sensor_size=(6, 5), delta_t=1000)
    events = make_events([1, 1, 2], [1, 1, 2], [1, 1, 0])
    first = made(events, 0)
    kept = first.copy()
    second = made(events, 1000)
    np.testing.assert_array_equal(second, kept)  # nothing is remembered
    second[:] = 9
    np.testing.assert_array_equal(first, kept)
    assert events.x.tolist() == [1, 1, 2]


@pytest.mark.parametrize("downsampling_factor", [0, 1, 2])
@pytest.mark.parametrize(("recording", "sensor_size"), RECORDINGS, ids=[name for name, _ in RECORDINGS])
def test_real_recordings(shared_data, name, recording, sensor_size, downsampling_factor):
    with np.load(shared_data / "recordings" / f"{recording}.npz") as file:
        events = Events(file["t"].astype(np.int64), file["x"], file["y"], file["p"])[:120_000]
    # Frames of tens of thousands of events, a good part of whose pixels saturate.
    for piece in list(slices([events], 5000))[:2]:
        assert_equals_one_by_one(name, piece.events, sensor_size, downsampling_factor=downsampling_factor)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_incr_per_pixel": 0}, "max_incr_per_pixel must be a number"),
        ({"max_incr_per_pixel": -5}, "-5"),
        ({"max_incr_per_pixel": float("nan")}, "nan"),
        ({"max_incr_per_pixel": float("inf")}, "inf"),
        ({"max_incr_per_pixel": "5"}, "'5'"),
        ({"max_incr_per_pixel": None}, "None"),
        ({"max_incr_per_pixel": True}, "True"),
        ({"downsampling_factor": -1}, "downsampling_factor must be a whole number"),
        ({"downsampling_factor": 0.5}, "0.5"),
        ({"downsampling_factor": 5}, "leaves nothing of a sensor of 37×22"),
        ({"downsampling_factor": 10**9}, "leaves nothing"),
    ],
)
def test_bad_values_are_refused(name, arguments, message):
    with pytest.raises(UsageError, match=message) as caught:
        create_preprocessing(name, sensor_size=(37, 22), delta_t=1000, **arguments)
    assert name in str(caught.value)


def test_numbers_of_numpy_are_taken(name):
    events = make_events([1], [1], [1])
    made = create_preprocessing(
        name,
        sensor_size=(8, 8),
        delta_t=1000,
        max_incr_per_pixel=np.float32(2),
        downsampling_factor=np.int64(1),
    )
    assert made(events, 0).max() == np.float32(1 / 8)
