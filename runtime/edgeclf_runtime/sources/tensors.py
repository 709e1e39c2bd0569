"""Tensor files as a source: event frames that were made before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.events.encoding import agreed_size
from edgeclf_runtime.sources.base import FrameSource
from edgeclf_runtime.tensor_file import TensorFile


class TensorSource(FrameSource):
    """The frames of a tensor file; it may be read again.

    Args:
        path: The file.
        sensor_size: Width and height of the sensor, if they are to be checked; the file states its own.

    Raises:
        InputFileError: Where the file is not there or is no tensor file.
        UsageError: Where the size contradicts the file.
    """

    def __init__(self, path: Path, sensor_size: tuple[int, int] | None = None) -> None:
        self._path = path
        self._closed = False
        self.name = str(path)
        with TensorFile(path) as file:
            self.made = file.attributes
            _, *shape = file.shape
        self.frame_shape = (shape[0], shape[1], shape[2])
        self.sensor_size = self.made.sensor_size
        agreed_size(path, self.sensor_size, sensor_size)

    def close(self) -> None:
        """Makes the iteration end with the frame that is being read."""
        self._closed = True

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yields the end of each frame and the frame."""
        with TensorFile(self._path, self.made) as file:
            for index, end_us in enumerate(file.frame_ends()):
                if self._closed:
                    return
                yield int(end_us), file.read(index, index + 1)[0]
