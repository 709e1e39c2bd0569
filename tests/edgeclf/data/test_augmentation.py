from __future__ import annotations

import numpy as np
import pytest

from edgeclf.data.augmentation import shifted


@pytest.mark.parametrize("rows", [-9, -5, -2, 0, 1, 5, 9])
@pytest.mark.parametrize("columns", [-8, -3, 0, 2, 7, 8])
def test_equals_a_loop_over_pixels(rows: int, columns: int) -> None:
    frames = np.random.default_rng(0).random((2, 3, 5, 7), np.float32)
    expected = np.zeros_like(frames)
    for row in range(5):
        for column in range(7):
            if 0 <= row + rows < 5 and 0 <= column + columns < 7:
                expected[..., row + rows, column + columns] = frames[..., row, column]
    np.testing.assert_array_equal(shifted(frames, rows, columns), expected)


def test_leaves_its_input_alone() -> None:
    frames = np.ones((1, 4, 4), np.float32)
    shifted(frames, 1, 1)
    assert frames.min() == 1
