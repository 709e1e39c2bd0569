"""The definitions of the preprocessings, as loops over the events in float64 that change one value after the other."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from edgeclf_runtime.events import Events
from edgeclf_runtime.preprocessing import create_preprocessing


def clip(value, low, high):
    return min(max(value, low), high)


def add_histo(frame, _t, x, y, p, *, factor, max_incr_per_pixel=5.0, **_):
    frame[p, y, x] = min(frame[p, y, x] + 1 / (max_incr_per_pixel * 4**factor), 1.0)


def add_diff(frame, _t, x, y, p, *, factor, max_incr_per_pixel=5.0, **_):
    step = 1 / (max_incr_per_pixel * 4**factor)
    frame[0, y, x] = clip(frame[0, y, x] + (step if p else -step), -1.0, 1.0)


def add_timesurface(frame, t, x, y, p, *, delta_t, normed=True, **_):
    if 0 <= t < delta_t:
        frame[p, y, x] = t / delta_t if normed else t


def add_multi_channel_timesurface(frame, t, x, y, p, *, delta_t, num_utbins=3, **_):
    for b in range(num_utbins):
        if b * delta_t <= t * num_utbins < (b + 1) * delta_t:
            frame[2 * b + p, y, x] = (t * num_utbins - b * delta_t) / delta_t


def add_event_cube(
    frame, t, x, y, p, *, delta_t, factor, max_incr_per_pixel=5.0, num_utbins=3, split_polarity=True, **_
):
    for b in range(num_utbins):
        weight = max(0.0, 1 - abs(t * num_utbins / delta_t - 0.5 - b)) / (max_incr_per_pixel * 4**factor)
        if weight and split_polarity:
            frame[2 * b + p, y, x] = min(frame[2 * b + p, y, x] + weight, 1.0)
        elif weight:
            frame[b, y, x] = clip(frame[b, y, x] + (weight if p else -weight), -1.0, 1.0)


def add_histo_quantized(frame, _t, x, y, p, *, neg_bit_len_quantized=4, total_bit_len_quantized=8, **_):
    bits = (neg_bit_len_quantized, total_bit_len_quantized - neg_bit_len_quantized)[p]
    if frame[p, y, x] + 1 <= 2**bits - 1:
        frame[p, y, x] += 1


def add_diff_quantized(frame, _t, x, y, p, *, neg_bit_len_quantized=8, **_):
    half = 2 ** (neg_bit_len_quantized - 1)
    frame[0, y, x] = clip(frame[0, y, x] + (1 if p else -1), -half, half - 1)


def divisor(name, neg_bit_len_quantized=None, total_bit_len_quantized=8, normalization_quantized=False, **_):
    if not normalization_quantized:
        return 1
    if name == "diff_quantized":
        return 2 ** ((neg_bit_len_quantized or 8) - 1)
    negative = neg_bit_len_quantized or 4
    return max(2**negative, 2 ** (total_bit_len_quantized - negative)) - 1


def frame_one_by_one(name, events, sensor_size, channels, delta_t, start_us=0, downsampling_factor=0, **arguments):
    """Returns the frame, float64 `[channels, rows, columns]`."""
    factor, add = downsampling_factor, globals()[f"add_{name}"]
    columns, rows = (size >> factor for size in sensor_size)
    is_averaged = name.endswith("quantized")
    values = defaultdict(float)
    for t, x, y, p in zip(events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist(), strict=True):
        if x >> factor < columns and y >> factor < rows:
            if not is_averaged:
                x, y = x >> factor, y >> factor
            add(values, t - start_us, x, y, p, delta_t=delta_t, factor=factor, **arguments)
    frame = np.zeros((channels, rows, columns))
    for (c, y, x), value in values.items():
        if is_averaged:
            frame[c, y >> factor, x >> factor] += value / 4**factor / divisor(name, **arguments)
        else:
            frame[c, y, x] = value
    return frame


@pytest.fixture
def assert_equals_one_by_one():
    """Makes a frame, holds it against the loop, and returns it."""

    def check(name, events, sensor_size, *, delta_t=10_000, start_us=0, **arguments):
        made = create_preprocessing(name, sensor_size=sensor_size, delta_t=delta_t, **arguments)
        kept = [array.copy() for array in (events.t, events.x, events.y, events.p)]
        frame = made(events, start_us)
        expected = frame_one_by_one(name, events, sensor_size, made.channels, delta_t, start_us, **arguments)
        assert frame.dtype == np.float32
        assert frame.flags.c_contiguous
        assert frame.shape == expected.shape == (made.channels, *made.frame_size(sensor_size[1], sensor_size[0]))
        low, high = made.value_range
        np.testing.assert_allclose(frame, expected, rtol=0, atol=1e-6 * max(1, -low, high))
        if frame.size:
            assert low <= frame.min() <= frame.max() <= high
        for before, after in zip(kept, (events.t, events.x, events.y, events.p), strict=True):
            np.testing.assert_array_equal(before, after)
        return frame

    return check


@pytest.fixture
def make_events():
    """Makes events of times in µs, columns, rows and polarities."""

    def make(t, x, y, p):
        return Events(np.asarray(t, np.int64), np.asarray(x, np.uint16), np.asarray(y, np.uint16),
                      np.asarray(p, np.uint8))  # fmt: skip

    return make
