"""`histo`: how many events of each polarity a pixel saw."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.preprocessing.adding import histogram
from edgeclf_runtime.preprocessing.counting import CountingPreprocessing
from edgeclf_runtime.preprocessing.pixels import pixels_of


class Histo(CountingPreprocessing):
    """Histogram of events, two channels: 0 the negative ones, 1 the positive ones; values from 0 to 1.

    Every event adds `1 / (max_incr_per_pixel · 4**downsampling_factor)`, and a pixel saturates at 1. Meaning and
    arguments are those of `metavision_ml.preprocessing.event_to_tensor.histo`; see `CountingPreprocessing`.
    """

    name = "histo"
    channels = 2
    value_range = (0.0, 1.0)

    def __call__(self, events: Events, start_us: int) -> NDArray[np.float32]:  # noqa: ARG002 - needs no time
        """Returns the frame, float32 `[2, rows, columns]`."""
        cell, _, _ = pixels_of(events, self._rows, self._columns, self.downsampling_factor, by_polarity=True)
        frame = histogram(cell, 2 * self._size, self._limit, self._limit)
        return frame.reshape(2, self._rows, self._columns)
