"""Event frames as pictures for people, in one way wherever they are shown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def event_image(frame: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Returns an event frame as an image `[H, W, 3]`, 0 to 1: positive events blue, negative ones red, on white.

    Args:
        frame: `[C, H, W]`: pairs of channels, negative events before positive ones; where their number is odd or a
            value is below zero, channels whose sign is that of the events. The largest values of them are drawn.
        scale: The value that gets the full colour.
    """
    if len(frame) % 2 or (frame < 0).any():
        negative, positive = -frame.min(0), frame.max(0)
    else:
        negative, positive = frame[0::2].max(0), frame[1::2].max(0)
    red, blue = np.clip(negative / scale, 0, 1), np.clip(positive / scale, 0, 1)
    return np.stack([1 - blue, 1 - np.maximum(blue, red), 1 - red], axis=-1)


def image_scale(frames: Sequence[NDArray[np.float32]]) -> float:
    """Returns a scale for `event_image` by which most values of these frames that are not zero can be seen.

    One scale for all frames of a picture, so that quiet times look quiet. It is 1 where all values are zero.
    """
    values = np.abs(np.concatenate([frame.ravel() for frame in frames]))
    values = values[values > 0]
    return float(np.percentile(values, 90)) if values.size else 1.0
