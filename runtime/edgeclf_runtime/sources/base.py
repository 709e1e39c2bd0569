"""What a source is: something that gives events, or event frames that were made before, one stream of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events import Events

if TYPE_CHECKING:  # h5py takes longer to import than a model to load
    from edgeclf_runtime.tensor_file import TensorAttributes


class Source(ABC):
    """One stream of events or frames. It is read once, from one thread; `close` may come from another.

    Attributes:
        name: What predictions and errors call it: the path, `-` for standard input, or the camera's name.
        is_live: Whether it gives what comes as it comes, and not as fast as it is read: a camera, a pipe, a file that
            grows. Nobody waits for a live source.
        sensor_size: Width and height of the sensor.
    """

    name: str
    is_live: bool = False
    sensor_size: tuple[int, int]

    @property
    def problems(self) -> list[str]:
        """What was wrong with it, a sentence each; complete once all has been read."""
        return []

    @property
    def damage(self) -> Mapping[str, int]:
        """What was wrong with it until now, counted by kind (`events outside the sensor`); only what occurred."""
        return {}

    def close(self) -> None:
        """Makes the iteration end soon, from whatever thread; what had been read before may still come out."""
        return


class EventSource(Source):
    """A source of events; iterating over it gives batches of them.

    A live source gives an empty batch now and then while there is nothing new, so that whoever reads can see to other
    things. Events that lie outside of the sensor do not come out.
    """

    @abstractmethod
    def __iter__(self) -> Iterator[Events]:
        """Yields the batches in the order in which they came."""

    @property
    def time_us(self) -> int | None:
        """The sensor's time as far as it is known to have come without any event; None where only events tell it."""
        return None


class FrameSource(Source):
    """A source of event frames that were made before, as in a tensor file.

    Attributes:
        made: How they were made.
        frame_shape: Channels, rows and columns.
    """

    made: TensorAttributes
    frame_shape: tuple[int, int, int]

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yields the first µs after each frame's time slice, and the frame, `[C, H, W]`."""
