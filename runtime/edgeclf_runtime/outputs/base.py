"""What every output of predictions has in common."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.closing import Closing
from edgeclf_runtime.streaming.prediction import StreamPrediction


class PredictionOutput(Closing):
    """Takes the predictions of some streams, as they come; a context manager that closes it.

    Within a stream they come in the order of their frames. A constructor raises a `UsageError` where nothing can be
    written to its place. What is full or fails later raises an `EdgeclfError`, once; what was written until then stays.
    """

    @abstractmethod
    def write(self, prediction: StreamPrediction, frame: NDArray[np.float32] | None = None) -> None:
        """Takes a prediction.

        Args:
            prediction: Of one frame of one stream.
            frame: Its event frame `[C, H, W]`; only videos look at it.

        Raises:
            EdgeclfError: Where it cannot be written.
        """

    @abstractmethod
    def close(self) -> None:
        """Writes what is left; more than once does no harm.

        Raises:
            EdgeclfError: Where it cannot be written.
        """
