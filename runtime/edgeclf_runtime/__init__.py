"""What a device runs: event recordings to event frames to predictions, with NumPy and ONNX Runtime and no torch."""

from __future__ import annotations

import os

# From 1.32 on, ONNX Runtime's own wheels send Microsoft what they are used for, and keep a data base and an identity of
# the device in the home folder, unless this is set before it is imported. Who wants that sets it to 0.
# Source: https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
