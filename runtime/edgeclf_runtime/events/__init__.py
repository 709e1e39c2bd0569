"""Reading event recordings: Prophesee RAW (EVT2, EVT2.1, EVT3) and DAT v2, with NumPy, in bounded memory."""

from __future__ import annotations

from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.events.recording import Recording, open_recording

__all__ = ["Events", "Recording", "open_recording"]
