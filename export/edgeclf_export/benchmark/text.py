"""A benchmark's results as text: tables for a terminal, and the same in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeclf_export.benchmark.columns import (
    COST_COLUMNS,
    MISSING,
    Column,
    filled,
    latency_columns,
    milliseconds,
    number,
    percent,
)
from edgeclf_export.benchmark.recommend import Recommendation
from edgeclf_runtime.benchmark.compare import Comparison
from edgeclf_runtime.benchmark.results import BenchReport, Ratio, Stages
from edgeclf_runtime.console import table

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
"""What it is about, its headings, its rows."""


def tables_of(report: BenchReport) -> list[Table]:
    """Returns all that a run found as tables."""
    found: list[Table] = []
    latency = latency_columns(report.baseline)
    for pace in dict.fromkeys(result.setting.pace for result in report.results):
        rows = [result for result in report.results if result.setting.pace == pace]
        found.append((f"how long a step takes, {pace}", *filled([*_SETTING, *latency], rows)))
        found.append((f"what a frame costs, {pace}", *filled([*_SETTING, *COST_COLUMNS], rows)))
    if report.stages:
        found.append(
            ("the budget of a frame by stage, p50 (p99) in ms", _STAGE_HEADINGS, list(map(_stages, report.stages)))
        )
    if report.limits:
        rows_of_limit: list[tuple[str, ...]] = [
            (limit.device, str(limit.threads), number(limit.gmacs_per_second), limit.reached_by)
            for limit in report.limits
        ]
        found.append(("the machine's best rate in the same run", _LIMIT_HEADINGS, rows_of_limit))
    return found


def remarks_of(report: BenchReport) -> list[str]:
    """Returns what has to be known to read the tables, a sentence each."""
    overhead = number(report.timing_overhead_us)
    return [
        f"Timing a step that does nothing takes {overhead} µs, which is part of every step's time.",
        *(f"Left out: {name}: {why}" for name, why in report.left_out),
    ]


def comparison_table(comparison: Comparison) -> Table:
    """Returns what two runs have in common as a table."""
    rows: list[tuple[str, ...]] = [
        (
            one.setting.model, one.setting.backend, one.setting.precision, one.setting.device,
            str(one.setting.threads), str(one.setting.streams), one.setting.pace,
            milliseconds(one.old_us), milliseconds(one.new_us), _interval(one.times), one.verdict,
        )
        for one in comparison.changes
    ]  # fmt: skip
    headings = (
        *_NAME, "threads", "streams", "pace", "old p50, ms", "new p50, ms", "new ÷ old (95 %)", "",
    )  # fmt: skip
    return "median of a step in two runs", headings, rows


def recommendation_table(found: Recommendation) -> Table:
    """Returns every choice with its speed and KPIs, the fastest first."""
    names = list(found.row.kpis)
    rows: list[tuple[str, ...]] = [
        (
            str(row.choice), milliseconds(row.result.latencies.p50_us), milliseconds(row.result.latencies.p99_us),
            milliseconds(row.result.cpu_us_per_frame), *(f"{row.kpis[name]:.4f}" for name in names), row.verdict,
        )
        for row in found.rows
    ]  # fmt: skip
    headings = ("choice", "p50, ms", "p99, ms", "CPU, ms", *(name.replace("_", " ") for name in names), "")
    return "what this device can run it as, the fastest first", headings, rows


def as_text(tables: Iterable[Table], remarks: Sequence[str] = ()) -> str:
    """Returns tables for a terminal, and sentences below them."""
    shown = [f"{title}\n{table(headings, rows)}" for title, headings, rows in tables]
    return "\n\n".join([*shown, *(["\n".join(remarks)] if remarks else [])])


def as_markdown(tables: Iterable[Table], remarks: Sequence[str] = ()) -> str:
    """Returns tables in Markdown, and sentences below them, a paragraph each."""
    parts = []
    for title, headings, rows in tables:
        lines = [_row(headings), _row(["---"] * len(headings)), *map(_row, rows)]
        parts.append(f"{title[0].upper()}{title[1:]}:\n\n" + "\n".join(lines))
    return "\n\n".join([*parts, *remarks]) + "\n"


_NAME = ("model", "backend", "precision", "device")

_SETTING: Sequence[Column] = (
    ("model", lambda result: result.setting.model),
    ("backend", lambda result: result.setting.backend),
    ("precision", lambda result: result.setting.precision),
    ("device", lambda result: MISSING if result.setting.device == "cpu" else result.setting.device),
    ("threads", lambda result: str(result.setting.threads)),
    ("streams", lambda result: str(result.setting.streams)),
)
"""What was measured; of devices all but the CPU are named."""

_LIMIT_HEADINGS = ("device", "threads", "10⁹ multiply-adds a second", "reached by")
_STAGE_HEADINGS = ("model", "threads", "decode", "preprocess", "inference", "output", "all", "of delta_t")


def _stages(stages: Stages) -> tuple[str, ...]:
    def shown(name: str) -> str:
        found = stages.stages.get(name)
        return MISSING if found is None else f"{milliseconds(found['p50_us'])} ({milliseconds(found['p99_us'])})"

    whole = sum(found["p50_us"] for found in stages.stages.values())
    return (
        stages.model, str(stages.threads), *map(shown, ("decode", "preprocess", "inference", "output")),
        milliseconds(whole), percent(whole / stages.delta_t),
    )  # fmt: skip


def _interval(ratio: Ratio) -> str:
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
