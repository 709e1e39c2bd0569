"""`diff`: positive less negative events of a pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.preprocessing.counting import CountingPreprocessing
from edgeclf_runtime.preprocessing.saturation import saturating_sums


class Diff(CountingPreprocessing):
    """Positive less negative events, one channel; values from -1 to 1.

    Every event adds `±1 / (max_incr_per_pixel · 4**downsampling_factor)`, and a pixel saturates at -1 and 1 event by
    event: one at 1 that sees a negative event falls below 1 at once, however many positive ones came before. Meaning
    and arguments are those of `metavision_ml.preprocessing.event_to_tensor.diff`; see `CountingPreprocessing`.
    """

    name = "diff"
    channels = 1

    def __call__(self, events: Events, start_us: int) -> NDArray[np.float32]:  # noqa: ARG002 - needs no time
        """Returns the frame, float32 `[1, rows, columns]`."""
        index = self._index(events)
        counts = self._counts(index)
        negative, positive = np.split(counts, 2)
        pixel = np.where(index < negative.size, index, index - negative.size)
        # A pixel can only have saturated where one polarity alone exceeds the limit; any other holds a plain sum.
        saturated = pixel[counts[index] > self._limit]
        frame: NDArray[np.float32]
        if self._is_sparse(index, counts):
            frame = np.zeros(negative.size, np.float32)
            frame[pixel] = (positive[pixel] - negative[pixel]) / self._limit
        else:
            frame = np.subtract(positive, negative, out=negative)
            frame /= self._limit
        if saturated.size:
            self._count_in_order(frame, pixel, index >= negative.size, saturated)
        return frame.reshape(1, self._rows, self._columns)

    def _count_in_order(
        self,
        frame: NDArray[np.float32],
        pixel: NDArray[np.intp],
        is_positive: NDArray[np.bool_],
        saturated: NDArray[np.intp],
    ) -> None:
        """Writes the values of the pixels in `saturated` into `frame`, every event of theirs saturating in its turn."""
        is_saturated = np.zeros(frame.size, np.bool_)
        is_saturated[saturated] = True
        (which,) = np.nonzero(is_saturated[pixel])
        # Pixel and order sorted as one number: a stable sort by pixel, several times faster than a stable argsort.
        key = np.sort((pixel[which] << 32) | which)
        which, pixel = key & 0xFFFFFFFF, key >> 32
        first = np.flatnonzero(np.append(True, pixel[1:] != pixel[:-1]))
        steps = np.where(is_positive[which], 1.0, -1.0)
        sums = saturating_sums(steps, np.diff(first, append=pixel.size), float(self._limit))
        frame[pixel[first]] = sums / self._limit
