"""A benchmark's report as a JSON document, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from edgeclf_runtime.benchmark.results import (
    BenchReport,
    Latencies,
    Limit,
    Ratio,
    Result,
    Setting,
    Stages,
)
from edgeclf_runtime.errors import InputFileError

_PERCENTILES = ("p50_us", "p95_us", "p99_us", "max_us")
"""What there is of each stage of a frame."""


def to_document(report: BenchReport) -> dict[str, Any]:
    """Returns the document: the report's fields by their names, those of a result and of what it holds side by side."""
    return {
        "machine": dict(report.machine),
        "baseline": report.baseline,
        "timing_overhead_us": report.timing_overhead_us,
        "results": [_of_result(result) for result in report.results],
        "stages": [
            {**vars(stages), "stages": {name: dict(values) for name, values in stages.stages.items()}}
            for stages in report.stages
        ],
        "limits": [dict(vars(limit)) for limit in report.limits],
        "left_out": [{"name": name, "reason": reason} for name, reason in report.left_out],
    }


def read_document(path: Path) -> BenchReport:
    """Returns the report that `edgeclf bench --json` wrote to a file.

    Raises:
        InputFileError: Where the file cannot be read, or is no such document.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise InputFileError(f"{path}: the results cannot be read ({error.strerror}).") from error
    except RecursionError as error:
        raise InputFileError(f"{path}: this is nested too deeply; give what `edgeclf bench --json` wrote.") from error
    except ValueError as error:
        raise InputFileError(f"{path}: this is no JSON ({error}); give what `edgeclf bench --json` wrote.") from error
    return from_document(document, str(path))


def from_document(document: Any, source: str) -> BenchReport:
    """Returns the report that a document holds; what a later version added to it is left out.

    Args:
        document: As `json.load` gives it.
        source: The file's name, for errors.

    Raises:
        InputFileError: Where it is not a document of `edgeclf bench`.
    """
    try:
        return BenchReport(
            machine=_plain_facts(document["machine"]),
            baseline=str(document["baseline"]),
            timing_overhead_us=_finite(document["timing_overhead_us"]),
            results=[_to_result(row) for row in document["results"]],
            stages=[_to_stages(row) for row in document["stages"]],
            limits=[_to_limit(row) for row in document["limits"]],
            left_out=[(str(row["name"]), str(row["reason"])) for row in document["left_out"]],
        )
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise InputFileError(
            f"{source}: this is not what `edgeclf bench --json` writes ({what}); measure again with this edgeclf."
        ) from error


def _of_result(result: Result) -> dict[str, Any]:
    latencies = {**vars(result.latencies)}
    for name in ("counts", "edges_us"):
        latencies[name] = list(latencies[name])
    latencies["burst_p50_us"] = [list(process) for process in result.latencies.burst_p50_us]
    others = {name: value for name, value in vars(result).items() if name not in ("setting", "latencies", "ratio")}
    ratio = None if result.ratio is None else dict(vars(result.ratio))
    return {**vars(result.setting), **latencies, **others, "ratio": ratio}


def _to_result(row: Mapping[str, Any]) -> Result:
    pace = row["pace"]
    if pace not in ("back-to-back", "paced"):
        raise ValueError(f"a pace is back-to-back or paced, and not {pace}")
    ratio = row["ratio"]
    return Result(
        Setting(
            model=str(row["model"]),
            backend=str(row["backend"]),
            device=str(row["device"]),
            precision=str(row["precision"]),
            threads=_count(row["threads"]),
            streams=_count(row["streams"]),
            pace=pace,
        ),
        _to_latencies(row),
        frames_per_second=_positive(row["frames_per_second"]),
        cpu_us_per_frame=_finite(row["cpu_us_per_frame"]),
        first_us=_finite(row["first_us"]),
        load_ms=_finite(row["load_ms"]),
        peak_rss_mb=_finite(row["peak_rss_mb"]),
        energy_mj_per_frame=_known(row["energy_mj_per_frame"]),
        late=_known(row["late"]),
        ratio=None if ratio is None else Ratio(*(_positive(ratio[name]) for name in ("median", "low", "high"))),
        macs=None if row["macs"] is None else int(row["macs"]),
        share_of_limit=_known(row["share_of_limit"]),
    )


def _to_latencies(row: Mapping[str, Any]) -> Latencies:
    counts = [int(value) for value in row["counts"]]
    edges = [_positive(value) for value in row["edges_us"]]
    if len(edges) != len(counts) + 1 or any(low >= high for low, high in pairwise(edges)):
        raise ValueError("edges_us are not the borders of the bins of counts")
    if min(counts, default=-1) < 0 or not any(counts):
        raise ValueError("counts has no steps in it")
    bursts = [[_positive(value) for value in process] for process in row["burst_p50_us"]]
    if len({len(process) for process in bursts}) != 1 or not bursts[0]:
        raise ValueError("burst_p50_us has not one median for every round of every process")
    return Latencies(
        steps=_count(row["steps"]),
        p50_us=_positive(row["p50_us"]),
        p95_us=_positive(row["p95_us"]),
        p99_us=_positive(row["p99_us"]),
        p999_us=_positive(row["p999_us"]),
        max_us=_positive(row["max_us"]),
        counts=counts,
        edges_us=edges,
        burst_p50_us=bursts,
    )


def _to_stages(row: Mapping[str, Any]) -> Stages:
    stages = {
        str(stage): {name: _finite(values[name]) for name in _PERCENTILES} for stage, values in row["stages"].items()
    }
    if not stages:
        raise ValueError("a model has no stages")
    return Stages(str(row["model"]), _count(row["threads"]), _count(row["delta_t"]), _count(row["frames"]), stages)


def _to_limit(row: Mapping[str, Any]) -> Limit:
    rate = _positive(row["gmacs_per_second"])
    return Limit(str(row["device"]), _count(row["threads"]), rate, str(row["reached_by"]))


def _plain_facts(machine: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the facts that are words and numbers, which are all that this version writes."""
    return {name: value for name, value in machine.items() if isinstance(value, (str, int, float))}


def _count(value: Any) -> int:
    number = int(value)
    if number < 1:
        raise ValueError(f"{value} is no count")
    return number


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is no number")
    return number


def _positive(value: Any) -> float:
    number = _finite(value)
    if number <= 0:
        raise ValueError(f"{value} is not over 0")
    return number


def _known(value: Any) -> float | None:
    return None if value is None else _finite(value)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON's")
