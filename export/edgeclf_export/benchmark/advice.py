"""Finds what a classifier should be run as on this device: measures every choice, and its KPIs, here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from edgeclf.data.dataset import Split
from edgeclf_export.benchmark.device_kpis import recordings_for, split_kpis
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
from edgeclf_runtime.backends import Device
from edgeclf_runtime.backends.base import Array
from edgeclf_runtime.benchmark.candidates import Contender
from edgeclf_runtime.benchmark.real_frames import event_frames
from edgeclf_runtime.benchmark.results import Result, Setting
from edgeclf_runtime.benchmark.run import Plan, measure
from edgeclf_runtime.benchmark.runtime_candidates import open_edgeclf
from edgeclf_runtime.contract_file import read_contract
from edgeclf_runtime.errors import DeviceError
from edgeclf_runtime.machine.cores import usable_cores
from edgeclf_runtime.machine.processor import read_processor
from edgeclf_runtime.machine.providers import CUDA_PROVIDER, probe_runtime
from edgeclf_runtime.session import Classifier

_log = logging.getLogger(__name__)

_NO_BASELINE = ""
"""No ratio is asked for: the choices are compared with the fastest of them."""


@dataclass(frozen=True)
class AdviceRequest:
    """What `edgeclf bench --recommend` was asked for.

    Attributes:
        models: Exported files of one classifier.
        dataset: The data set folder.
        recording: Where the event frames come from that speed is measured with.
        split: Which split of the data set.
        tolerance: By how much a KPI may be below that of the fp32 file.
        device: `auto`: all that starts is tried; else that alone.
        threads: Numbers of threads to try; None: 1, 2, 4, … up to as many as there are cores.
        plan: How much is measured.
    """

    models: Sequence[Path]
    dataset: Path
    recording: Path
    split: Split = "test"
    tolerance: float = TOLERANCE
    device: Device = "auto"
    threads: Sequence[int] | None = None
    plan: Plan = field(default_factory=Plan)


def advise(request: AdviceRequest, progress: Progress) -> Recommendation:
    """Measures every choice that this device can run, speed first, and recommends one.

    Raises:
        DeviceError: Where the device that was asked for does not start.
        EdgeclfError: Where a file cannot be used, or nothing whose KPIs are near enough can be run.
    """
    reference = reference_of(request.models)
    recordings_for(read_contract(reference.path), request.dataset, request.split)  # what is wrong there is said now
    progress("Looking what starts here", 0, 1)
    devices = _devices(request.device)
    has_bfloat16 = bool((read_processor().instructions or {}).get("bf16"))
    threads = request.threads or _thread_counts(usable_cores())
    tried = list(dict.fromkeys(choices(request.models, devices, threads, has_bfloat16)))
    if not tried:
        raise DeviceError(f"None of the models can be run on {request.device}; give an .onnx file.")
    results = _speeds(tried, request, progress)
    wanted = dict.fromkeys([reference.arithmetic, *(choice.arithmetic for choice in results)])
    kpis = {choice: _kpis(choice, request) for choice in wanted}
    return recommend(results, kpis, reference, request.tolerance)


def _devices(wanted: Device) -> list[str]:
    """Returns the devices to try: of those that start here the one that was asked for; all where none was.

    Raises:
        DeviceError: Where what was asked for does not start.
    """
    if wanted == "cpu":
        return ["cpu"]
    found = probe_runtime()
    devices = devices_here(found)
    if wanted == "auto":
        return devices
    if wanted not in devices:
        why = found.providers.get(CUDA_PROVIDER) or "the installed ONNX Runtime is not built for it"
        raise DeviceError(f"{wanted} was asked for, and it does not start here: {why}; `edgeclf doctor` says more.")
    return [wanted]


def _thread_counts(cores: int) -> list[int]:
    """Returns 1, 2, 4, … and the number of cores itself."""
    return [2**k for k in range(cores.bit_length()) if 2**k < cores] + [cores]


def _speeds(tried: Sequence[Choice], request: AdviceRequest, progress: Progress) -> dict[Choice, Result]:
    """Returns what was measured of each choice; those that cannot be measured are left out, and the log says why."""
    contracts = {path: read_contract(path) for path in dict.fromkeys(choice.path for choice in tried)}
    frames: dict[str, Array] = {}
    for done, (path, contract) in enumerate(contracts.items()):
        progress("Preparing", done, len(contracts))
        frames[str(path)] = event_frames(contract, request.recording, request.plan.frames)
    contenders = [
        Contender(
            Setting(
                str(choice.path),  # whole, as files in two folders may have one name
                "edgeclf",
                choice.device,
                "bf16" if choice.bfloat16 else contracts[choice.path].precision,
                choice.threads or usable_cores(),
            ),
            partial(open_edgeclf, choice.path, choice.options, 1),
        )
        for choice in tried
    ]
    measured, left_out = measure(
        contenders, frames, {}, request.plan, _NO_BASELINE, lambda done, of: progress("Measuring", done, of)
    )
    for name, why in left_out:
        _log.warning("Left out: %s: %s", name, why)
    # By their order, as a result's device is what it really ran on.
    lost = {name for name, _ in left_out}
    kept = [choice for choice, one in zip(tried, contenders, strict=True) if one.setting.name not in lost]
    return dict(zip(kept, measured, strict=True))


def _kpis(choice: Choice, request: AdviceRequest) -> Kpis:
    with Classifier.load(choice.path, options=choice.options) as classifier:
        return split_kpis(classifier, request.dataset, request.split, f"KPIs of {choice.path.name}")
