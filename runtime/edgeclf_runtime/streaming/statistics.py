"""What is counted and measured while streams run; its memory does not grow with them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeclf_runtime.frames import FrameStream
from edgeclf_runtime.latency import LatencyHistogram


@dataclass
class StreamStatistics:
    """What happened in one stream.

    Attributes:
        source: Where its frames come from.
        memory: The name of its memory policy.
        predictions: Number of frames by label.
        misses: Predictions that came more than `delta_t` after their frame was due, where time counts.
        drops: Slices that were left out for want of time.
        merges: Slices whose events went into the next one for want of time.
        resets: Times that its memory was cleared, that at the start included.
        stalls: Times that its source fell silent, where others wait for it or it is live.
        failure: Why it ended before its source did; None where it did not.
        decode: The processor's time that reading and slicing took, a slice each; not the time that it waited for
            events, which is the sensor's.
        preprocess: How long frames took to make.
        first_us: The start of its first slice, in the recording's own time.
        last_us: The end of the latest slice that a prediction covers.
    """

    source: FrameStream[Any]
    memory: str
    predictions: Counter[str] = field(default_factory=Counter)
    misses: int = 0
    drops: int = 0
    merges: int = 0
    resets: int = 0
    stalls: int = 0
    failure: Exception | None = None
    decode: LatencyHistogram = field(default_factory=LatencyHistogram)
    preprocess: LatencyHistogram = field(default_factory=LatencyHistogram)
    first_us: int | None = None
    last_us: int | None = None

    @property
    def frames(self) -> int:
        """Number of predictions."""
        return self.predictions.total()

    @property
    def sensor_time_s(self) -> float:
        """How much of the sensor's time the predictions cover."""
        return 0.0 if self.first_us is None or self.last_us is None else (self.last_us - self.first_us) / 1e6

    def to_dict(self) -> dict[str, Any]:
        """Returns them as they stand in the summary."""
        return {
            "source": self.source.name,
            "frames": self.frames,
            "predictions": dict(self.predictions.most_common()),
            "misses": self.misses,
            "drops": self.drops,
            "merges": self.merges,
            "resets": self.resets,
            "stalls": self.stalls,
            "damage": dict(self.source.damage),
            "memory": self.memory,
            "failure": None if self.failure is None else str(self.failure) or type(self.failure).__name__,
        }


@dataclass
class RunStatistics:
    """What happened in a run.

    Attributes:
        device: Where the model runs.
        streams: What happened in each stream.
        latency: The predictions' latencies.
        inference: How long the model's steps took, a batch each.
        output: How long whoever takes the predictions was busy with each.
    """

    device: str
    streams: Sequence[StreamStatistics]
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)
    inference: LatencyHistogram = field(default_factory=LatencyHistogram)
    output: LatencyHistogram = field(default_factory=LatencyHistogram)
    _began: float | None = None
    _ended: float | None = None

    def begin(self) -> None:
        """Starts the clock."""
        self._began = time.monotonic()

    def end(self) -> None:
        """Stops the clock."""
        self._ended = time.monotonic()

    @property
    def has_begun(self) -> bool:
        """Whether the clock was started."""
        return self._began is not None

    @property
    def duration_s(self) -> float:
        """How long it has been running, or ran."""
        if self._began is None:
            return 0.0
        return (time.monotonic() if self._ended is None else self._ended) - self._began

    @property
    def real_time_factor(self) -> float:
        """Seconds of the sensor's time that went through a second, in the stream that got furthest."""
        furthest = max((stream.sensor_time_s for stream in self.streams), default=0.0)
        return furthest / self.duration_s if furthest else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns the summary as it stands in JSON."""
        stages = {
            "decode": LatencyHistogram.joined(stream.decode for stream in self.streams),
            "preprocess": LatencyHistogram.joined(stream.preprocess for stream in self.streams),
            "inference": self.inference,
            "output": self.output,
        }
        return {
            "device": self.device,
            "frames": sum(stream.frames for stream in self.streams),
            "duration_s": round(self.duration_s, 6),
            "real_time_factor": round(self.real_time_factor, 6),
            "latency": _percentiles(self.latency),
            "stages": {name: _percentiles(histogram) for name, histogram in stages.items()},
            "streams": [stream.to_dict() for stream in self.streams],
        }


def _percentiles(histogram: LatencyHistogram) -> dict[str, Any] | None:
    summary = histogram.summary()
    return None if summary is None else asdict(summary)
