"""Which file, on which device, with how many threads: the fastest of all whose KPIs stay near the reference's.

The reference is the first fp32 `.onnx` file, on the CPU. A choice is let through where no KPI is below the reference's
by more than a tolerance. Of those the one with the smallest median step is the fastest; others that are as fast within
noise (the confidence interval of the ratio of their medians reaches 1) go before it where they take fewer threads, and
then where they take less CPU time, as what they leave is there for the rest of the program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from edgeclf_runtime.backends import Device, DeviceOptions
from edgeclf_runtime.benchmark.limit import ON_PROCESSORS
from edgeclf_runtime.benchmark.results import Result
from edgeclf_runtime.benchmark.statistics import change
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.contract_file import model_file, model_kind, read_contract
from edgeclf_runtime.errors import EdgeclfError, UsageError
from edgeclf_runtime.machine.providers import CPU_PROVIDER, CUDA_PROVIDER, RuntimeReport

TOLERANCE = 0.01
"""By how much a KPI may be below the reference's."""

_NO_DEVICE = "AzureExecutionProvider"
"""Starts everywhere, and runs a model on the CPU: what it adds is calls to a service."""

_ROUNDING = 1e-9
"""A loss that is over the tolerance by less is that of the decimal point."""

Kpis = Mapping[str, float]
Verdict = Literal["recommended", "as fast", "slower", "refused"]


@dataclass(frozen=True)
class Choice:
    """A way to run a classifier that a profile can hold.

    Attributes:
        path: The exported file.
        device: `cpu`, `cuda`, or an execution provider of ONNX Runtime by its name.
        threads: Threads of a step on the CPU; None: one for each core, as the runtime does by itself.
        bfloat16: Whether OpenVINO computes in bfloat16.
    """

    path: Path
    device: str = "cpu"
    threads: int | None = None
    bfloat16: bool = False

    @property
    def arithmetic(self) -> Choice:
        """What the KPIs are of: the same with any number of threads."""
        return replace(self, threads=None)

    @property
    def options(self) -> DeviceOptions:
        """Where the runtime runs it, and how."""
        if self.device in get_args(Device):
            return DeviceOptions(cast("Device", self.device), self.threads, bfloat16=self.bfloat16)
        return DeviceOptions(threads=self.threads, provider=self.device, bfloat16=self.bfloat16)

    def __str__(self) -> str:
        parts = [str(self.path), "bf16" if self.bfloat16 else "", self.device]
        threads = "" if self.threads is None else f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        return " ".join(part for part in parts if part) + threads


@dataclass(frozen=True)
class Row:
    """What was found of a choice.

    Attributes:
        choice: The choice.
        result: Its speed.
        kpis: Its KPIs.
        verdict: `recommended`; `as fast` within noise, but not before it; `slower`; or `refused`.
        why: The verdict in words, as a clause.
    """

    choice: Choice
    result: Result
    kpis: Kpis
    verdict: Verdict
    why: str

    def to_dict(self) -> dict[str, Any]:
        """Returns what a JSON document says of it."""
        choice = self.choice
        return {
            "model": str(choice.path),
            "device": choice.device,
            "threads": choice.threads,
            "bfloat16": choice.bfloat16,
            "p50_us": self.result.latencies.p50_us,
            "kpis": dict(self.kpis),
            "verdict": self.verdict,
            "why": self.why,
        }


@dataclass(frozen=True)
class Recommendation:
    """What a classifier should be run as on this device.

    Attributes:
        row: What is recommended.
        reference: Whose KPIs the others were held against.
        rows: Every choice, the fastest first.
    """

    row: Row
    reference: Choice
    rows: Sequence[Row]

    @property
    def measured(self) -> dict[str, Any]:
        """What a profile says of how it was found, for people."""
        latencies = self.row.result.latencies
        return {"p50_us": latencies.p50_us, "p99_us": latencies.p99_us, "kpis": dict(self.row.kpis)}

    def to_dict(self) -> dict[str, Any]:
        """Returns what a JSON document says of it."""
        return {
            "recommended": self.row.to_dict(),
            "reference": str(self.reference.path),
            "choices": [row.to_dict() for row in self.rows],
        }


def devices_here(report: RuntimeReport) -> list[str]:
    """Returns the devices that start, of what ONNX Runtime was found to do here: `cpu` first, then the others."""
    names = {CPU_PROVIDER: "cpu", CUDA_PROVIDER: "cuda"}
    started = [names.get(name, name) for name in report.providers if report.starts(name) and name != _NO_DEVICE]
    return sorted(started, key=lambda name: name != "cpu")


def choices(
    paths: Sequence[Path], devices: Sequence[str], threads: Sequence[int], has_bfloat16: bool = False
) -> list[Choice]:
    """Returns every way to run some exported files of one classifier that is worth measuring.

    ONNX files run on all devices, PyTorch's on the CPU and on CUDA, OpenVINO's on the CPU, an fp32 one of theirs in
    bfloat16 too. Numbers of threads are for the CPU alone: on other devices the runtime's own choice stays.

    Args:
        paths: The files; a folder stands for the model in it.
        devices: What starts here, see `devices_here`.
        threads: Numbers of threads.
        has_bfloat16: Whether the processor computes in bfloat16.

    Raises:
        InputFileError: Where a file is not there, or damaged.
        ContractError: Where it was not exported by edgeclf.
        UsageError: Where the files are not of classifiers that could stand in for each other.
    """
    files = [model_file(path) for path in paths]
    contracts = [read_contract(path) for path in files]
    found = []
    for path, contract in zip(files, contracts, strict=True):
        _check_interchangeable(path, contract, files[0], contracts[0])
        kind = model_kind(path)
        for device in devices:
            if device == "cpu":
                found += [Choice(path, device, count) for count in threads]
            elif kind == "onnx" or (kind == "archive" and device == "cuda"):
                found.append(Choice(path, device))
        if kind == "openvino" and has_bfloat16 and contract.precision == "fp32" and "cpu" in devices:
            found += [Choice(path, "cpu", count, bfloat16=True) for count in threads]
    return found


def reference_of(paths: Sequence[Path]) -> Choice:
    """Returns the choice whose KPIs are right: the first fp32 `.onnx` file, on the CPU.

    Raises:
        InputFileError: Where a file is not there, or damaged.
        UsageError: Where there is none.
    """
    for path in map(model_file, paths):
        if model_kind(path) == "onnx" and read_contract(path).precision == "fp32":
            return Choice(path)
    raise UsageError(
        "None of the files is an .onnx in fp32, whose KPIs the others are held against; name the one that "
        "`edgeclf export --format onnx` writes, too."
    )


def recommend(
    results_by_choice: Mapping[Choice, Result],
    kpis_by_choice: Mapping[Choice, Kpis],
    reference: Choice,
    tolerance: float = TOLERANCE,
) -> Recommendation:
    """Returns what to run; see the module's text for the rule.

    Args:
        results_by_choice: What was measured of each choice, in one run, back-to-back, of one stream.
        kpis_by_choice: The KPIs of each choice's `arithmetic`, and of the reference's.
        reference: Whose KPIs are right, see `reference_of`.
        tolerance: By how much a KPI may be below the reference's.

    Raises:
        EdgeclfError: Where nothing whose KPIs are near enough was measured.
    """
    right = kpis_by_choice[reference.arithmetic]
    loss = {choice: _loss(kpis_by_choice[choice.arithmetic], right, tolerance) for choice in results_by_choice}
    by_speed = sorted(results_by_choice, key=lambda choice: results_by_choice[choice].latencies.p50_us)
    allowed = [choice for choice in by_speed if not loss[choice]]
    if not allowed:
        raise EdgeclfError(
            f"Nothing that was measured has KPIs within {tolerance:g} of those of {reference.path}; let more through "
            "with a larger tolerance."
        )
    fastest = results_by_choice[allowed[0]]
    as_fast = [choice for choice in allowed if _is_as_fast(results_by_choice[choice], fastest)]
    best = min(as_fast, key=lambda choice: _cost(choice, results_by_choice[choice]))

    def row(choice: Choice) -> Row:
        result = results_by_choice[choice]
        verdict, why = _verdict(choice, result, best, results_by_choice[best], loss[choice], choice in as_fast)
        return Row(choice, result, kpis_by_choice[choice.arithmetic], verdict, why)

    return Recommendation(row(best), reference, [row(choice) for choice in by_speed])


def _verdict(
    choice: Choice, result: Result, best: Choice, chosen: Result, loss: str, is_as_fast: bool
) -> tuple[Verdict, str]:
    if loss:
        return "refused", loss
    if choice == best:
        return "recommended", "the fastest whose KPIs are near enough, or as fast within noise for less of the CPU"
    if is_as_fast:
        return "as fast", "no faster beyond noise, for more of the CPU"
    return "slower", f"takes {result.latencies.p50_us / chosen.latencies.p50_us:.2f} times as long"


def _loss(kpis: Kpis, right: Kpis, tolerance: float) -> str:
    """Returns which KPIs are too far below the right ones, as a clause; empty where none is."""
    lost = []
    for name, wanted in right.items():
        found = kpis.get(name, math.nan)
        # What is not a number is no KPI to rely on, unless the reference has none either.
        if not math.isnan(wanted) and not found >= wanted - tolerance - _ROUNDING:
            lost.append(f"{name} is {found:.4f}, the reference's {wanted:.4f}")
    return "; ".join(lost)


def _is_as_fast(result: Result, fastest: Result) -> bool:
    """Whether a choice is not slower than the fastest one beyond noise."""
    return change(fastest.latencies.burst_p50_us, result.latencies.burst_p50_us).low <= 1


def _cost(choice: Choice, result: Result) -> tuple[int, float]:
    """Returns what of two choices that are as fast makes one better, the smaller the better."""
    threads = result.setting.threads if choice.device in ("cpu", *ON_PROCESSORS) else 1  # elsewhere it is waited for
    return threads, result.cpu_us_per_frame


def _check_interchangeable(path: Path, contract: Contract, first: Path, other: Contract) -> None:
    if (contract.labels, contract.delta_t) != (other.labels, other.delta_t):
        raise UsageError(
            f"{path} and {first} cannot stand in for each other: one names {', '.join(contract.labels)} every "
            f"{contract.delta_t} µs, the other {', '.join(other.labels)} every {other.delta_t} µs; give files of "
            "classifiers with the same labels and frames."
        )
