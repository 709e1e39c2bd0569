"""What a preprocessing is."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.batch import Events


class Preprocessing(ABC):
    """Makes an event frame of the events of a time slice; built once per stream, called once per frame.

    Attributes:
        name: The name it is registered by.
        channels: Channels of its frames.
    """

    name: str
    channels: int

    @abstractmethod
    def frame_size(self, height: int, width: int) -> tuple[int, int]:
        """Returns the rows and columns of its frames for a sensor of `height` rows and `width` columns."""

    @abstractmethod
    def __call__(self, events: Events, start_us: int) -> NDArray[np.float32]:
        """Returns the frame of a time slice, an array of its own that the caller may keep or change.

        Args:
            events: The slice's events, in time order; perhaps none, which gives a frame of zeros.
            start_us: First µs of the slice, in the recording's own time, as the events' time-stamps are.

        Returns:
            float32 `[channels, rows, columns]`.
        """
