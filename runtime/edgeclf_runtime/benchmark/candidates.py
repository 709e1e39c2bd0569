"""What is measured: ways to run a classifier step after step, each opened in the process that measures it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from edgeclf_runtime.backends.base import Array
from edgeclf_runtime.benchmark.results import Setting
from edgeclf_runtime.closing import Closing


class Candidate(Closing):
    """A classifier that has been loaded, and its memory; a context manager that releases them.

    Attributes:
        device: What it really runs on: `cpu`, `cuda`, or the name of another provider.
    """

    device: str

    @abstractmethod
    def step(self, frames: Array) -> Array:
        """Runs on one frame of each stream, the state of the step before fed back; returns when the numbers are there.

        Args:
            frames: `[B, C, H, W]`, float32.

        Returns:
            Probabilities `[B, K]`.
        """

    @abstractmethod
    def reset(self) -> None:
        """Makes all streams start anew."""


Open = Callable[[], Candidate]
"""Loads a candidate, in the process that measures it; must be picklable (`functools.partial` of a function)."""


@dataclass(frozen=True)
class Contender:
    """A candidate that is to be measured.

    Attributes:
        setting: What it is called in the results; its device is what was asked for until it has been opened.
        opens: Loads it.
        macs: Multiply-adds of a frame of one stream; None where they are not known.
    """

    setting: Setting
    opens: Open
    macs: int | None = None
