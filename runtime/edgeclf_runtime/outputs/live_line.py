"""What is being predicted, as a line in the terminal."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.console import clear_live, show_live
from edgeclf_runtime.outputs.base import PredictionOutput
from edgeclf_runtime.streaming.prediction import StreamPrediction
from edgeclf_runtime.streaming.statistics import RunStatistics

_REFRESH_S = 0.1
_RATE_OVER = 20
"""Refreshes over which frames a second are counted: two seconds, where frames come fast enough."""


class LiveLine(PredictionOutput):
    """Shows the totals of the run, and the latest label and score of each stream, ten times a second at most.

    Only where standard error is a terminal, and not with `-q`; what `say` and the log write goes before it.

    Args:
        statistics: What the run counts.
    """

    def __init__(self, statistics: RunStatistics) -> None:
        self._statistics = statistics
        self._latest: list[StreamPrediction | None] = [None] * len(statistics.streams)
        self._counted: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=_RATE_OVER)

    def write(self, prediction: StreamPrediction, frame: NDArray[np.float32] | None = None) -> None:  # noqa: ARG002 - text only
        """Takes a prediction, and shows the line where it is time to."""
        self._latest[prediction.stream] = prediction
        now = time.monotonic()
        if now - self._counted[-1][0] >= _REFRESH_S:
            show_live(self._text(now))

    def close(self) -> None:
        """Takes the line away."""
        clear_live()

    def _text(self, now: float) -> str:
        streams = self._statistics.streams
        frames = sum(stream.frames for stream in streams)
        since, before = self._counted[0]
        self._counted.append((now, frames))
        late, dropped, merged = (
            sum(getattr(stream, name) for stream in streams) for name in ("misses", "drops", "merges")
        )
        parts = [f"{frames} frames", f"{(frames - before) / (now - since):.1f}/s"]
        parts += [
            f"{count} {what}" for count, what in ((late, "late"), (dropped, "dropped"), (merged, "merged")) if count
        ]
        for number, prediction in enumerate(self._latest):
            which = f"{number}: " if len(streams) > 1 else ""
            parts.append(which + ("–" if prediction is None else f"{prediction.label} {prediction.score:.2f}"))
        return "  ".join(parts)
