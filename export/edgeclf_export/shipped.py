"""What the project ships for people to try: a checkpoint, a recording, and a small data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeclf_runtime.errors import InputFileError


@dataclass(frozen=True)
class Samples:
    """What the project ships: a checkpoint, a recording, and a small data set."""

    checkpoint: Path
    recording: Path
    dataset: Path


def find_samples() -> Samples:
    """Returns the samples, inside the installed package or in the checkout.

    Raises:
        InputFileError: Where they are in neither.
    """
    here = Path(__file__).resolve()
    for folder in (here.parent / "samples", here.parents[2] / "samples"):
        if (folder / "gestures.ckpt").is_file():
            return Samples(folder / "gestures.ckpt", folder / "gestures.raw", folder / "gestures")
    raise InputFileError(f"{here.parent}: the samples are missing; install edgeclf again, or use a full checkout.")
