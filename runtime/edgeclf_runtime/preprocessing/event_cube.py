"""`event_cube`: events shared out between micro time bins."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.preprocessing.adding import difference, histogram
from edgeclf_runtime.preprocessing.arguments import flag, whole_number
from edgeclf_runtime.preprocessing.counting import CountingPreprocessing
from edgeclf_runtime.preprocessing.pixels import pixels_of


class EventCube(CountingPreprocessing):
    """Event volume: every event is shared out between the two micro time bins whose centres are nearest in time.

    The slice is cut into `num_utbins` bins of equal length. An event at `u = (t - start) · num_utbins / delta_t` adds
    `max(0, 1 - |u - 0.5 - b|) / (max_incr_per_pixel · 4**downsampling_factor)` to bin `b`; so one that is nearer to the
    slice's end than half a bin leaves part of itself to no bin. Bins saturate at 1, and at -1 without
    `split_polarity`, event by event.

    Channels are `2 · bin + polarity`, the negative events' first in each bin; without `split_polarity` they are the
    bins, and negative events count as -1. Meaning and arguments are those of
    `metavision_ml.preprocessing.event_to_tensor.event_cube`, after the event volume of Zhu et al., "Unsupervised
    Event-based Learning of Optical Flow, Depth, and Egomotion", CVPR 2019; it takes the number of bins from the number
    of channels of its output: 6 by default, so 3 bins of 2 polarities.

    Args:
        sensor_size: Width and height of the sensor.
        delta_t: Duration of a slice in µs.
        max_incr_per_pixel: Events that bring a bin's pixel to 1, expressed in the sensor's resolution.
        num_utbins: Number of micro time bins, 1 or more.
        split_polarity: Whether positive and negative events have a channel each.
        downsampling_factor: Frames are `2**downsampling_factor` times smaller than the sensor in both directions;
            events are added to the block that they lie in, without weights in space.

    Raises:
        UsageError: Where an argument is out of range, or nothing would be left of the frame.
    """

    name = "event_cube"

    def __init__(
        self,
        sensor_size: tuple[int, int],
        delta_t: int,
        *,
        max_incr_per_pixel: float = 5.0,
        num_utbins: int = 3,
        split_polarity: bool = True,
        downsampling_factor: int = 0,
    ) -> None:
        super().__init__(
            sensor_size, delta_t, max_incr_per_pixel=max_incr_per_pixel, downsampling_factor=downsampling_factor
        )
        self.num_utbins = whole_number(self.name, "num_utbins", num_utbins, lowest=1, highest=1000)
        self.split_polarity = flag(self.name, "split_polarity", split_polarity)
        self.channels = self.num_utbins * (2 if self.split_polarity else 1)
        self.value_range = (0.0 if self.split_polarity else -1.0, 1.0)

    def __call__(self, events: Events, start_us: int) -> NDArray[np.float32]:
        """Returns the frame, float32 `[channels, rows, columns]`."""
        pixel, polarity, within = pixels_of(
            events, self._rows, self._columns, self.downsampling_factor, by_polarity=self.split_polarity
        )
        t = events.t if within is None else events.t[within]
        channels_per_bin = 2 if self.split_polarity else 1
        earlier, share = _shares(t - start_us, self.delta_t, self.num_utbins)
        size = self.channels * self._size
        # A frame of saturated sums cares for the events' order only where they may cancel each other.
        order: Literal["C", "F"] = "C" if self.split_polarity else "F"
        cell, weight = _of_both_bins(pixel, earlier, share, self.num_utbins, channels_per_bin * self._size, order)
        if self.split_polarity:
            frame = histogram(cell, size, self._limit, self._limit, weight)
        else:
            limits = (-self._limit, self._limit)
            frame = difference(cell, np.repeat(polarity, 2), size, limits, self._limit, weight)
        return frame.reshape(self.channels, self._rows, self._columns)


def _shares(t: NDArray[np.int64], delta_t: int, num_utbins: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Returns the earlier of the two bins of every event, perhaps -1 or beyond the last, and the share of the later.

    Computed in whole numbers, in half µs times bins, so that the share is exact before it is rounded once.
    """
    position = t * (2 * num_utbins) - delta_t
    earlier = position // (2 * delta_t)
    position -= earlier * (2 * delta_t)
    return earlier.astype(np.intp, copy=False), (position / (2 * delta_t)).astype(np.float32)


def _of_both_bins(
    pixel: NDArray[np.intp],
    earlier: NDArray[np.intp],
    share: NDArray[np.float32],
    num_utbins: int,
    bin_size: int,
    order: Literal["C", "F"],
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Returns cells and weights of all events in both their bins, twice as many as there are events.

    What belongs to a bin that there is not gets weight 0 in a bin that there is, which adds nothing; that costs less
    than taking it out.

    Args:
        pixel: Place of every event within a bin.
        earlier: The earlier of its two bins.
        share: Its share of the later one.
        num_utbins: Number of bins.
        bin_size: How many cells a bin has.
        order: `F`: one event after the other. `C`: all earlier bins, then all later ones, which is faster.
    """
    cell, weight = np.empty((2, pixel.size), np.intp, order), np.empty((2, pixel.size), np.float32, order)
    np.subtract(1, share, out=weight[0])
    weight[1] = share
    for shift in (0, 1):
        which = cell[shift]
        np.add(earlier, shift, out=which)
        if which.size and (int(which.min()) < 0 or int(which.max()) >= num_utbins):
            weight[shift] *= (which >= 0) & (which < num_utbins)
            np.clip(which, 0, num_utbins - 1, out=which)
        which *= bin_size
        which += pixel
    return cell.ravel("K"), weight.ravel("K")
