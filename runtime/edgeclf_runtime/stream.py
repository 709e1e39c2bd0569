"""Streaming inference: frame after frame of some sources through one classifier, each with its own memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.contract import BACKGROUND
from edgeclf_runtime.errors import EdgeclfError, UsageError
from edgeclf_runtime.session import Classifier
from edgeclf_runtime.sources import Frame, FrameSource


@dataclass(frozen=True)
class StreamPrediction:
    """What the classifier says of one frame of one stream; `to_dict` is a line of `edgeclf run-stream`'s output.

    Attributes:
        stream: Number of the stream, from 0.
        source: Its file.
        frame: Number of the frame in the stream, from 0.
        t_us: First µs after the frame's time slice, in the recording's own time.
        class_id: The most probable output.
        label: Its name.
        score: Its probability, to six decimals.
        accepted: Whether it is not background, and its score at or over the threshold.
        probabilities: Those of all outputs, to six decimals.
        reset: Whether the stream's memory was cleared before this frame.
        latency_us: Time from the frame's last event to the prediction in µs, decoding left out.
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


def run_streams(
    classifier: Classifier, sources: Sequence[FrameSource], threshold: float = 0.0, realtime: bool = False
) -> Iterator[StreamPrediction]:
    """Runs the frames of all sources through a classifier, in step: frame k of every source makes one batch.

    A source that ends leaves the batch; the others go on.

    Args:
        classifier: Has as many streams as there are sources; they are reset first.
        sources: Where frames come from.
        threshold: Score from which a prediction that is not background is accepted.
        realtime: Hold every frame back until the sensor would have sent its last event.

    Yields:
        One prediction a frame and stream.

    Raises:
        UsageError: Where there are more sources than the classifier has streams.
        EdgeclfError: Where a source or the model fails; the predictions of the frames before have been yielded.
    """
    if len(sources) > classifier.streams:
        raise UsageError(f"The classifier keeps {classifier.streams} streams, and there are {len(sources)} sources.")
    classifier.reset()
    running: dict[int, Iterator[Frame]] = {i: iter(source) for i, source in enumerate(sources)}
    delta_s = classifier.contract.delta_t / 1e6
    started = time.monotonic()
    while True:
        frames = {i: frame for i, it in running.items() if (frame := next(it, None)) is not None}
        if not frames:
            return
        if realtime:
            due = started + (max(frame.index for frame in frames.values()) + 1) * delta_s
            time.sleep(max(0.0, due - time.monotonic()))
        begin = time.perf_counter_ns()
        predictions = classifier.step(np.stack([frame.data for frame in frames.values()]), streams=list(frames))
        inference_us = (time.perf_counter_ns() - begin) / 1000
        if not np.isfinite(predictions.probabilities).all():
            raise EdgeclfError(
                f"The model's probabilities for frame {max(frame.index for frame in frames.values())} are not numbers: "
                "its weights are damaged; export another checkpoint."
            )
        for row, (stream, frame) in enumerate(frames.items()):
            class_id = int(predictions.class_ids[row])
            label = classifier.contract.labels[class_id]
            probabilities = tuple(round(p, 6) for p in predictions.probabilities[row].tolist())
            score = probabilities[class_id]
            yield StreamPrediction(
                stream=stream,
                source=_as_text(sources[stream].path),
                frame=frame.index,
                t_us=frame.end_us,
                class_id=class_id,
                label=label,
                score=score,
                accepted=label != BACKGROUND and score >= threshold,
                probabilities=probabilities,
                reset=frame.index == 0,
                latency_us=frame.preparation_us + inference_us,
            )


def _as_text(path: Path) -> str:
    """Returns a path as text; bytes of its name that are no UTF-8, which JSON cannot hold, become question marks."""
    return str(path).encode("utf-8", "replace").decode()
