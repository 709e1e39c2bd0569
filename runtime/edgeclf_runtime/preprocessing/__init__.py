"""Making event frames of events: preprocessings by name, and shrinking frames; NumPy alone, no torch."""

from __future__ import annotations

from edgeclf_runtime.preprocessing.base import Preprocessing
from edgeclf_runtime.preprocessing.diff import Diff
from edgeclf_runtime.preprocessing.histo import Histo
from edgeclf_runtime.preprocessing.registry import (
    create_preprocessing,
    effective_arguments,
    preprocessing_names,
    register_preprocessing,
)
from edgeclf_runtime.preprocessing.resize import area_resize

__all__ = [
    "Diff",
    "Histo",
    "Preprocessing",
    "area_resize",
    "create_preprocessing",
    "effective_arguments",
    "preprocessing_names",
    "register_preprocessing",
]
