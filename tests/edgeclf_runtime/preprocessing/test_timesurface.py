from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.preprocessing import MultiChannelTimeSurface, TimeSurface, create_preprocessing


def test_a_pixel_holds_the_time_of_its_last_event(make_events):
    events = make_events([1100, 1250, 1500, 1999], [2, 2, 2, 0], [1, 1, 1, 0], [1, 0, 1, 1])
    frame = TimeSurface((3, 2), 1000)(events, 1000)
    expected = np.zeros((2, 2, 3), np.float32)
    expected[1, 1, 2], expected[0, 1, 2], expected[1, 0, 0] = 0.5, 0.25, 0.999
    np.testing.assert_array_equal(frame, expected)
    in_us = TimeSurface((3, 2), 1000, normed=False)(events, 1000)
    np.testing.assert_array_equal(in_us, expected * 1000)


def test_micro_time_bins_have_surfaces_of_their_own(make_events):
    # Bins of 100 µs: [0, 100), [100, 200), [200, 300); channels 2 · bin + polarity.
    events = make_events([50, 99, 100, 150, 175, 299], [0] * 6, [0] * 6, [0, 1, 1, 0, 0, 1])
    frame = MultiChannelTimeSurface((1, 1), 300)(events, 0)
    np.testing.assert_array_equal(frame.ravel(), np.array([0.5, 0.99, 0.75, 0, 0, 0.99], np.float32))


def test_bins_need_not_be_whole_microseconds_long(make_events):
    # 10 µs in 3 bins: they start at 0, 3⅓ and 6⅔ µs.
    t = np.arange(10)
    frame = MultiChannelTimeSurface((10, 1), 10)(make_events(t, t, t * 0, t * 0), 0)
    expected = np.zeros((6, 10))
    expected[0, :4], expected[2, 4:7], expected[4, 7:] = [0, 0.3, 0.6, 0.9], [0.2, 0.5, 0.8], [0.1, 0.4, 0.7]
    np.testing.assert_allclose(frame[:, 0], expected, atol=1e-7)


def test_events_outside_of_the_slice_are_dropped(make_events):
    events = make_events([990, 1500, 2000, 900], [0, 1, 1, 1], [0] * 4, [1] * 4)
    for made in (TimeSurface((2, 1), 1000), MultiChannelTimeSurface((2, 1), 1000, num_utbins=1)):
        np.testing.assert_array_equal(made(events, 1000)[:, 0], np.array([[0, 0], [0, 0.5]], np.float32))


def test_channels_and_value_range():
    assert (TimeSurface((4, 3), 500).channels, TimeSurface((4, 3), 500).value_range) == (2, (0.0, 1.0))
    assert TimeSurface((4, 3), 500, normed=False).value_range == (0.0, 499.0)
    assert MultiChannelTimeSurface((4, 3), 500).channels == 6
    assert MultiChannelTimeSurface((4, 3), 500, num_utbins=5).channels == 10


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("timesurface", {"normed": 1}, "normed must be true or false, not 1"),
        ("timesurface", {"downsampling_factor": 7}, "leaves nothing"),
        ("multi_channel_timesurface", {"num_utbins": 0}, "num_utbins must be a whole number, from 1 to 1000, not 0"),
        ("multi_channel_timesurface", {"num_utbins": 2.5}, "not 2.5"),
        ("multi_channel_timesurface", {"normed": True}, "'normed'.*it takes num_utbins, downsampling_factor"),
    ],
)
def test_bad_values_are_refused(name, arguments, message):
    with pytest.raises(UsageError, match=f"{name}.*{message}"):
        create_preprocessing(name, sensor_size=(37, 22), delta_t=1000, **arguments)


def test_what_metavision_hands_to_them_without_effect_is_taken(make_events):
    events = make_events([250], [1], [1], [1])
    made = create_preprocessing("timesurface", (4, 3), 1000, max_incr_per_pixel=5, preprocess_dtype=np.float32)
    np.testing.assert_array_equal(made(events, 0), TimeSurface((4, 3), 1000)(events, 0))
