from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.preprocessing import area_resize


@pytest.mark.parametrize(
    "shape",
    [(2, 48, 64), (48, 64), (3, 2, 37, 53), (1, 1, 5, 7), (2, 120, 1), (2, 1, 33), (0, 2, 12, 12)],
    ids=str,
)
@pytest.mark.parametrize(
    "ratio", [(1, 1), (2, 2), (4, 1), (1, 3), (1.5, 1.5), (1.01, 2.7), (3, 1.3), (1e9, 1e9)], ids=str
)
def test_equals_torch(shape, ratio):
    height, width = (max(1, int(size / by)) for size, by in zip(shape[-2:], ratio, strict=True))
    frames = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    kept = frames.copy()
    shrunk = area_resize(frames, height, width)
    flat = torch.from_numpy(kept).reshape(-1, 1, *shape[-2:])
    expected = interpolate(flat, size=(height, width), mode="area") if len(flat) else flat[..., :height, :width]
    assert shrunk.dtype == np.float32
    assert shrunk.flags.c_contiguous
    np.testing.assert_allclose(shrunk, expected.reshape(*shape[:-2], height, width).numpy(), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(frames, kept)


@pytest.mark.parametrize("size", [(360, 640), (240, 320), (112, 112), (500, 900), (719, 1279)], ids=str)
def test_sensor_sized_frames_equal_torch(size):
    frames = np.random.default_rng(1).random((2, 720, 1280), dtype=np.float32)
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(frames), size).numpy()
    np.testing.assert_allclose(area_resize(frames, *size), expected, rtol=0, atol=1e-6)


def test_views_are_taken():
    frames = np.random.default_rng(2).random((30, 2, 20), dtype=np.float32).transpose(1, 2, 0)[:, ::-1]
    expected = area_resize(np.ascontiguousarray(frames), 7, 10)
    np.testing.assert_allclose(area_resize(frames, 7, 10), expected, rtol=0, atol=1e-6)


def test_saturated_frames_stay_saturated():
    assert np.all(area_resize(np.ones((2, 480, 640), np.float32), 120, 160) == 1)
    assert np.all(area_resize(np.ones((2, 480, 640), np.float32), 100, 111) == 1)


def test_equal_size_returns_the_input():
    frames = np.zeros((2, 5, 6), np.float32)
    assert area_resize(frames, 5, 6) is frames


@pytest.mark.parametrize("size", [(6, 6), (5, 7), (3, 7), (6, 3)])
def test_enlarging_is_refused(size):
    with pytest.raises(UsageError, match=rf"5×6 .*enlarged to {size[0]}×{size[1]}"):
        area_resize(np.zeros((2, 5, 6), np.float32), *size)


@pytest.mark.parametrize("size", [(0, 3), (3, 0), (-1, 3)])
def test_nothing_is_refused(size):
    with pytest.raises(UsageError, match="cannot be shrunk"):
        area_resize(np.zeros((2, 5, 6), np.float32), *size)
