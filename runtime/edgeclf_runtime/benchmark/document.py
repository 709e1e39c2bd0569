"""A benchmark's report as a JSON document, and back."""

from __future__ import annotations

from collections.abc import Mapping
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
            machine=dict(document["machine"]),
            baseline=str(document["baseline"]),
            timing_overhead_us=float(document["timing_overhead_us"]),
            results=[_to_result(row) for row in document["results"]],
            stages=[_to_stages(row) for row in document["stages"]],
            limits=[
                Limit(str(row["device"]), int(row["threads"]), float(row["gmacs_per_second"]), str(row["reached_by"]))
                for row in document["limits"]
            ],
            left_out=[(str(row["name"]), str(row["reason"])) for row in document["left_out"]],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
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
            threads=int(row["threads"]),
            streams=int(row["streams"]),
            pace=pace,
        ),
        Latencies(
            steps=int(row["steps"]),
            p50_us=float(row["p50_us"]),
            p95_us=float(row["p95_us"]),
            p99_us=float(row["p99_us"]),
            p999_us=float(row["p999_us"]),
            max_us=float(row["max_us"]),
            counts=[int(value) for value in row["counts"]],
            edges_us=[float(value) for value in row["edges_us"]],
            burst_p50_us=[[float(value) for value in process] for process in row["burst_p50_us"]],
        ),
        frames_per_second=float(row["frames_per_second"]),
        cpu_us_per_frame=float(row["cpu_us_per_frame"]),
        first_us=float(row["first_us"]),
        load_ms=float(row["load_ms"]),
        peak_rss_mb=float(row["peak_rss_mb"]),
        energy_mj_per_frame=_number(row, "energy_mj_per_frame"),
        late=_number(row, "late"),
        ratio=None if ratio is None else Ratio(*(float(ratio[name]) for name in ("median", "low", "high"))),
        macs=None if row["macs"] is None else int(row["macs"]),
        share_of_limit=_number(row, "share_of_limit"),
    )


def _number(row: Mapping[str, Any], name: str) -> float | None:
    return None if row[name] is None else float(row[name])


def _to_stages(row: Mapping[str, Any]) -> Stages:
    stages = {
        str(stage): {str(name): float(value) for name, value in values.items()}
        for stage, values in row["stages"].items()
    }
    return Stages(str(row["model"]), int(row["threads"]), int(row["delta_t"]), int(row["frames"]), stages)
