"""A benchmark from beginning to end: real frames, all contenders in one interleaved run, the limit, the stages."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeclf_export.benchmark.request import (
    RUNTIME,
    BenchRequest,
    Model,
    baseline_of,
    check_checkpoint,
    contenders_of,
    models_of,
    settled,
)
from edgeclf_runtime.backends.base import Array, DeviceOptions
from edgeclf_runtime.benchmark.bursts import timing_overhead_us
from edgeclf_runtime.benchmark.facts import DATE, machine_facts
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
        MissingPackageError: Where a side runs in PyTorch, and that is not installed.
        EdgeclfError: Where this runtime cannot open a model as asked; what cannot be measured then is left out, and
            told. Whether this runtime is among that, `check_runtime` says.
    """
    facts = machine_facts()
    models = models_of(request.models)
    check_checkpoint(request, models[0].contract)
    models, frames = _prepared(request, models, progress)
    with tempfile.TemporaryDirectory() as folder:
        contenders = contenders_of(request, models, Path(folder))
        baseline = baseline_of(request, contenders)
        if request.with_limit:
            for options in _places(models):
                for threads in request.threads:
                    contenders += probes(replace(options, threads=threads), threads)
        frames |= {one.setting.model: _NOTHING for one in contenders if one.setting.model not in frames}
        measured, left_out = measure(
            contenders,
            frames,
            {model.name: model.contract.delta_t for model in models},
            request.plan,
            baseline,
            lambda done, of: progress("Measuring", done, of),
        )
    best = limits(measured)
    results = with_shares([result for result in measured if not is_probe(result.setting)], best)
    stages, failed = _stages(request, models, progress)
    asked = {
        DATE: time.strftime("%Y-%m-%d %H:%M"),
        "frames of": request.recording.name,
        "steps a burst": request.plan.frames,
        "rounds": request.plan.rounds,
        "processes a candidate": request.plan.processes,
    }
    return BenchReport(facts | asked, baseline, timing_overhead_us(), results, stages, best, [*left_out, *failed])


def check_runtime(report: BenchReport) -> None:
    """Raises an `EdgeclfError` where this runtime itself was left out of a run: the others alone are not the answer."""
    lost = [f"{name}: {why}" for name, why in report.left_out if f": {RUNTIME} " in name]
    if lost:
        raise EdgeclfError(f"This runtime could not be measured. {' '.join(lost)}")


def _prepared(
    request: BenchRequest, models: Sequence[Model], progress: Progress
) -> tuple[list[Model], dict[str, Array]]:
    """Returns the models, each opened once in each place, and the frames that they run on, by the models' names."""
    ready: list[Model] = []
    frames: dict[str, Array] = {}
    for done, model in enumerate(models):
        progress("Preparing", done, len(models))
        for place in request.places:
            opened = settled(request, model, place)
            if opened not in ready:  # `auto` may have come to what was asked for by name, too
                ready.append(opened)
        if model.name not in frames:
            frames[model.name] = event_frames(model.contract, request.recording, request.plan.frames)
    progress("Preparing", len(models), len(models))
    return ready, frames


_NOTHING: Array = np.zeros((1, 1, 1, 1), np.float32)
"""What the probes of the machine's limit are handed for frames: they bring their own numbers."""


def _places(models: Sequence[Model]) -> list[DeviceOptions]:
    """Returns where models run, each place once."""
    places: list[DeviceOptions] = []
    for model in models:
        if model.options not in places:
            places.append(model.options)
    return places


def _stages(
    request: BenchRequest, models: Sequence[Model], progress: Progress
) -> tuple[list[Stages], list[tuple[str, str]]]:
    """Returns the budget of a frame of each model, and which could not be had and why."""
    found, failed = [], []
    jobs = [(model, threads) for model in models for threads in request.threads if request.recording_frames]
    for done, (model, threads) in enumerate(jobs):
        progress("Streaming", done, len(jobs))
        try:
            options = replace(model.options, threads=threads)
            measured = measure_stages(model.path, request.recording, options, request.recording_frames)
            where = options.provider or options.device
            name = f"{model.name} {model.contract.precision}" + ("" if where == "cpu" else f" {where}")
            found.append(replace(measured, model=name))
        except EdgeclfError as error:
            failed.append((f"the stages of {model.path.name}", str(error)))
    if jobs:
        progress("Streaming", len(jobs), len(jobs))
    return found, failed
