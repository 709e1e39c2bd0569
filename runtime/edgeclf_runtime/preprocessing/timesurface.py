"""`timesurface` and `multi_channel_timesurface`: when in the slice a pixel saw its last event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.preprocessing.arguments import flag, whole_number
from edgeclf_runtime.preprocessing.pixels import PixelPreprocessing, pixels_of


class _LinearTimeSurface(PixelPreprocessing):
    """Linear time surfaces of micro time bins: a pixel holds the time of its last event in the bin since its start.

    Channels are `2 · bin + polarity`, the negative events' first in each bin. Bin `b` of `n` holds the events with
    `b · delta_t <= (t - start) · n < (b + 1) · delta_t`; the bins need not be a whole number of µs long, and
    no event is put into a neighbouring one by rounding. Events outside of the slice, of which a stream that does not
    keep time order may hold some, are dropped: a surface has no value for them.
    """

    # Metavision hands it to every preprocessing that is not quantised, and its time surfaces take no notice.
    argument_aliases: ClassVar[Mapping[str, str | None]] = {
        **PixelPreprocessing.argument_aliases,
        "max_incr_per_pixel": None,
    }

    _delta_t: int
    _bins: int
    _unit_us: float  # the values' unit is so many µs

    def __call__(self, events: Events, start_us: int) -> NDArray[np.float32]:
        """Returns the frame, float32 `[channels, rows, columns]`."""
        t = events.t - start_us
        if t.size and (int(t.min()) < 0 or int(t.max()) >= self._delta_t):
            inside = (t >= 0) & (t < self._delta_t)
            events, t = events[inside], t[inside]
        cell, _, within = pixels_of(events, self._rows, self._columns, self.downsampling_factor, by_polarity=True)
        if within is not None:
            t = t[within]
        if self._bins > 1:
            t *= self._bins
            micro = t // self._delta_t
            t -= micro * self._delta_t
            micro *= 2 * self._size
            cell += micro
        frame = np.zeros(self.channels * self._size, np.float32)
        # Where an index comes several times, NumPy leaves behind the value that comes last: that of the latest event.
        frame[cell] = (t / (self._unit_us * self._bins)).astype(np.float32)
        return frame.reshape(self.channels, self._rows, self._columns)


class TimeSurface(_LinearTimeSurface):
    """Linear time surface, two channels: 0 of the negative events, 1 of the positive ones.

    A pixel holds the time of its last event of that polarity since the slice's start, and 0 where there was none; an
    event in the slice's first µs is no different from none. Meaning and arguments are those of
    `metavision_ml.preprocessing.event_to_tensor.timesurface`.

    Args:
        sensor_size: Width and height of the sensor.
        delta_t: Duration of a slice in µs.
        downsampling_factor: Frames are `2**downsampling_factor` times smaller than the sensor in both directions; the
            last event of a block of pixels is what counts.
        normed: Times are in slices, from 0 to below 1; else in µs.

    Raises:
        UsageError: Where an argument is out of range, or nothing would be left of the frame.
    """

    name = "timesurface"
    channels = 2

    def __init__(
        self, sensor_size: tuple[int, int], delta_t: int, *, downsampling_factor: int = 0, normed: bool = True
    ) -> None:
        super().__init__(sensor_size, downsampling_factor)
        self.normed = flag(self.name, "normed", normed)
        self._delta_t, self._bins = delta_t, 1
        self._unit_us = float(delta_t) if self.normed else 1.0
        self.value_range = (0.0, 1.0 if self.normed else float(delta_t - 1))


class MultiChannelTimeSurface(_LinearTimeSurface):
    """Linear time surfaces of micro time bins, two channels each: `2 · bin + polarity`; values from 0 to below 1.

    The slice is cut into `num_utbins` bins of equal length; a pixel of a bin holds the time of its last event in it
    since the bin's start, in bins, and 0 where there was none. Meaning is that of
    `metavision_ml.preprocessing.event_to_tensor.multi_channel_timesurface`, which takes the number of bins from the
    number of channels of its output: 6 by default, so 3 bins.

    Args:
        sensor_size: Width and height of the sensor.
        delta_t: Duration of a slice in µs.
        num_utbins: Number of micro time bins, 1 or more; there are twice as many channels.
        downsampling_factor: Frames are `2**downsampling_factor` times smaller than the sensor in both directions; the
            last event of a block of pixels is what counts.

    Raises:
        UsageError: Where an argument is out of range, or nothing would be left of the frame.
    """

    name = "multi_channel_timesurface"
    value_range = (0.0, 1.0)

    def __init__(
        self, sensor_size: tuple[int, int], delta_t: int, *, num_utbins: int = 3, downsampling_factor: int = 0
    ) -> None:
        super().__init__(sensor_size, downsampling_factor)
        self.num_utbins = whole_number(self.name, "num_utbins", num_utbins, lowest=1, highest=1000)
        self.channels = 2 * self.num_utbins
        self._delta_t, self._bins = delta_t, self.num_utbins
        # (t · bins - bin · delta_t) / delta_t is the time within the bin, in bins.
        self._unit_us = delta_t / self.num_utbins
