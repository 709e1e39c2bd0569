from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.preprocessing import (
    DiffQuantized,
    HistoQuantized,
    canonical_arguments,
    create_preprocessing,
    effective_arguments,
)


def at_one_pixel(make_events, polarities):
    n = len(polarities)
    return make_events(range(n), [1] * n, [1] * n, polarities)


@pytest.mark.parametrize(
    ("bits", "highest"),
    [((4, 8), (15, 15)), ((3, 8), (7, 31)), ((1, 3), (1, 3)), ((8, 8), (255, 0)), ((6, 8), (63, 3))],
)
def test_counters_of_a_histogram_stop_at_what_their_bits_hold(make_events, bits, highest):
    events = at_one_pixel(make_events, [0, 1] * 300)
    arguments = {"neg_bit_len_quantized": bits[0], "total_bit_len_quantized": bits[1]}
    made = HistoQuantized((4, 3), 1000, **arguments)
    assert made.value_range == (0.0, max(highest))
    frame = made(events, 0)
    assert (frame[0, 1, 1], frame[1, 1, 1], np.count_nonzero(frame)) == (*highest, 2 if min(highest) else 1)
    few = made(at_one_pixel(make_events, [0]), 0)
    assert few[0, 1, 1] == few.sum() == 1
    normed = HistoQuantized((4, 3), 1000, normalization_quantized=True, **arguments)
    assert normed.value_range == (0.0, 1.0)
    np.testing.assert_allclose(normed(events, 0)[:, 1, 1], np.array(highest) / max(highest), rtol=1e-6)


@pytest.mark.parametrize(
    ("polarities", "value"),
    [
        ([1] * 10, 3),
        ([0] * 10, -4),
        ([1] * 10 + [0], 2),
        ([0] * 10 + [1], -3),
        ([0] * 10 + [1] * 20 + [0] * 5, -2),
        ([1, 0] * 50, 0),
        ([1] * 3 + [0] * 7, -4),
        ([1, 1, 0], 1),
    ],
)
def test_a_difference_counts_as_a_signed_number_of_three_bits(make_events, polarities, value):
    events = at_one_pixel(make_events, polarities)
    made = DiffQuantized((4, 3), 1000, neg_bit_len_quantized=3)
    assert (made(events, 0)[0, 1, 1], made.value_range) == (value, (-4.0, 3.0))
    normed = DiffQuantized((4, 3), 1000, neg_bit_len_quantized=3, normalization_quantized=True)
    assert (normed(events, 0)[0, 1, 1], normed.value_range) == (value / 4, (-1.0, 0.75))


def test_by_default_a_difference_is_a_signed_byte(make_events):
    made = DiffQuantized((4, 3), 1000)
    assert made.value_range == (-128.0, 127.0)
    assert made(at_one_pixel(make_events, [1] * 300), 0).max() == 127
    assert made(at_one_pixel(make_events, [0] * 300), 0).min() == -128


def test_blocks_hold_the_mean_of_counters_that_stopped_each_by_itself(make_events):
    # Pixel (0, 0) stops at 1, pixel (1, 1) has 1: the block's mean is ½, not the ¼ · 6 that one sum would give.
    events = make_events(range(6), [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1], [1] * 6)
    frame = HistoQuantized(
        (4, 2), 1000, neg_bit_len_quantized=1, total_bit_len_quantized=2, downsampling_factor=1
    )(events, 0)  # fmt: skip
    np.testing.assert_array_equal(frame, [[[0, 0]], [[0.5, 0]]])
    frame = DiffQuantized((4, 2), 1000, neg_bit_len_quantized=2, downsampling_factor=1)(events, 0)
    np.testing.assert_array_equal(frame, [[[0.5, 0]]])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("histo_quantized", {"neg_bit_len_quantized": 0}, "neg_bit_len_quantized must be .* from 1 to 8, not 0"),
        ("histo_quantized", {"neg_bit_len_quantized": 9}, "not 9"),
        ("histo_quantized", {"total_bit_len_quantized": 3}, "total_bit_len_quantized must be .* from 4 to 8, not 3"),
        ("histo_quantized", {"total_bit_len_quantized": 16}, "not 16"),
        ("histo_quantized", {"normalization_quantized": 0}, "normalization_quantized must be true or false, not 0"),
        ("histo_quantized", {"max_incr_per_pixel": 5}, "'max_incr_per_pixel'.*it takes neg_bit_len_quantized"),
        ("diff_quantized", {"neg_bit_len_quantized": 1}, "neg_bit_len_quantized must be .* from 2 to 8, not 1"),
        ("diff_quantized", {"neg_bit_len_quantized": 4.0}, "not 4.0"),
        ("diff_quantized", {"total_bit_len_quantized": 8}, "it takes neg_bit_len_quantized, normalization_quantized"),
        ("diff_quantized", {"downsampling_factor": 9}, "leaves nothing"),
    ],
)
def test_bad_values_are_refused(name, arguments, message):
    with pytest.raises(UsageError, match=f"{name}.*{message}"):
        create_preprocessing(name, sensor_size=(37, 22), delta_t=1000, **arguments)


def test_arguments_may_have_the_names_that_metavisions_functions_give_them(make_events):
    theirs = {"negative_bit_length": 3, "total_bit_length": np.int64(7), "normalization": np.bool_(True)}
    ours = {"neg_bit_len_quantized": 3, "total_bit_len_quantized": 7, "normalization_quantized": True}
    assert canonical_arguments("histo_quantized", {**theirs, "preprocess_dtype": np.dtype("uint8")}) == ours
    assert effective_arguments("histo_quantized", theirs) == {**ours, "downsampling_factor": 0}
    events = at_one_pixel(make_events, [0, 1, 1] * 9)
    frames = [create_preprocessing("histo_quantized", (4, 3), 1000, **given)(events, 0) for given in (theirs, ours)]
    np.testing.assert_array_equal(*frames)
    assert frames[0][0, 1, 1] == np.float32(7 / 15)
    with pytest.raises(UsageError, match="diff_quantized is given neg_bit_len_quantized twice"):
        create_preprocessing("diff_quantized", (4, 3), 1000, negative_bit_length=3, neg_bit_len_quantized=3)
