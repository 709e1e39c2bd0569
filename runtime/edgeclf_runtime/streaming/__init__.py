"""Streaming inference: many streams through one classifier, in time, each with its own memory."""

from edgeclf_runtime.streaming.memory import (
    ClearEvery,
    ClearOnLowActivity,
    MemoryPolicy,
    MemoryPolicyName,
    NeverClear,
    memory_policy,
)
from edgeclf_runtime.streaming.options import StreamOptions, WhenLate
from edgeclf_runtime.streaming.prediction import StreamPrediction
from edgeclf_runtime.streaming.run import StreamRun, run_streams
from edgeclf_runtime.streaming.statistics import RunStatistics, StreamStatistics

__all__ = [
    "ClearEvery",
    "ClearOnLowActivity",
    "MemoryPolicy",
    "MemoryPolicyName",
    "NeverClear",
    "RunStatistics",
    "StreamOptions",
    "StreamPrediction",
    "StreamRun",
    "StreamStatistics",
    "WhenLate",
    "memory_policy",
    "run_streams",
]
