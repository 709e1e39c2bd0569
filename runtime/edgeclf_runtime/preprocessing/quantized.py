"""`histo_quantized` and `diff_quantized`: event frames as the GenX320 sensor makes them, counters of few bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.preprocessing.adding import difference, histogram
from edgeclf_runtime.preprocessing.arguments import flag, whole_number
from edgeclf_runtime.preprocessing.pixels import PixelPreprocessing, pixels_of
from edgeclf_runtime.preprocessing.resize import area_resize


class _QuantizedPreprocessing(PixelPreprocessing):
    """Counters of the sensor's own pixels that stop at what their bits hold; blocks of them are averaged afterwards."""

    # The names of the functions' own arguments; ours are those of Metavision's script `generate_hdf5.py`, which this
    # project's command line has taken over.
    argument_aliases: ClassVar[Mapping[str, str | None]] = {
        **PixelPreprocessing.argument_aliases,
        "negative_bit_length": "neg_bit_len_quantized",
        "total_bit_length": "total_bit_len_quantized",
        "normalization": "normalization_quantized",
    }

    def _pixels(self, events: Events, *, by_polarity: bool = False) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
        """Returns place and polarity of the events within the whole blocks, at the sensor's resolution."""
        factor = self.downsampling_factor
        pixel, polarity, _ = pixels_of(events, self._rows << factor, self._columns << factor, by_polarity=by_polarity)
        return pixel, polarity

    def _averaged(self, counts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the means of blocks, `[channels, rows, columns]`."""
        factor = self.downsampling_factor
        frames = counts.reshape(self.channels, self._rows << factor, self._columns << factor)
        return area_resize(frames, self._rows, self._columns)


class HistoQuantized(_QuantizedPreprocessing):
    """Histogram of events in counters of few bits, two channels: 0 the negative events, 1 the positive ones.

    A pixel's counters stop at `2**bits - 1`: `neg_bit_len_quantized` bits for negative events, the others of
    `total_bit_len_quantized` for positive ones. Frames smaller than the sensor hold the means of the counters in each
    block. Meaning is that of `metavision_ml.preprocessing.event_to_tensor.histo_quantized`, which follows the Histo3D
    frames of the GenX320 sensor.

    Args:
        sensor_size: Width and height of the sensor.
        delta_t: Duration of a slice in µs; has no influence on these frames.
        neg_bit_len_quantized: Bits of a negative counter, from 1 to 8.
        total_bit_len_quantized: Bits of both counters of a pixel, at most 8. With as many as the negative one has, the
            positive channel is all zeros.
        normalization_quantized: Values are divided by the larger of the two counters' highest values, so that one
            event is worth the same in both channels.
        downsampling_factor: Frames are `2**downsampling_factor` times smaller than the sensor in both directions.

    Raises:
        UsageError: Where an argument is out of range, or nothing would be left of the frame.
    """

    name = "histo_quantized"
    channels = 2

    def __init__(
        self,
        sensor_size: tuple[int, int],
        delta_t: int,
        *,
        neg_bit_len_quantized: int = 4,
        total_bit_len_quantized: int = 8,
        normalization_quantized: bool = False,
        downsampling_factor: int = 0,
    ) -> None:
        del delta_t  # every preprocessing is offered it; this one needs no time
        super().__init__(sensor_size, downsampling_factor)
        negative = whole_number(self.name, "neg_bit_len_quantized", neg_bit_len_quantized, lowest=1, highest=8)
        total = whole_number(self.name, "total_bit_len_quantized", total_bit_len_quantized, lowest=negative, highest=8)
        self.neg_bit_len_quantized, self.total_bit_len_quantized = negative, total
        self.normalization_quantized = flag(self.name, "normalization_quantized", normalization_quantized)
        self._highest = (2**negative - 1, 2 ** (total - negative) - 1)
        self._divisor = max(self._highest) if self.normalization_quantized else 1
        self.value_range = (0.0, max(self._highest) / self._divisor)

    def __call__(self, events: Events, start_us: int) -> NDArray[np.float32]:  # noqa: ARG002 - needs no time
        """Returns the frame, float32 `[2, rows, columns]`."""
        cell, _ = self._pixels(events, by_polarity=True)
        size = self._size << (2 * self.downsampling_factor)
        counts = histogram(cell, 2 * size, max(self._highest), 1)
        for highest, channel in zip(self._highest, np.split(counts, 2), strict=True):
            if highest < max(self._highest):
                np.minimum(channel, np.float32(highest), out=channel)
        frame = self._averaged(counts)
        if self._divisor != 1:
            frame /= np.float32(self._divisor)
        return frame


class DiffQuantized(_QuantizedPreprocessing):
    """Positive less negative events in a counter of few bits, one channel.

    A pixel's counter goes up with a positive and down with a negative event and stops at `2**(bits - 1) - 1` and
    `-2**(bits - 1)`, event by event, as a signed number of `bits = neg_bit_len_quantized` bits. Frames smaller than the
    sensor hold the means of the counters in each block. Meaning is that of
    `metavision_ml.preprocessing.event_to_tensor.diff_quantized`, which follows the Diff3D frames of the GenX320 sensor.

    Args:
        sensor_size: Width and height of the sensor.
        delta_t: Duration of a slice in µs; has no influence on these frames.
        neg_bit_len_quantized: Bits of the counter, its sign included, from 2 to 8.
        normalization_quantized: Values are divided by `2**(bits - 1)`: from -1 to a step below 1.
        downsampling_factor: Frames are `2**downsampling_factor` times smaller than the sensor in both directions.

    Raises:
        UsageError: Where an argument is out of range, or nothing would be left of the frame.
    """

    name = "diff_quantized"
    channels = 1

    def __init__(
        self,
        sensor_size: tuple[int, int],
        delta_t: int,
        *,
        neg_bit_len_quantized: int = 8,
        normalization_quantized: bool = False,
        downsampling_factor: int = 0,
    ) -> None:
        del delta_t  # every preprocessing is offered it; this one needs no time
        super().__init__(sensor_size, downsampling_factor)
        bits = whole_number(self.name, "neg_bit_len_quantized", neg_bit_len_quantized, lowest=2, highest=8)
        self.neg_bit_len_quantized = bits
        self.normalization_quantized = flag(self.name, "normalization_quantized", normalization_quantized)
        self._limits = (float(-(2 ** (bits - 1))), float(2 ** (bits - 1) - 1))
        self._divisor = 2 ** (bits - 1) if self.normalization_quantized else 1
        self.value_range = (self._limits[0] / self._divisor, self._limits[1] / self._divisor)

    def __call__(self, events: Events, start_us: int) -> NDArray[np.float32]:  # noqa: ARG002 - needs no time
        """Returns the frame, float32 `[1, rows, columns]`."""
        pixel, polarity = self._pixels(events)
        size = self._size << (2 * self.downsampling_factor)
        # Divided by a power of two at once: exact, and the means are the same.
        return self._averaged(difference(pixel, polarity, size, self._limits, self._divisor))
