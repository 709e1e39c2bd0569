"""Every preprocessing against a loop that adds the events one at a time, on real, random and degenerate events."""

from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.events import Events
from edgeclf_runtime.preprocessing import create_preprocessing, preprocessing_names

# Besides the defaults, arguments with which these events saturate, and those that change the meaning.
ARGUMENTS = {
    "histo": [{}, {"max_incr_per_pixel": 1.5}],
    "diff": [{}, {"max_incr_per_pixel": 1.5}],
    "timesurface": [{}, {"normed": False}],
    "event_cube": [
        {},
        {"max_incr_per_pixel": 1.5},
        {"max_incr_per_pixel": 0.6, "split_polarity": False},
        {"num_utbins": 1},
        {"num_utbins": 7, "split_polarity": False},
        {"max_incr_per_pixel": 40, "num_utbins": 2},  # whose sums are float64
    ],
    "multi_channel_timesurface": [{}, {"num_utbins": 1}, {"num_utbins": 7}],
    "histo_quantized": [
        {},
        {"neg_bit_len_quantized": 1, "total_bit_len_quantized": 4},
        {"neg_bit_len_quantized": 3, "total_bit_len_quantized": 4, "normalization_quantized": True},
        {"neg_bit_len_quantized": 2, "total_bit_len_quantized": 2, "normalization_quantized": True},
    ],
    "diff_quantized": [
        {},
        {"neg_bit_len_quantized": 2},
        {"neg_bit_len_quantized": 3, "normalization_quantized": True},
    ],
}
CASES = [
    pytest.param(name, arguments, id="-".join([name, *map(str, arguments.values())]))
    for name, several in ARGUMENTS.items()
    for arguments in several
]
SENSORS = {"evt2_sample": (640, 480), "evt3_sample": (1280, 720)}


@pytest.fixture(scope="module")
def recorded(shared_data):
    """The first 10,000 events of both recordings."""
    events = {}
    for name in SENSORS:
        with np.load(shared_data / "recordings" / f"{name}.npz") as file:
            events[name] = Events(file["t"].astype(np.int64), file["x"], file["y"], file["p"])[:10_000]
    return events


def test_all_seven_are_held_against_the_loop():
    assert tuple(ARGUMENTS) == preprocessing_names()


@pytest.mark.parametrize("downsampling_factor", [0, 1, 2])
@pytest.mark.parametrize("recording", SENSORS)
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_real_recordings(assert_equals_one_by_one, recorded, name, arguments, recording, downsampling_factor):
    events = recorded[recording]
    start = int(events.t[0])
    frame = assert_equals_one_by_one(
        name,
        events,
        SENSORS[recording],
        # Some events come after the slice's end, and it is no multiple of 3 or 7.
        delta_t=int((events.t[-1] - start) * 0.95) // 21 * 21 + 1,
        start_us=start,
        downsampling_factor=downsampling_factor,
        **arguments,
    )
    assert np.count_nonzero(frame) > 50


@pytest.mark.parametrize("downsampling_factor", [0, 1, 2])
# From frames nearly empty, whose cells are looked up singly, to frames where most saturate; on a sensor that is no
# multiple of 4, with events beyond it.
@pytest.mark.parametrize("count", [1, 40, 700, 9000])
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_random_events(assert_equals_one_by_one, make_events, name, arguments, count, downsampling_factor):
    rng = np.random.default_rng([count, downsampling_factor])
    x, y = rng.integers(0, 39, count), rng.integers(0, 24, count)
    # Each pixel prefers one polarity, or few would ever saturate.
    p = rng.random(count) < rng.random((24, 39))[y, x]
    t = np.sort(rng.integers(50_000, 51_000, count))
    events = make_events(t, x, y, p)
    assert_equals_one_by_one(
        name, events, (37, 22), delta_t=1000, start_us=50_000, downsampling_factor=downsampling_factor, **arguments
    )


@pytest.mark.parametrize("downsampling_factor", [0, 1, 2])
@pytest.mark.parametrize("positive", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_all_on_one_pixel(assert_equals_one_by_one, make_events, name, arguments, positive, downsampling_factor):
    rng = np.random.default_rng(5)
    count = 3001
    events = make_events(np.arange(count) // 3, [9] * count, [6] * count, rng.random(count) < positive)
    frame = assert_equals_one_by_one(
        name, events, (16, 12), delta_t=1001, downsampling_factor=downsampling_factor, **arguments
    )
    assert np.count_nonzero(frame) <= len(frame)


@pytest.mark.parametrize("downsampling_factor", [0, 1, 2])
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_through_both_ends_again_and_again(assert_equals_one_by_one, make_events, name, arguments, downsampling_factor):
    # Positive and negative events by turns in longer and longer runs, on two pixels against each other.
    p = np.repeat(np.arange(40) % 2, np.arange(40) * 8)
    x = np.arange(p.size) % 2 * 8
    events = make_events(np.arange(p.size), x, x // 2, p ^ (x == 8))
    assert_equals_one_by_one(
        name, events, (16, 12), delta_t=p.size, downsampling_factor=downsampling_factor, **arguments
    )


@pytest.mark.parametrize("delta_t", [1, 2, 10, 999, 1000])
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_events_at_the_boundaries_of_slices_and_bins(assert_equals_one_by_one, make_events, name, arguments, delta_t):
    start = 7 * delta_t
    bounds = {round(start + delta_t * k / n) for n in (1, 2, 3, 6, 7, 14) for k in range(n + 1)}
    # Besides, what a stream that does not keep time order may put into a slice: events from long before it.
    t = np.array(sorted({start - 5 * delta_t, start - delta_t} | {b + d for b in bounds for d in (-1, 0, 1)}))
    events = make_events(t, np.arange(t.size) % 16, np.arange(t.size) // 16, np.arange(t.size) % 2)
    assert_equals_one_by_one(name, events, (16, 12), delta_t=delta_t, start_us=start, **arguments)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_events_that_keep_no_time_order_are_added_as_they_come(assert_equals_one_by_one, make_events, name, arguments):
    rng = np.random.default_rng(8)
    t, x, y, p = (rng.integers(0, high, 2000) for high in (1000, 4, 3, 2))
    assert_equals_one_by_one(name, make_events(t, x, y, p), (4, 3), delta_t=1000, **arguments)


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_no_events_give_zeros(name, arguments):
    made = create_preprocessing(name, sensor_size=(7, 5), delta_t=1000, downsampling_factor=1, **arguments)
    frame = made(Events.empty(), 123)
    assert (frame.shape, frame.dtype) == ((made.channels, 2, 3), np.float32)
    assert not frame.any()


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_frames_are_the_callers_own(make_events, name, arguments):
    made = create_preprocessing(name, sensor_size=(6, 5), delta_t=1000, **arguments)
    events = make_events([10, 20, 30], [1, 1, 2], [1, 1, 2], [1, 1, 0])
    first = made(events, 0)
    kept = first.copy()
    second = made(events, 0)
    np.testing.assert_array_equal(second, kept)  # nothing is remembered
    second[:] = 9
    np.testing.assert_array_equal(first, kept)
