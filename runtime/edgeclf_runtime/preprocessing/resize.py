"""Shrinking frames by area."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.errors import UsageError


def area_resize(frames: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Returns frames shrunk by area: every value is the mean of the values that its pixel covers.

    The same as torch's `interpolate(mode="area")`, which is adaptive average pooling: row i of the result is the mean
    of the rows from `floor(i · rows / height)` to before `ceil((i + 1) · rows / height)`, so that neighbouring means
    share a row where the ratio is not whole. Columns alike.

    Args:
        frames: `[..., rows, columns]`, float32.
        height: Rows of the result.
        width: Columns of the result.

    Returns:
        float32 `[..., height, width]`; `frames` itself where that is their size.

    Raises:
        UsageError: Where that enlarges them, in either direction, or leaves nothing.
    """
    rows, columns = frames.shape[-2:]
    if (rows, columns) == (height, width):
        return frames
    if height < 1 or width < 1:
        raise UsageError(f"Frames cannot be shrunk to {height}×{width} (height × width).")
    if height > rows or width > columns:
        raise UsageError(
            f"Frames of {rows}×{columns} (height × width) cannot be enlarged to {height}×{width}, which would invent "
            "detail; ask for that size at most."
        )
    return _means_along(_means_along(frames, height, -2), width, -1)


def _means_along(frames: NDArray[np.float32], size: int, axis: int) -> NDArray[np.float32]:
    """Returns the means along one axis, -2 or -1, which then has `size` entries.

    Adds up the first, second, … value of all means at a time, rather than `reshape` and `mean` or `np.add.reduceat`:
    NumPy reduces short axes slowly, and this is 2 to 20 times faster (measured at 1280×720).
    """
    length = frames.shape[axis]
    if length == size:
        return frames
    total: NDArray[np.float32]
    if length % size == 0:
        ratio = length // size
        nth = (slice(None),) if axis == -2 else ()
        total = frames[(..., slice(0, None, ratio), *nth)].astype(np.float32)
        for offset in range(1, ratio):
            total += frames[(..., slice(offset, None, ratio), *nth)]
        total /= np.float32(ratio)
        return total
    start = np.arange(size) * length // size
    stop = -(-np.arange(1, size + 1) * length // size)
    column = (-1, 1) if axis == -2 else (-1,)
    total = np.take(frames, start, axis).astype(np.float32, copy=False)
    for offset in range(1, int((stop - start).max())):
        value = np.take(frames, np.minimum(start + offset, stop - 1), axis)
        total += value * (start + offset < stop).reshape(column)
    total /= (stop - start).astype(np.float32).reshape(column)
    return total
