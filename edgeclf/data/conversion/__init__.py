"""From recordings to tensor files."""

from __future__ import annotations

from edgeclf.data.conversion.frames import FrameRecipe, convert_events

__all__ = ["FrameRecipe", "convert_events"]
