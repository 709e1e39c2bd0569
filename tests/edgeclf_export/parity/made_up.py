"""Parity reports of made-up logits: recordings as long and as many as wanted, and a second side with noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from edgeclf.evaluation import RecordingLogits
from edgeclf_export.parity import ParityReport, compare
from edgeclf_export.parity.report import Drift, Side

FOUR = ("background", "paper", "rock", "scissors")
ELEVEN = ("background", *map(str, range(10)))
DELTA_T = 20_000


def recording(name: str, frames: int, classes: int, rng: np.random.Generator) -> RecordingLogits:
    """A gesture between pauses, mostly named rightly after its first frames; the first frame has no label."""
    labels = np.zeros(frames, np.int64)
    labels[frames // 5 : 4 * frames // 5] = 1 + rng.integers(classes - 1)
    late = np.roll(labels, rng.integers(0, max(2, frames // 10)))
    logits = rng.normal(size=(frames, classes))
    logits[np.arange(frames), late] += 3.5
    labels[0] = -1
    ends = torch.arange(1, frames + 1) * DELTA_T + 1_000_000
    return RecordingLogits(name, torch.from_numpy(labels), torch.from_numpy(logits).float(), f"{name}.h5", ends)


def with_noise(one: RecordingLogits, noise: float, rng: np.random.Generator) -> RecordingLogits:
    return replace(one, logits=one.logits + noise * torch.from_numpy(rng.normal(size=one.logits.shape)).float())


def report_of(
    reference: list[RecordingLogits],
    exported: list[RecordingLogits],
    labels: tuple[str, ...],
    delta_t: int | None = DELTA_T,
) -> ParityReport:
    """A report whose numbers are those of the logits, but for the drift, which is made up."""
    longest = max(len(r.labels) for r in reference)
    drift = np.geomspace(1e-6, 1e-4, longest)
    return compare(
        Side.of("PyTorch", reference, labels, delta_t),
        Side.of("model.int8.onnx, cpu", exported, labels, delta_t),
        labels,
        delta_t,
        drift=Drift(drift, 3 * drift, np.full(longest, len(reference)), 1e-6, 1e-4),
    )


def made_up(
    labels: tuple[str, ...], recordings: int = 8, frames: int = 60, noise: float = 0.8, seed: int = 0
) -> ParityReport:
    rng = np.random.default_rng(seed)
    reference = [recording(f"recording_{k:03}", frames, len(labels), rng) for k in range(recordings)]
    return report_of(reference, [with_noise(one, noise, rng) for one in reference], labels)
