"""A synthetic event data set: a hand that shows rock, paper or scissors before an event camera.

`silhouette` draws the hand, `scene` moves it through a recording and renders log-intensity, `simulator`
turns that into events, and `recording` puts the three together. `config` holds everything that can be set.
NumPy alone.
"""

from __future__ import annotations

from edgeclf.data.synth.config import SAMPLE_CONFIG, PixelConfig, SynthConfig
from edgeclf.data.synth.recording import GESTURES, GestureRecording, Segment, simulate_recording
from edgeclf.data.synth.simulator import EventSimulator

__all__ = [
    "GESTURES",
    "SAMPLE_CONFIG",
    "EventSimulator",
    "GestureRecording",
    "PixelConfig",
    "Segment",
    "SynthConfig",
    "simulate_recording",
]
