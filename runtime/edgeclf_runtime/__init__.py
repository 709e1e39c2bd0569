"""What a device runs: event recordings to event frames to predictions, with NumPy and ONNX Runtime and no torch."""

from __future__ import annotations
