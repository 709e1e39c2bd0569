"""Making event frames of events: preprocessings by name, and shrinking frames; NumPy alone, no torch."""

from __future__ import annotations

from edgeclf_runtime.preprocessing.base import Preprocessing
from edgeclf_runtime.preprocessing.diff import Diff
from edgeclf_runtime.preprocessing.event_cube import EventCube
from edgeclf_runtime.preprocessing.histo import Histo
from edgeclf_runtime.preprocessing.quantized import DiffQuantized, HistoQuantized
from edgeclf_runtime.preprocessing.registry import (
    ENTRY_POINT_GROUP,
    canonical_arguments,
    create_preprocessing,
    effective_arguments,
    preprocessing_names,
    register_preprocessing,
)
from edgeclf_runtime.preprocessing.resize import area_resize
from edgeclf_runtime.preprocessing.timesurface import MultiChannelTimeSurface, TimeSurface

__all__ = [
    "ENTRY_POINT_GROUP",
    "Diff",
    "DiffQuantized",
    "EventCube",
    "Histo",
    "HistoQuantized",
    "MultiChannelTimeSurface",
    "Preprocessing",
    "TimeSurface",
    "area_resize",
    "canonical_arguments",
    "create_preprocessing",
    "effective_arguments",
    "preprocessing_names",
    "register_preprocessing",
]
