"""The bridge: from a training checkpoint to files that run on a device, each validated and checked for parity."""

from __future__ import annotations

import edgeclf_runtime  # noqa: F401 - before ONNX Runtime, which then reports to nobody
