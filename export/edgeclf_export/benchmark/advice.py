"""Finds what a classifier should be run as on this device: measures every choice, and its KPIs, here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from edgeclf.data.dataset import Split
from edgeclf_export.benchmark.device_kpis import split_kpis
from edgeclf_export.benchmark.recommend import (
    TOLERANCE,
    Choice,
    Kpis,
    Recommendation,
    choices,
    devices_here,
    recommend,
    reference_of,
)
from edgeclf_export.benchmark.run import Progress
from edgeclf_runtime.benchmark.candidates import Contender
from edgeclf_runtime.benchmark.real_frames import event_frames
from edgeclf_runtime.benchmark.results import Result, Setting
from edgeclf_runtime.benchmark.run import Plan, measure
from edgeclf_runtime.benchmark.runtime_candidates import open_edgeclf
from edgeclf_runtime.contract_file import read_contract
from edgeclf_runtime.machine.cores import usable_cores
from edgeclf_runtime.machine.processor import read_processor
from edgeclf_runtime.machine.providers import probe_runtime
from edgeclf_runtime.session import Classifier

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdviceRequest:
    """What `edgeclf bench --recommend` was asked for.

    Attributes:
        models: Exported files of one classifier.
        dataset: The data set folder.
        recording: Where the event frames come from that speed is measured with.
        split: Which split of the data set.
        tolerance: By how much a KPI may be below that of the fp32 file.
        threads: Numbers of threads to try; None: from one to as many as there are cores.
        plan: How much is measured.
    """

    models: Sequence[Path]
    dataset: Path
    recording: Path
    split: Split = "test"
    tolerance: float = TOLERANCE
    threads: Sequence[int] | None = None
    plan: Plan = field(default_factory=Plan)


def advise(request: AdviceRequest, progress: Progress) -> Recommendation:
    """Measures every choice that this device can run, speed first, and recommends one.

    Raises:
        EdgeclfError: Where a file cannot be used, or nothing whose KPIs are near enough can be run.
    """
    reference = reference_of(request.models)
    progress("Looking what starts here", 0, 1)
    devices = devices_here(probe_runtime())
    has_bfloat16 = bool((read_processor().instructions or {}).get("bf16"))
    threads = request.threads or range(1, usable_cores() + 1)
    results = _speeds(choices(request.models, devices, threads, has_bfloat16), request, progress)
    wanted = dict.fromkeys([reference.arithmetic, *(choice.arithmetic for choice in results)])
    kpis = {choice: _kpis(choice, request) for choice in wanted}
    return recommend(results, kpis, reference, request.tolerance)


def _speeds(tried: Sequence[Choice], request: AdviceRequest, progress: Progress) -> dict[Choice, Result]:
    """Returns what was measured of each choice; those that cannot be measured are left out, and the log says why."""
    of_name = {str(choice): choice for choice in tried}
    frames = {
        name: event_frames(read_contract(choice.path), request.recording, request.plan.frames)
        for name, choice in of_name.items()
    }
    contenders = [
        Contender(
            Setting(
                name, "edgeclf", choice.device, "bf16" if choice.bfloat16 else read_contract(choice.path).precision,
                choice.threads or usable_cores(),
            ),
            partial(open_edgeclf, choice.path, choice.options, 1),
        )
        for name, choice in of_name.items()
    ]  # fmt: skip
    measured, left_out = measure(
        contenders, frames, {}, request.plan, "edgeclf", lambda done, of: progress("Measuring", done, of)
    )
    for name, why in left_out:
        _log.warning("Left out: %s: %s", name, why)
    return {of_name[result.setting.model]: result for result in measured}


def _kpis(choice: Choice, request: AdviceRequest) -> Kpis:
    with Classifier.load(choice.path, options=choice.options) as classifier:
        return split_kpis(classifier, request.dataset, request.split, f"KPIs of {choice.path.name}")
