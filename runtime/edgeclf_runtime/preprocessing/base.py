"""What a preprocessing is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.batch import Events


class Preprocessing(ABC):
    """Makes an event frame of the events of a time slice; built once per stream, called once per frame.

    Attributes:
        name: The name it is registered by.
        channels: Channels of its frames.
        value_range: Lowest and highest value that a frame can hold, given the arguments: no value lies outside of it.
            What stores or quantises frames goes by it; -inf or inf where nothing is known, which is what holds for a
            preprocessing of a user's own that does not set it.
        argument_aliases: Other names by which its arguments come in files and checkpoints, and its own name for each;
            None for one that has no influence on its frames and is left out. See `canonical_arguments`.
    """

    name: str
    channels: int
    value_range: tuple[float, float] = (-math.inf, math.inf)
    argument_aliases: ClassVar[Mapping[str, str | None]] = {}

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
