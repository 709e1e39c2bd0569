"""Where events and frames come from."""

from __future__ import annotations

from edgeclf_runtime.sources.arrays import IteratorSource
from edgeclf_runtime.sources.base import EventSource, FrameSource, Source
from edgeclf_runtime.sources.registry import SourceFactory, open_source, register_source, source_names

__all__ = [
    "EventSource",
    "FrameSource",
    "IteratorSource",
    "Source",
    "SourceFactory",
    "open_source",
    "register_source",
    "source_names",
]
