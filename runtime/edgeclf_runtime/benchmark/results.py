"""What a benchmark found: a row for each setting that was measured, and the document that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Pace = Literal["back-to-back", "paced"]
"""Whether a frame starts when the one before is done, or when it is due, one every `delta_t`."""


@dataclass(frozen=True)
class Setting:
    """What is measured: two rows of two runs are of the same thing where their settings are equal.

    Attributes:
        model: Name of the model: its file's, without the suffix.
        backend: `edgeclf` (this runtime), `ort` (bare `session.run`), `eager`, `torchscript`, `compile`, `metavision`,
            `openvino`, …
        device: What it really ran on: `cpu`, `cuda`, or the name of another execution provider.
        precision: Of the file: `fp32`, `fp16`, `int8`, …; `bf16` where the backend computes in it.
        threads: Threads of a step on the CPU.
        streams: Streams of a step.
        pace: How frames follow each other.
    """

    model: str
    backend: str
    device: str
    precision: str
    threads: int
    streams: int = 1
    pace: Pace = "back-to-back"

    @property
    def name(self) -> str:
        """What tables and messages call it."""
        counts = f"{self.threads} thread{'s' * (self.threads != 1)}, {self.streams} stream{'s' * (self.streams != 1)}"
        paced = ", paced" if self.pace == "paced" else ""
        return f"{self.model}: {self.backend} {self.precision} on {self.device}, {counts}{paced}"


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as the baseline a candidate is, by the medians: over 1 is faster.

    Attributes:
        median: The ratio of the medians of all frames of the run.
        low: Lower end of the 95 % bootstrap confidence interval.
        high: Upper end.
    """

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Latencies:
    """Percentiles of all steps of all processes of a setting, none left out, in µs (linear interpolation).

    Attributes:
        steps: How many there are.
        p50_us: Median.
        p95_us: 95th percentile.
        p99_us: 99th percentile.
        p999_us: 99.9th percentile.
        max_us: The slowest.
        counts: Number of steps in each bin of `edges_us`, for pictures.
        edges_us: Borders of the bins, evenly spaced on a logarithmic axis; one more than `counts`.
        burst_p50_us: Median of each burst, `[process][round]`: what a later run is compared by.
    """

    steps: int
    p50_us: float
    p95_us: float
    p99_us: float
    p999_us: float
    max_us: float
    counts: Sequence[int]
    edges_us: Sequence[float]
    burst_p50_us: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Result:
    """What was measured of a setting.

    Attributes:
        setting: What was measured.
        latencies: The steps' latencies.
        frames_per_second: Frames of all streams over the time that their steps took; for a paced run over the whole
            time.
        cpu_us_per_frame: CPU time of the process, all threads counted, over the frames of its bursts.
        first_us: The first step of all, median of the processes.
        load_ms: From a Python process that has started to a model that can run, the import of its program included;
            median of the processes.
        peak_rss_mb: The most memory that a process of it held, in MB (10⁶ bytes), the largest of the processes; without
            the event frames that it was given.
        energy_mj_per_frame: Energy of the whole package or board over the frames, in mJ; None where nothing tells.
        late: Share of a paced run's frames that ended after the next one was due; None where there was no pace.
        ratio: Against the baseline of its model, device, threads, streams and pace; None for the baseline itself, and
            where there is none.
        macs: Multiply-adds of a frame; None where they could not be counted.
        share_of_limit: Those over the best rate of this run on the same device with as many threads, as a share of the
            median: 1 would be a model that computes as fast as the largest matrix product; None where there is none,
            or where the file is not in fp32, as what reached that rate was.
    """

    setting: Setting
    latencies: Latencies
    frames_per_second: float
    cpu_us_per_frame: float
    first_us: float
    load_ms: float
    peak_rss_mb: float
    energy_mj_per_frame: float | None = None
    late: float | None = None
    ratio: Ratio | None = None
    macs: int | None = None
    share_of_limit: float | None = None


@dataclass(frozen=True)
class Stages:
    """How long the stages of a frame take when the runtime streams a recording, in µs: percentiles by stage.

    Attributes:
        model: Name of the model.
        threads: Threads of a step on the CPU.
        delta_t: What there is for a frame in µs.
        frames: Number of frames.
        stages: `decode`, `preprocess`, `inference` and `output`, each with `p50_us`, `p95_us`, `p99_us`, `max_us`.
    """

    model: str
    threads: int
    delta_t: int
    frames: int
    stages: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Limit:
    """The best rate that a large convolution or matrix product reached in the same run.

    Attributes:
        device: Where.
        threads: Threads on the CPU.
        gmacs_per_second: Billions of multiply-adds a second, of the fastest step of the fastest program.
        reached_by: What reached it, e.g. `ort conv 3×3`.
    """

    device: str
    threads: int
    gmacs_per_second: float
    reached_by: str


@dataclass(frozen=True)
class BenchReport:
    """A whole run.

    Attributes:
        machine: What it ran on, name and value, for people; also what the run was asked for.
        baseline: Name of the backend that ratios are against.
        timing_overhead_us: What timing a step that does nothing measures.
        results: A row a setting.
        stages: The budget of a frame, a model each.
        limits: The best rates.
        left_out: What was asked for and could not be measured: a name, and why.
    """

    machine: Mapping[str, Any]
    baseline: str
    timing_overhead_us: float
    results: Sequence[Result]
    stages: Sequence[Stages] = ()
    limits: Sequence[Limit] = ()
    left_out: Sequence[tuple[str, str]] = field(default=())
