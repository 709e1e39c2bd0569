"""Streaming inference: frame after frame of some sources through one classifier, each with its own memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeclf_runtime.contract import BACKGROUND
from edgeclf_runtime.session import Classifier
from edgeclf_runtime.sources import Frame, FrameSource


@dataclass(frozen=True)
class StreamPrediction:
    """What the classifier says of one frame of one stream; `to_dict` is a line of `edgeclf run-stream`'s output."""

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
            "score": round(self.score, 6),
            "accepted": self.accepted,
            "probabilities": [round(p, 6) for p in self.probabilities],
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
        One prediction a frame and stream. Its latency is the time from a frame's last event to the prediction:
        preprocessing and inference, decoding left out.
    """
    classifier.reset()
    running: dict[int, Iterator[Frame]] = {i: iter(source) for i, source in enumerate(sources)}
    delta_s = classifier.contract.delta_t / 1e6
    started = time.monotonic()
    while True:
        frames = {i: frame for i, it in running.items() if (frame := next(it, None)) is not None}
        if not frames:
            return
        running = {i: running[i] for i in frames}
        if realtime:
            due = started + (max(frame.index for frame in frames.values()) + 1) * delta_s
            time.sleep(max(0.0, due - time.monotonic()))
        begin = time.perf_counter_ns()
        predictions = classifier.step(np.stack([frame.data for frame in frames.values()]), streams=list(frames))
        inference_us = (time.perf_counter_ns() - begin) / 1000
        for row, (stream, frame) in enumerate(frames.items()):
            class_id = int(predictions.class_ids[row])
            label = classifier.contract.labels[class_id]
            score = float(predictions.probabilities[row, class_id])
            yield StreamPrediction(
                stream=stream,
                source=str(sources[stream].path),
                frame=frame.index,
                t_us=frame.end_us,
                class_id=class_id,
                label=label,
                score=score,
                accepted=label != BACKGROUND and score >= threshold,
                probabilities=tuple(predictions.probabilities[row].tolist()),
                reset=frame.index == 0,
                latency_us=frame.preparation_us + inference_us,
            )
