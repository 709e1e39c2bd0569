"""What streaming says of each frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StreamPrediction:
    """What the classifier says of one frame of one stream; `to_dict` is a line of `edgeclf run-stream`'s output.

    Attributes:
        stream: Number of the stream, from 0.
        source: Its source's name.
        frame: Number of the frame in the stream, from 0; that of a frame which was dropped for want of time is missing.
        t_us: First µs after the frame's time slice, in the recording's own time.
        class_id: The most probable output.
        label: Its name.
        score: Its probability, to six decimals.
        accepted: Whether it is not background, and its score at or over the threshold.
        probabilities: Those of all outputs, to six decimals.
        reset: Whether the stream's memory was cleared before this frame.
        latency_us: Where time counts (a live source, or a recording at the sensor's speed): time from when the frame's
            last event was there to the prediction, in µs, all waiting included. Else, what preprocessing and inference
            took: how long a frame waits for its turn says nothing where all of a recording is there at once.
    """

    stream: int
    source: str
    frame: int
    t_us: int
    class_id: int
    label: str
    score: float
    accepted: bool
    probabilities: tuple[float, ...]
    reset: bool
    latency_us: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields under their fixed names."""
        return {
            "stream": self.stream,
            "source": self.source,
            "frame": self.frame,
            "t_us": self.t_us,
            "class_id": self.class_id,
            "label": self.label,
            "score": self.score,
            "accepted": self.accepted,
            "probabilities": list(self.probabilities),
            "reset": self.reset,
            "latency_us": round(self.latency_us),
        }
