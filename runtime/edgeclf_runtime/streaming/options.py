"""How streams are run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.streaming.memory import MemoryPolicy, NeverClear

WhenLate = Literal["block", "drop-oldest", "merge"]


@dataclass(frozen=True)
class StreamOptions:
    """How streams are run.

    Attributes:
        threshold: Score from which a prediction that is not background is accepted.
        realtime: Hold every frame of a recording back until the sensor would have sent its last event.
        when_late: What becomes of the slices of a stream for which inference has no time yet, once `queue` of them
            wait. `block`: the source waits, nothing is lost, and predictions come ever later. `drop-oldest`: the
            oldest is left out. `merge`: the newest takes up the events of the one that comes. It counts for live
            sources and with `realtime`; of a recording that is read as fast as it goes, nothing is ever lost. `block`
            is the default since a live source may well be one that can wait, a pipe or a file that grows, and nothing
            should be lost without having been given up by name.
        max_wait_s: How long a frame that is ready waits at most for those of other streams that are due with it, so
            that they make one batch. None: recordings that are read as fast as they go wait for one another, so that
            frame k of all makes one batch and a replay gives the same again; all others wait 2 ms.
        memory: When a stream's memory is cleared: one policy for all, or one a stream.
        stall_after_s: Silence of a source, a live one or one that others wait for, after which it is reported.
        queue: Slices of a stream that wait for preprocessing at most.
    """

    threshold: float = 0.0
    realtime: bool = False
    when_late: WhenLate = "block"
    max_wait_s: float | None = None
    memory: MemoryPolicy | Sequence[MemoryPolicy] = field(default_factory=NeverClear)
    stall_after_s: float = 5.0
    queue: int = 2

    def __post_init__(self) -> None:
        for name, is_right in (
            ("threshold", 0 <= self.threshold <= 1),
            ("max_wait_s", self.max_wait_s is None or self.max_wait_s >= 0),
            ("stall_after_s", self.stall_after_s > 0),
            ("queue", self.queue >= 1),
        ):
            if not is_right:
                raise UsageError(f"{name} cannot be {getattr(self, name)}: it is out of range.")

    def memory_of(self, streams: int) -> list[MemoryPolicy]:
        """Returns the memory policy of each of so many streams.

        Raises:
            UsageError: Where another number of policies was given.
        """
        if isinstance(self.memory, MemoryPolicy):
            return [self.memory] * streams
        if len(self.memory) != streams:
            raise UsageError(f"There are {streams} sources and {len(self.memory)} memory policies; give one a source.")
        return list(self.memory)
