"""What happens in a process that measures: a candidate is loaded, runs its first steps, and then bursts of steps."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.backends.base import Array
from edgeclf_runtime.benchmark.candidates import Candidate, Open
from edgeclf_runtime.benchmark.turns import STARTED_NS
from edgeclf_runtime.machine.energy import EnergyMeter

_EMPTY_STEPS = 10_000


@dataclass(frozen=True)
class Opening:
    """How a candidate came up.

    Attributes:
        device: What it really runs on.
        load_ns: From the start of its process until it could run, without the loading of the frames.
        first_ns: Its first step.
    """

    device: str
    load_ns: int
    first_ns: int


@dataclass(frozen=True)
class Burst:
    """Steps that followed each other.

    Attributes:
        latencies_ns: Of each step, `[n]`.
        late: Share of them that ended after the next one was due; 0 where there was no pace.
        wall_ns: From before the first to after the last, waiting included.
        cpu_ns: CPU time of the process within that, all threads counted.
        joules: Energy of the whole package or board within that; None where nothing tells.
    """

    latencies_ns: NDArray[np.int64]
    late: float
    wall_ns: int
    cpu_ns: int
    joules: float | None


@dataclass(frozen=True)
class FramesFile:
    """Event frames that several processes share.

    Attributes:
        path: A `.npy` file `[count + most streams - 1, C, H, W]`: the frames, and the first ones again.
        count: How many frames there are.
    """

    path: Path
    count: int

    @classmethod
    def write(cls, path: Path, frames: Array, most_streams: int) -> FramesFile:
        """Writes frames `[N, C, H, W]` for steps of up to so many streams."""
        count = len(frames)
        np.save(path, frames[np.arange(count + most_streams - 1) % count], allow_pickle=False)
        return cls(path, count)

    def read(self, streams: int) -> tuple[list[Array], int]:
        """Returns the frames of each step, `[B, C, H, W]`, and the bytes that all together take.

        Every stream shows the same frames, each a step ahead of the one before.
        """
        # Mapped, so that many processes do not hold a copy each; and for writing, as PyTorch warns of what is not. All
        # of it is looked at now, so that no step has to wait for it.
        shared = np.asarray(np.load(self.path, mmap_mode="c"))
        shared.sum()
        return [shared[k : k + streams] for k in range(self.count)], shared.nbytes


class MeasuredCandidate:
    """Answers the requests of `Turns`: the name of a method and its arguments.

    Args:
        opens: Loads the candidate.
        frames: What it runs on.
        streams: Streams of a step.
        warmup: Steps after the first, before anything else is measured.
    """

    def __init__(self, opens: Open, frames: FramesFile, streams: int, warmup: int) -> None:
        begin = time.perf_counter_ns()
        self._frames, self._frames_bytes = frames.read(streams)
        frames_ns = time.perf_counter_ns() - begin
        self._candidate: Candidate = opens()
        load_ns = time.perf_counter_ns() - STARTED_NS - frames_ns
        first_ns = int(timed(self._candidate.step, self._first(1))[0][0])
        self._opening = Opening(self._candidate.device, load_ns, first_ns)
        timed(self._candidate.step, self._first(warmup))

    def __call__(self, what: str, *arguments: Any) -> Any:
        """Answers a request."""
        return getattr(self, what)(*arguments)

    def opening(self) -> Opening:
        """Returns how the candidate came up."""
        return self._opening

    def burst(self, steps: int, pace_us: int = 0) -> Burst:
        """Runs so many steps from zero state, back to back or one every `pace_us`."""
        self._candidate.reset()
        given = self._first(steps)
        # A meter for each burst: a Jetson's takes some of a core for as long as it is there.
        with EnergyMeter.find() or contextlib.nullcontext() as meter:
            before = meter.read() if meter else None
            cpu, begin = time.process_time_ns(), time.perf_counter_ns()
            latencies, late = timed(self._candidate.step, given, 1000 * pace_us)
            wall_ns, cpu_ns = time.perf_counter_ns() - begin, time.process_time_ns() - cpu
            after = meter.read() if meter else None
        joules = None if before is None or after is None else after - before
        return Burst(latencies, late, wall_ns, cpu_ns, joules)

    def peak_bytes(self) -> int:
        """Returns the most memory that the process held, without the frames that were given to it."""
        return max(0, peak_memory() - self._frames_bytes)

    def _first(self, steps: int) -> list[Array]:
        """Returns the frames of the first so many steps, from the start again where there are not enough."""
        return [self._frames[k % len(self._frames)] for k in range(steps)]


def timed(step: Callable[[Any], object], given: Sequence[Any], pace_ns: int = 0) -> tuple[NDArray[np.int64], float]:
    """Times each step alone.

    Args:
        step: What is timed.
        given: What each step is given.
        pace_ns: A step is due so often, and begins then or, where it is later, once the one before has ended. 0: each
            begins as soon as the one before has ended.

    Returns:
        The latencies in ns, from the begin of each step to its end; and the share of steps that ended after the next
        one was due, 0 without a pace.
    """
    latencies = np.empty(len(given), np.int64)
    late = 0
    due = time.perf_counter_ns()
    for k, frames in enumerate(given):
        if pace_ns:
            due += pace_ns
            time.sleep(max(0, due - time.perf_counter_ns()) / 1e9)
        begin = time.perf_counter_ns()
        step(frames)
        end = time.perf_counter_ns()
        latencies[k] = end - begin
        late += pace_ns > 0 and end > due + pace_ns
    return latencies, late / max(1, len(given))


def timing_overhead_us() -> float:
    """Returns what the timing itself measures: the median of steps that do nothing, in µs."""
    latencies, _ = timed(lambda _frames: None, [None] * _EMPTY_STEPS)
    return float(np.median(latencies)) / 1000


def peak_memory() -> int:
    """Returns the most memory that this process has held at once, in bytes."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        # Linux's ru_maxrss begins with the memory of the process that started this one.
        return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
