"""What the built-in preprocessings share: a frame `2**downsampling_factor` times smaller, and events' places in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.preprocessing.arguments import whole_number
from edgeclf_runtime.preprocessing.base import Preprocessing


class PixelPreprocessing(Preprocessing):
    """A preprocessing whose frames are the sensor's pixels, or blocks of `2**downsampling_factor` squared of them.

    Args:
        sensor_size: Width and height of the sensor.
        downsampling_factor: Coordinates are multiplied by `2**-downsampling_factor` and rounded down. Events beyond
            the last whole pixel of the frame are dropped.

    Raises:
        UsageError: Where an argument is out of range, or nothing would be left of the frame.
    """

    # Metavision's arrays have a type of their own; frames here are float32, which holds the same values.
    argument_aliases: ClassVar[Mapping[str, str | None]] = {"preprocess_dtype": None}

    def __init__(self, sensor_size: tuple[int, int], downsampling_factor: int) -> None:
        self.downsampling_factor = whole_number(self.name, "downsampling_factor", downsampling_factor, lowest=0)
        width, height = sensor_size
        self._rows, self._columns = self.frame_size(height, width)
        if self._rows < 1 or self._columns < 1:
            raise UsageError(
                f"{self.name}: downsampling_factor {downsampling_factor} leaves nothing of a sensor of "
                f"{width}×{height} (width × height); choose a smaller one."
            )
        self._size = self._rows * self._columns

    def frame_size(self, height: int, width: int) -> tuple[int, int]:
        """Returns the rows and columns of its frames for a sensor of `height` rows and `width` columns."""
        return height >> self.downsampling_factor, width >> self.downsampling_factor


def pixels_of(
    events: Events, rows: int, columns: int, downsampling_factor: int = 0, *, by_polarity: bool = False
) -> tuple[NDArray[np.intp], NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Returns where in a frame the events lie.

    Args:
        events: The events.
        rows: Rows of the frame.
        columns: Its columns.
        downsampling_factor: Coordinates are divided by two to the power of it, and rounded down.
        by_polarity: Whether positive events lie in a frame of their own, behind that of the negative ones.

    Returns:
        `row · columns + column`, or else `(polarity · rows + row) · columns + column`, of every event within the
        frame; its polarity; and which of the events these are, None where it is all of them.
    """
    x, y, p = events.x, events.y, events.p
    if downsampling_factor:
        shift = np.uint16(downsampling_factor)
        x, y = x >> shift, y >> shift
    inside: NDArray[np.bool_] | None = None
    # Two maxima cost a third of what two comparisons and their conjunction do.
    if x.size and (int(x.max()) >= columns or int(y.max()) >= rows):
        inside = (x < columns) & (y < rows)
        x, y, p = x[inside], y[inside], p[inside]
    # One array, in place: for a million events the memory of another costs more than the arithmetic.
    if by_polarity:
        pixel = p.astype(np.intp)
        pixel *= rows
        pixel += y
    else:
        pixel = y.astype(np.intp)
    pixel *= columns
    pixel += x
    return pixel, p, inside
