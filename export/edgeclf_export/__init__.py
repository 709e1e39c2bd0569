"""The bridge: from a training checkpoint to files that run on a device, each validated and checked for parity."""

from __future__ import annotations
