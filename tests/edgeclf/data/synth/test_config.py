from __future__ import annotations

from typing import Any

import pytest

from edgeclf.data.synth.config import PixelConfig, SynthConfig
from edgeclf_runtime.errors import UsageError


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 0),
        ("step_us", 0),
        ("num_gestures", -1),
        ("gesture_us", (5_000, 900_000)),
        ("gesture_us", (900_000, 600_000)),
        ("pause_us", (-1, 10)),
        ("enter_fraction", (0.2, 0.5)),
        ("enter_fraction", (0.0, 0.2)),
        ("palm_px", (0.0, 10.0)),
        ("sway", (0.1, 0.9)),
        ("zoom", (0.0, 0.9)),
        ("softness_px", (0.5, 2.0)),
        ("softness_px", (1.0, 9.0)),
        ("contrast", (0.1, float("nan"))),
    ],
)
def test_a_scene_that_cannot_be_made_is_refused_by_the_settings_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"SynthConfig.{name} is"):
        SynthConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold_on", 0.0),
        ("threshold_off", -0.2),
        ("threshold_on", float("inf")),
        ("threshold_sigma", -0.1),
        ("refractory_us", -1),
        ("leak_rate_hz", -1.0),
        ("shot_noise_rate_hz", float("nan")),
    ],
)
def test_pixels_that_cannot_be_are_refused_by_the_settings_name(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"PixelConfig.{name} is"):
        PixelConfig(**{name: value})


def test_fingers_may_point_to_the_left_and_ranges_may_be_single_values() -> None:
    config = SynthConfig(rotation_deg=(-180.0, -90.0), pause_us=(0, 0))
    assert config.rotation_deg == (-180.0, -90.0)
