"""Changing training recordings a little, so that a network learns what matters in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def shifted(frames: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Returns frames moved down by `rows` and to the right by `columns`; zeros come in, what leaves is gone.

    Args:
        frames: `[..., H, W]`.
        rows: Pixels down; negative: up.
        columns: Pixels to the right; negative: to the left.
    """
    height, width = frames.shape[-2:]
    result = np.zeros_like(frames)
    result[..., _to(rows, height), _to(columns, width)] = frames[..., _to(-rows, height), _to(-columns, width)]
    return result


def _to(shift: int, size: int) -> slice:
    """Returns where, of `size` pixels, those lie that are still there after a shift."""
    return slice(min(max(shift, 0), size), max(size + min(shift, 0), 0))
