"""Parity reports of made-up logits: recordings as long and as many as wanted, and a second side with noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from edgeclf.evaluation import RecordingLogits
from edgeclf.utils_metrics import compute_kpis
from edgeclf_export.parity.report import Drift, KpiComparison, McNemar, ParityReport, Parting, Side

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


def parting(one: RecordingLogits, other: RecordingLogits, frame: int, labels: tuple[str, ...]) -> Parting:
    sides = [side.result() for side in (one, other)]
    return Parting(
        one.name,
        frame,
        None if one.end_us is None else int(one.end_us[frame]),
        *(labels[int(side.predictions[frame])] for side in sides),
        *(dict(zip(labels, side.probabilities[frame].tolist(), strict=True)) for side in sides),
    )


def report_of(
    reference: list[RecordingLogits],
    exported: list[RecordingLogits],
    labels: tuple[str, ...],
    delta_t: int | None = DELTA_T,
) -> ParityReport:
    """A report whose numbers are those of the logits, but for the drift, which is made up."""
    sides = [
        Side(name, recordings, compute_kpis([r.result() for r in recordings], labels, delta_t))
        for name, recordings in (("PyTorch", reference), ("model.int8.onnx, cpu", exported))
    ]
    apart = [
        (a, b, k)
        for a, b in zip(reference, exported, strict=True)
        for k in torch.nonzero(a.logits.argmax(1) != b.logits.argmax(1)).flatten().tolist()
    ]
    right = [
        (int(a.labels[k]) == int(a.logits[k].argmax()), int(b.labels[k]) == int(b.logits[k].argmax()))
        for a, b, k in apart
    ]
    furthest = max(
        ((a, b) for a, b in zip(reference, exported, strict=True)),
        key=lambda pair: float((pair[0].logits - pair[1].logits).abs().max()),
    )
    difference = (furthest[0].logits - furthest[1].logits).abs()
    longest = max(len(r.labels) for r in reference)
    drift = np.geomspace(1e-6, 1e-4, longest)
    return ParityReport(
        *sides,
        labels,
        delta_t,
        sum(len(r.labels) for r in reference),
        len(apart),
        0,
        float(difference.max()),
        {k: KpiComparison(v, sides[1].kpis[k], 1e-3) for k, v in sides[0].kpis.items()},
        parting(*apart[0], labels) if apart else None,
        parting(*furthest, int(difference.amax(1).argmax()), labels),
        McNemar(sum(a for a, _ in right), sum(b for _, b in right), 0.25 if any(map(any, right)) else 1.0),
        Drift(drift, 3 * drift, np.full(longest, len(reference)), 1e-6, 1e-4),
    )


def made_up(
    labels: tuple[str, ...], recordings: int = 8, frames: int = 60, noise: float = 0.8, seed: int = 0
) -> ParityReport:
    rng = np.random.default_rng(seed)
    reference = [recording(f"recording_{k:03}", frames, len(labels), rng) for k in range(recordings)]
    return report_of(reference, [with_noise(one, noise, rng) for one in reference], labels)
