from __future__ import annotations

import numpy as np

from edgeclf_runtime.outputs.event_image import event_image, image_scale


def test_colours_of_events() -> None:
    white, red, blue, black = (1, 1, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0)
    pair = np.array([[[0, 2, 0, 5]], [[0, 0, 3, 5]]], np.float32)
    assert [tuple(pixel) for pixel in event_image(pair, 2.0)[0]] == [white, red, blue, black]
    signed = np.array([[[0, -2, 3, 1]]], np.float32)
    assert [tuple(pixel) for pixel in event_image(signed, 2.0)[0]] == [white, red, blue, (0.5, 0.5, 1)]
    bins = np.array([[[0, 2]], [[0, 0]], [[0, 0]], [[1, 0]]], np.float32)  # two bins, each negative before positive
    assert [tuple(pixel) for pixel in event_image(bins, 1.0)[0]] == [blue, red]
    signed_bins = np.array([[[0, -2]], [[1, 0]]], np.float32)
    assert [tuple(pixel) for pixel in event_image(signed_bins, 1.0)[0]] == [blue, red]


def test_scale_is_that_of_nine_tenths_of_what_is_not_zero() -> None:
    frames = [np.zeros((1, 2, 5), np.float32), np.arange(-5, 6, dtype=np.float32).reshape(1, 1, 11)]
    assert image_scale(frames) == 5
    assert image_scale([np.full((2, 1, 5), 3, np.float32), *frames[:1]]) == 3
    assert image_scale(frames[:1]) == 1
