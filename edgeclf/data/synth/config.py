"""What can be set in the synthetic data set, with its units and defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import TypeAlias

from edgeclf_runtime.errors import UsageError

Range: TypeAlias = tuple[float, float]
"""Smallest and largest value of what is drawn uniformly from between them."""


@dataclass(frozen=True, slots=True)
class PixelConfig:
    """How a pixel of the event camera behaves. Thresholds are in units of log-intensity (natural logarithm).

    Attributes:
        threshold_on: Increase of log-intensity that makes an ON event; the mean over pixels.
        threshold_off: Decrease of log-intensity that makes an OFF event; the mean over pixels.
        threshold_sigma: Standard deviation of either threshold over pixels (Gaussian mismatch). v2e's
            default is 0.03 at thresholds of 0.2.
        refractory_us: Time after an event in which its pixel cannot make another, in µs.
        leak_rate_hz: Rate of the ON events that a pixel makes before a constant scene as its memory leaks.
        shot_noise_rate_hz: Rate of the noise events per pixel, of both polarities together.
    """

    threshold_on: float = 0.25
    threshold_off: float = 0.25
    threshold_sigma: float = 0.03
    refractory_us: int = 500
    leak_rate_hz: float = 0.05
    shot_noise_rate_hz: float = 0.1

    def __post_init__(self) -> None:
        for name in ("threshold_on", "threshold_off"):
            _check(_is_finite(getattr(self, name)) and getattr(self, name) > 0, name, self, "be more than 0")
        for name in ("threshold_sigma", "refractory_us", "leak_rate_hz", "shot_noise_rate_hz"):
            _check(_is_finite(getattr(self, name)) and getattr(self, name) >= 0, name, self, "not be negative")


@dataclass(frozen=True, slots=True)
class SynthConfig:
    """How recordings are made. A pair is the range from which each gesture's (or pause's) own value is drawn.

    Attributes:
        width: Columns of the sensor; 320 on a GenX320.
        height: Rows of the sensor; 320 on a GenX320.
        step_us: Time between two rendered pictures of a moving hand, in µs; times of events are interpolated
            between them.
        num_gestures: Gestures in a recording for which none are named.
        gesture_us: How long a gesture takes, entering and leaving included, in µs.
        pause_us: How long the background is alone before, between and after gestures, in µs.
        enter_fraction: Share of a gesture's time that the hand takes to enter, and again to leave; at most
            0.45.
        palm_px: The palm's width, in pixels of a 320-pixel sensor; it scales with the shorter side of others.
        rotation_deg: Direction of the fingers, clockwise from up, in degrees. The hand enters the way they
            point.
        sway: How far the hand swings around its place, in palm widths (amplitude).
        tremble_hz: Frequency of its swinging and turning, in Hz.
        turn_deg: How far it turns to either side meanwhile, in degrees.
        zoom: How far its size swings, as a fraction.
        softness_px: Width of the hand's edge (defocus), in pixels, 1 to 6.
        contrast: Difference of log-intensity between hand and background; its sign is drawn.
        shading: How much darker or brighter than its middle the hand gets towards its edge, in log-intensity.
        texture: Standard deviation of the static background's log-intensity.
        pixel: How pixels behave.
    """

    width: int = 320
    height: int = 320
    step_us: int = 1000
    num_gestures: int = 3
    gesture_us: Range = (600_000, 900_000)
    pause_us: Range = (200_000, 400_000)
    enter_fraction: Range = (0.2, 0.28)
    palm_px: Range = (56.0, 92.0)
    rotation_deg: Range = (-50.0, 50.0)
    sway: Range = (0.12, 0.26)
    tremble_hz: Range = (2.0, 4.0)
    turn_deg: Range = (3.0, 10.0)
    zoom: Range = (0.0, 0.06)
    softness_px: Range = (1.2, 3.0)
    contrast: Range = (0.5, 1.1)
    shading: Range = (0.0, 0.25)
    texture: Range = (0.03, 0.12)
    pixel: PixelConfig = field(default_factory=PixelConfig)

    def __post_init__(self) -> None:
        for name in ("width", "height", "step_us"):
            _check(getattr(self, name) >= 1, name, self, "be at least 1")
        _check(self.num_gestures >= 0, "num_gestures", self, "not be negative")
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple):
                ordered = len(value) == 2 and all(map(_is_finite, value)) and value[0] <= value[1]
                _check(ordered, item.name, self, "be two numbers, the smaller one first")
                _check(item.name == "rotation_deg" or value[0] >= 0, item.name, self, "not be negative")
        _check(self.gesture_us[0] >= 10 * self.step_us, "gesture_us", self, "be at least ten steps")
        _check(self.enter_fraction[0] >= 0.05, "enter_fraction", self, "be at least 0.05")
        _check(self.enter_fraction[1] <= 0.45, "enter_fraction", self, "be at most 0.45")
        _check(self.palm_px[0] >= 4, "palm_px", self, "be at least 4")
        # Beyond this a swinging hand could be out of sight in the middle of its gesture.
        _check(self.sway[1] <= 0.5, "sway", self, "be at most 0.5")
        _check(self.zoom[1] <= 0.5, "zoom", self, "be at most 0.5")
        _check(self.softness_px[0] >= 1, "softness_px", self, "be at least 1")
        _check(self.softness_px[1] <= 6, "softness_px", self, "be at most 6")


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _check(ok: bool, name: str, config: object, rule: str) -> None:
    """Raises a `UsageError` that names the setting and its rule, unless it is met."""
    if not ok:
        kind = type(config).__name__
        raise UsageError(f"{kind}.{name} is {getattr(config, name)!r}, but must {rule}; choose another value.")


SAMPLE_CONFIG = SynthConfig(
    gesture_us=(450_000, 480_000),
    pause_us=(100_000, 120_000),
    palm_px=(56.0, 66.0),
    sway=(0.12, 0.15),
    contrast=(0.5, 0.6),
)
"""Short recordings of few events, within the ranges of the default ones: three gestures take about 1.8 s and, as EVT3,
about 2 MB."""
