"""A benchmark from beginning to end: real frames, all contenders in one interleaved run, the limit, the stages."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeclf_export.benchmark.request import BenchRequest, Model, contenders_of, models_of
from edgeclf_runtime.backends.base import Array
from edgeclf_runtime.benchmark.bursts import timing_overhead_us
from edgeclf_runtime.benchmark.facts import machine_facts
from edgeclf_runtime.benchmark.limit import is_probe, limits, probes, with_shares
from edgeclf_runtime.benchmark.real_frames import event_frames
from edgeclf_runtime.benchmark.results import BenchReport, Stages
from edgeclf_runtime.benchmark.run import measure
from edgeclf_runtime.benchmark.stages import measure_stages
from edgeclf_runtime.errors import EdgeclfError

Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is."""


def run_bench(request: BenchRequest, progress: Progress) -> BenchReport:
    """Measures what was asked for.

    Raises:
        InputFileError: Where a file cannot be used.
        ContractError: Where a model was not exported by edgeclf.
        EdgeclfError: Where the runtime itself cannot run a model; what else cannot be measured is left out, and told.
    """
    facts = machine_facts()
    models = models_of(request.models)
    frames = {model.name: event_frames(model.contract, request.recording, request.plan.frames) for model in models}
    with tempfile.TemporaryDirectory() as folder:
        contenders = contenders_of(request, models, Path(folder))
        if request.with_limit:
            for threads in request.threads:
                contenders += probes(replace(request.options, threads=threads), threads)
        frames |= {one.setting.model: _NOTHING for one in contenders if one.setting.model not in frames}
        measured, left_out = measure(
            contenders,
            frames,
            {model.name: model.contract.delta_t for model in models},
            request.plan,
            request.baseline,
            lambda done, of: progress("Measuring", done, of),
        )
    best = limits(measured)
    results = with_shares([result for result in measured if not is_probe(result.setting)], best)
    stages, failed = _stages(request, models, progress)
    asked = {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "frames of": request.recording.name,
        "steps a burst": request.plan.frames,
        "rounds": request.plan.rounds,
        "processes a candidate": request.plan.processes,
    }
    return BenchReport(
        facts | asked, request.baseline, timing_overhead_us(), results, stages, best, [*left_out, *failed]
    )


_NOTHING: Array = np.zeros((1, 1, 1, 1), np.float32)
"""What the probes of the machine's limit are handed for frames: they bring their own numbers."""


def _stages(
    request: BenchRequest, models: Sequence[Model], progress: Progress
) -> tuple[list[Stages], list[tuple[str, str]]]:
    """Returns the budget of a frame of each model, and which could not be had and why."""
    found, failed = [], []
    jobs = [(model, threads) for model in models for threads in request.threads if request.recording_frames]
    for done, (model, threads) in enumerate(jobs):
        progress("Streaming", done, len(jobs))
        try:
            options = replace(request.options, threads=threads)
            measured = measure_stages(model.path, request.recording, options, request.recording_frames)
            found.append(replace(measured, model=f"{model.name} {model.contract.precision}"))
        except EdgeclfError as error:
            failed.append((f"the stages of {model.path.name}", str(error)))
    if jobs:
        progress("Streaming", len(jobs), len(jobs))
    return found, failed
