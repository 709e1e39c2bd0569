"""`diff`: positive less negative events of a pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.preprocessing.adding import difference
from edgeclf_runtime.preprocessing.counting import CountingPreprocessing
from edgeclf_runtime.preprocessing.pixels import pixels_of


class Diff(CountingPreprocessing):
    """Positive less negative events, one channel; values from -1 to 1.

    Every event adds `±1 / (max_incr_per_pixel · 4**downsampling_factor)`, and a pixel saturates at -1 and 1 event by
    event: one at 1 that sees a negative event falls below 1 at once, however many positive ones came before. Meaning
    and arguments are those of `metavision_ml.preprocessing.event_to_tensor.diff`; see `CountingPreprocessing`.
    """

    name = "diff"
    channels = 1
    value_range = (-1.0, 1.0)

    def __call__(self, events: Events, start_us: int) -> NDArray[np.float32]:  # noqa: ARG002 - needs no time
        """Returns the frame, float32 `[1, rows, columns]`."""
        pixel, polarity, _ = pixels_of(events, self._rows, self._columns, self.downsampling_factor)
        frame = difference(pixel, polarity, self._size, (-self._limit, self._limit), self._limit)
        return frame.reshape(1, self._rows, self._columns)
