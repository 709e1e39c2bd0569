from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.preprocessing import EventCube, create_preprocessing


@pytest.mark.parametrize(
    ("t", "weights"),
    # Bins of 100 µs with their centres at 50, 150 and 250 µs.
    [
        (0, [0.5, 0, 0]),
        (25, [0.75, 0, 0]),
        (50, [1, 0, 0]),
        (75, [0.75, 0.25, 0]),
        (100, [0.5, 0.5, 0]),
        (150, [0, 1, 0]),
        (240, [0, 0.1, 0.9]),
        (299, [0, 0, 0.51]),
        (-25, [0.25, 0, 0]),  # late events and early ones count by the same rule
        (-60, [0, 0, 0]),
        (340, [0, 0, 0.1]),
        (400, [0, 0, 0]),
        (-5000, [0, 0, 0]),
        (5000, [0, 0, 0]),
    ],
)
def test_an_event_is_shared_out_between_the_two_nearest_bins(make_events, t, weights):
    for p in (0, 1):
        split = EventCube((1, 1), 300, max_incr_per_pixel=2)(make_events([7000 + t], [0], [0], [p]), 7000)
        expected = np.zeros((3, 2))
        expected[:, p] = weights
        np.testing.assert_allclose(split.reshape(3, 2) * 2, expected, atol=1e-7)
        signed = EventCube((1, 1), 300, max_incr_per_pixel=2, split_polarity=False)
        frame = signed(make_events([7000 + t], [0], [0], [p]), 7000)
        np.testing.assert_allclose(frame.ravel() * 2, np.array(weights) * (1 if p else -1), atol=1e-7)


def test_without_split_polarity_bins_saturate_event_by_event(make_events):
    made = EventCube((1, 1), 300, max_incr_per_pixel=2, split_polarity=False)
    # At a bin's centre all of an event is in it: 4 positive ones saturate at 1, and one negative one takes ½ away.
    frame = made(make_events([150] * 5, [0] * 5, [0] * 5, [1, 1, 1, 1, 0]), 0)
    np.testing.assert_array_equal(frame.ravel(), [0, 0.5, 0])
    frame = made(make_events([150] * 5, [0] * 5, [0] * 5, [0, 1, 1, 1, 1]), 0)
    np.testing.assert_array_equal(frame.ravel(), [0, 1, 0])


def test_channels_and_value_range():
    made = EventCube((8, 6), 300)
    assert (made.channels, made.value_range) == (6, (0.0, 1.0))
    made = EventCube((8, 6), 300, num_utbins=5, split_polarity=False, downsampling_factor=1)
    assert (made.channels, made.value_range, made.frame_size(6, 8)) == (5, (-1.0, 1.0), (3, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_utbins": 0}, "num_utbins must be a whole number, from 1 to 1000, not 0"),
        ({"num_utbins": True}, "not True"),
        ({"split_polarity": "no"}, "split_polarity must be true or false, not 'no'"),
        ({"max_incr_per_pixel": 0}, "max_incr_per_pixel must be a number"),
        ({"downsampling_factor": 7}, "leaves nothing of a sensor of 37×22"),
    ],
)
def test_bad_values_are_refused(arguments, message):
    with pytest.raises(UsageError, match=f"event_cube: {message}|event_cube: .*{message}"):
        create_preprocessing("event_cube", sensor_size=(37, 22), delta_t=1000, **arguments)
