"""A whole measurement: contenders that take turns, and a result of each."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.backends.base import Array
from edgeclf_runtime.benchmark.bursts import Burst, FramesFile, MeasuredCandidate, Opening
from edgeclf_runtime.benchmark.candidates import Contender
from edgeclf_runtime.benchmark.results import Pace, Result, Setting
from edgeclf_runtime.benchmark.statistics import bootstrap_ratio, summed_up
from edgeclf_runtime.benchmark.turns import Request, Turns
from edgeclf_runtime.errors import UsageError

LIMIT = "limit:"
"""What the names of models begin with that are no classifiers, but measure what the machine can do at best."""

Progress = Callable[[int, int], None]
"""Called with how many steps of the measurement are done, and how many there are: processes and bursts."""

_MANY_PROCESSES = 64

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        frames: Steps of a burst.
        rounds: Bursts of each process.
        processes: Processes of each contender.
        warmup: Steps of each process after its first one and before its first burst.
        paced_frames: Steps of a burst at the pace of `delta_t`, which every round has besides; None: none are paced.
        seed: What the order of turns is shuffled by.
    """

    frames: int = 50
    rounds: int = 8
    processes: int = 3
    warmup: int = 20
    paced_frames: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        paced = 1 if self.paced_frames is None else self.paced_frames
        if min(self.frames, self.rounds, self.processes, paced) < 1 or self.warmup < 0:
            raise UsageError("A benchmark takes at least one frame, one round and one process.")


@dataclass(frozen=True)
class _Measured:
    """A result without its ratio, and the latencies that the ratio is of, `[process, round, step]`."""

    result: Result
    latencies_us: NDArray[np.float64]


def measure(
    contenders: Sequence[Contender],
    frames: Mapping[str, Array],
    delta_t: Mapping[str, int],
    plan: Plan,
    baseline: str,
    progress: Progress | None = None,
) -> tuple[list[Result], list[tuple[str, str]]]:
    """Measures contenders in one run, their bursts interleaved.

    Args:
        contenders: What is measured.
        frames: What each model runs on, `[N, C, H, W]`, by its name; each of several streams is a frame ahead of the
            one before. A burst starts with the first of them, and begins again where they are not enough.
        delta_t: How often a frame of each model is due in µs, by its name; a model without is not paced.
        plan: How much is measured.
        baseline: The backend that ratios are against.
        progress: Called at the start, and then now and again.

    Returns:
        A result of each contender and pace, in order; and the names of those that could not be measured, with the
        reason, a sentence each.
    """
    processes = plan.processes * len(contenders)
    if processes > _MANY_PROCESSES:
        _log.warning(
            "%d processes will hold a model each at the same time, %d for each of %d candidates; where memory runs "
            "out, measure fewer models, numbers of threads or of streams at once, or each in fewer processes.",
            processes, plan.processes, len(contenders),
        )  # fmt: skip
    requests = {k: _requests(contender, delta_t, plan) for k, contender in enumerate(contenders)}
    count = _Count(processes + plan.processes * plan.rounds * sum(map(len, requests.values())), progress)
    found: dict[tuple[int, Request], list[list[Burst]]] = {
        (k, request): [[] for _ in range(plan.processes)] for k, asked in requests.items() for request in asked
    }
    with tempfile.TemporaryDirectory() as folder:
        opens = _openers(contenders, frames, Path(folder), plan.warmup)
        with Turns(opens, plan.processes, plan.seed, count.add) as turns:
            for _ in range(plan.rounds):
                for k, process, request, burst in turns.round(requests):
                    found[k, request][process].append(burst)
                    count.add()
            openings: dict[int, list[Opening]] = {k: turns.ask(k, "opening") for k in opens}
            peaks: dict[int, list[int]] = {k: turns.ask(k, "peak_bytes") for k in opens}
            left_out = turns.left_out
    count.end()
    measured = [
        _measured(contenders[k], "paced" if pace_us else "back-to-back", bursts, openings[k], max(peaks[k]))
        for (k, (_, _, pace_us)), bursts in found.items()
        if k not in left_out
    ]
    return _with_ratios(measured, baseline), [(contenders[k].setting.name, why) for k, why in left_out.items()]


def _requests(contender: Contender, delta_t: Mapping[str, int], plan: Plan) -> list[Request]:
    """Returns what is asked of each process of a contender in every round."""
    bursts: list[Request] = [("burst", plan.frames, 0)]
    pace_us = delta_t.get(contender.setting.model)
    if plan.paced_frames is not None and pace_us is not None:
        bursts.append(("burst", plan.paced_frames, pace_us))
    return bursts


def _openers(
    contenders: Sequence[Contender], frames: Mapping[str, Array], folder: Path, warmup: int
) -> dict[int, partial[MeasuredCandidate]]:
    """Returns what loads each contender in its processes, after putting the frames where they all find them."""
    files = {}
    for number, model in enumerate(dict.fromkeys(contender.setting.model for contender in contenders)):
        most_streams = max(one.setting.streams for one in contenders if one.setting.model == model)
        files[model] = FramesFile.write(folder / f"{number}.npy", frames[model], most_streams)
    return {
        k: partial(MeasuredCandidate, one.opens, files[one.setting.model], one.setting.streams, warmup)
        for k, one in enumerate(contenders)
    }


def _measured(
    contender: Contender, pace: Pace, bursts: Sequence[Sequence[Burst]], openings: Sequence[Opening], peak_bytes: int
) -> _Measured:
    """Returns what the bursts of a contender come to, `[process][round]`."""
    streams = contender.setting.streams
    latencies_us = np.array([[burst.latencies_ns for burst in process] for process in bursts]) / 1000
    every = [burst for process in bursts for burst in process]
    frames = latencies_us.size * streams
    took_us = sum(burst.wall_ns for burst in every) / 1000 if pace == "paced" else float(latencies_us.sum())
    joules = [burst.joules for burst in every if burst.joules is not None]
    result = Result(
        setting=replace(contender.setting, device=openings[0].device, pace=pace),
        latencies=summed_up(latencies_us),
        frames_per_second=1e6 * frames / took_us,
        cpu_us_per_frame=sum(burst.cpu_ns for burst in every) / 1000 / frames,
        first_us=median(opening.first_ns for opening in openings) / 1000,
        load_ms=median(opening.load_ns for opening in openings) / 1e6,
        peak_rss_mb=peak_bytes / 1e6,
        energy_mj_per_frame=1000 * sum(joules) / frames if len(joules) == len(every) else None,
        late=float(np.mean([burst.late for burst in every])) if pace == "paced" else None,
        macs=contender.macs,
    )
    return _Measured(result, latencies_us)


def _with_ratios(measured: Sequence[_Measured], baseline: str) -> list[Result]:
    """Returns the results, each with the ratio to its baseline."""
    results = []
    for one in measured:
        against = _baseline_of(one.result.setting, measured, baseline)
        ratio = None
        if against is not None and against is not one:
            ratio = bootstrap_ratio(against.latencies_us, one.latencies_us)
        results.append(replace(one.result, ratio=ratio))
    return results


def _baseline_of(setting: Setting, measured: Sequence[_Measured], baseline: str) -> _Measured | None:
    """Returns what a setting is compared with: in fp32 where that was measured; None: with nothing."""

    def shared(other: Setting) -> tuple[object, ...]:
        return other.model, other.device, other.threads, other.streams, other.pace

    found = [
        one
        for one in measured
        if one.result.setting.backend == baseline
        and shared(one.result.setting) == shared(setting)
        and not setting.model.startswith(LIMIT)
    ]
    return min(found, key=lambda one: one.result.setting.precision != "fp32", default=None)


class _Count:
    """How far a measurement has come.

    Args:
        of: Steps that there are.
        progress: Told of it.
    """

    def __init__(self, of: int, progress: Progress | None) -> None:
        self._of = of
        self._done = 0
        self._progress = progress
        self._tell()

    def add(self) -> None:
        """Counts a step that has been done."""
        self._done += 1
        self._tell()

    def end(self) -> None:
        """Counts as done also what those would have been that were left out."""
        if self._done < self._of:
            self._done = self._of
            self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._done, self._of)
