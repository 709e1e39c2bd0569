"""Memory policies: when a stream's memory is cleared while it runs."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.errors import UsageError

MemoryPolicyName = Literal["never", "low-activity", "every"]

Clears = Callable[[NDArray[np.float32]], bool]
"""Says of each frame of a stream, `[C, H, W]`, one after the other, whether memory is cleared before it."""


class MemoryPolicy(ABC):
    """When a stream's memory is cleared; at its start, it always is. What it is told stands in its fields.

    Attributes:
        name: What it is called in logs and summaries.
    """

    name: ClassVar[str]

    @abstractmethod
    def start(self) -> Clears:
        """Returns what watches one stream."""


@dataclass(frozen=True)
class NeverClear(MemoryPolicy):
    """Memory is cleared at the start only."""

    name = "never"

    def start(self) -> Clears:
        """Returns what clears nothing."""
        return lambda _frame: False

    def __str__(self) -> str:
        return "never"


@dataclass(frozen=True)
class ClearEvery(MemoryPolicy):
    """Memory is cleared every so many frames, those that were dropped not counted.

    Attributes:
        frames: How many.
    """

    frames: int
    name = "every"

    def __post_init__(self) -> None:
        _check_frames(self.frames)

    def start(self) -> Clears:
        """Returns what counts frames."""
        numbers = itertools.count()
        return lambda _frame: next(numbers) % self.frames == 0

    def __str__(self) -> str:
        return f"every {self.frames} frames"


@dataclass(frozen=True)
class ClearOnLowActivity(MemoryPolicy):
    """Memory is cleared once when the scene has gone quiet: before the last of so many quiet frames in a row.

    It is not cleared again before a frame that is not quiet has come. A pixel of a frame is active where any channel is
    not zero. How much of a frame noise alone makes active depends on the sensor, its biases and the frame's size, so
    the level wants to be measured on one's own camera; the one given here is a low one, which clears where next to
    nothing happens, for a memory that is cleared in the middle of a gesture does more harm than one that is kept.

    Attributes:
        level: Share of active pixels under which a frame is quiet.
        frames: How many of them in a row.
    """

    level: float = 0.01
    frames: int = 20
    name = "low-activity"

    def __post_init__(self) -> None:
        _check_frames(self.frames)
        if not 0 < self.level <= 1:
            raise UsageError(
                f"The share of active pixels under which a frame is quiet is over 0 up to 1: {self.level}."
            )

    def start(self) -> Clears:
        """Returns what counts quiet frames."""
        quiet = 0

        def clears(frame: NDArray[np.float32]) -> bool:
            nonlocal quiet
            active = np.count_nonzero(frame.any(axis=0))
            quiet = quiet + 1 if active < self.level * frame[0].size else 0
            return quiet == self.frames

        return clears

    def __str__(self) -> str:
        return f"low-activity (under {100 * self.level:g} % active pixels for {self.frames} frames)"


def memory_policy(name: MemoryPolicyName, frames: int | None = None, level: float | None = None) -> MemoryPolicy:
    """Returns a memory policy by its name.

    Args:
        name: `never`; `low-activity`: once when the scene has gone quiet; `every`: after a number of frames.
        frames: How many frames, for `low-activity` (None: its default) and `every`.
        level: Share of active pixels under which a frame is quiet, for `low-activity`; None: its default.

    Raises:
        UsageError: Where one is missing, does not belong to the policy, or is out of range.
    """
    if level is not None and name != "low-activity":
        raise UsageError(f"A level of activity is for the memory policy low-activity, not for {name}.")
    if name == "low-activity":
        default = ClearOnLowActivity()
        return ClearOnLowActivity(
            default.level if level is None else level, default.frames if frames is None else frames
        )
    if name == "every":
        if frames is None:
            raise UsageError("The memory policy every wants a number of frames.")
        return ClearEvery(frames)
    if frames is not None:
        raise UsageError("A number of frames is for the memory policies low-activity and every, not for never.")
    return NeverClear()


def _check_frames(frames: int) -> None:
    if frames < 1:
        raise UsageError(f"A memory policy counts 1 frame or more, not {frames}.")
