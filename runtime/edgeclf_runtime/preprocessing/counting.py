"""What `histo`, `diff` and `event_cube` share: how much an event adds to its pixel."""

from __future__ import annotations

from edgeclf_runtime.preprocessing.arguments import positive_number
from edgeclf_runtime.preprocessing.pixels import PixelPreprocessing


class CountingPreprocessing(PixelPreprocessing):
    """A preprocessing in which every event adds `1 / (max_incr_per_pixel · 4**downsampling_factor)` to its pixel.

    It works in counts of events, with `limit = max_incr_per_pixel · 4**downsampling_factor` of them for the value 1,
    and divides once at the end: that is exact where adding a rounded contribution many times is not.

    Args:
        sensor_size: Width and height of the sensor.
        delta_t: Duration of a slice in µs; has no influence on `histo` and `diff`.
        max_incr_per_pixel: Events that bring a pixel to 1, expressed in the sensor's resolution.
        downsampling_factor: Frames are `2**downsampling_factor` times smaller than the sensor in both directions.
            Events beyond the last whole pixel of the frame are dropped.

    Raises:
        UsageError: Where an argument is out of range, or nothing would be left of the frame.
    """

    def __init__(
        self,
        sensor_size: tuple[int, int],
        delta_t: int,
        *,
        max_incr_per_pixel: float = 5.0,
        downsampling_factor: int = 0,
    ) -> None:
        super().__init__(sensor_size, downsampling_factor)
        self.delta_t = delta_t
        self.max_incr_per_pixel = positive_number(self.name, "max_incr_per_pixel", max_incr_per_pixel)
        self._limit = self.max_incr_per_pixel * 4.0**self.downsampling_factor
