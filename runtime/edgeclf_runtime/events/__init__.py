"""Reading event recordings: Prophesee RAW (EVT2, EVT2.1, EVT3) and DAT v2, in bounded memory, with NumPy alone."""

from __future__ import annotations

from edgeclf_runtime.events.batch import Events

__all__ = ["Events"]
