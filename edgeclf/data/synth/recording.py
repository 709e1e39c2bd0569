"""A synthetic recording: events of a few gestures, and when which is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgeclf.data.synth.config import SynthConfig
from edgeclf.data.synth.scene import Scene, Segment
from edgeclf.data.synth.silhouette import GESTURES
from edgeclf.data.synth.simulator import EventSimulator
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.events.batch import Events

__all__ = ["GESTURES", "GestureRecording", "Segment", "simulate_recording"]


@dataclass(frozen=True, slots=True, eq=False)
class GestureRecording:
    """Events and labels of a recording.

    Attributes:
        events: Its events, sorted by time, at times 0 to `duration_us` (not included).
        duration_us: How long it lasts, in µs.
        segments: When which gesture is shown, in order; the background is alone at all other times.
    """

    events: Events
    duration_us: int
    segments: tuple[Segment, ...]


def simulate_recording(
    seed: int | np.random.SeedSequence,
    gestures: Sequence[int] | None = None,
    config: SynthConfig | None = None,
) -> GestureRecording:
    """Returns the recording that belongs to a seed.

    The same seed, gestures and settings give the same recording, bit for bit, in any process (with the same
    NumPy: its generators' streams may change between versions). Scene and pixels draw from separate
    streams, so that other settings of the pixels show the same scene.

    Args:
        seed: A number of 0 or more, or a seed sequence; of the latter nothing is used up.
        gestures: Class ids (indices into `GESTURES`) of the gestures to show, in order. By default, as many
            as `config.num_gestures` says, each drawn independently of the others, so that none can be told
            from those before it.
        config: How to make it; by default, as `SynthConfig()` says.

    Raises:
        UsageError: A gesture's id is unknown, or the seed is negative.
    """
    config = SynthConfig() if config is None else config
    script_rng, scene_rng, pixel_rng = map(np.random.default_rng, _streams(seed, 3))
    if gestures is None:
        gestures = [int(g) for g in script_rng.integers(0, len(GESTURES), config.num_gestures)]
    for gesture in gestures:
        if gesture not in range(len(GESTURES)):
            names = ", ".join(f"{i} ({name})" for i, name in enumerate(GESTURES))
            raise UsageError(f"There is no gesture {gesture}; choose from {names}.")
    scene = Scene(config, gestures, scene_rng)

    frames = scene.frames()
    start_us, first = next(frames)
    simulator = EventSimulator(config.pixel, first, pixel_rng, start_us)
    events = Events.concatenate(simulator.step(t, picture) for t, picture in frames)
    return GestureRecording(events, scene.duration_us, scene.segments())


def _streams(seed: int | np.random.SeedSequence, count: int) -> list[np.random.SeedSequence]:
    """Returns `count` independent seed sequences that depend on `seed` alone."""
    if not isinstance(seed, np.random.SeedSequence):
        if seed < 0:
            raise UsageError(f"The seed is {seed}, but must not be negative; choose another.")
        seed = np.random.SeedSequence(seed)
    # Spawning from the caller's own would advance its counter, and give other children the next time.
    fresh = np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key, pool_size=seed.pool_size)
    return fresh.spawn(count)
