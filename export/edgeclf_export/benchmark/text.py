"""A benchmark's results as text: tables for a terminal, and the same in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeclf_export.benchmark.recommend import Recommendation
from edgeclf_runtime.benchmark.compare import Comparison
from edgeclf_runtime.benchmark.results import BenchReport, Ratio, Result, Stages
from edgeclf_runtime.console import table

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
"""What it is about, its headings, its rows."""


def tables_of(report: BenchReport) -> list[Table]:
    """Returns all that a run found as tables."""
    found: list[Table] = []
    for pace in dict.fromkeys(result.setting.pace for result in report.results):
        rows = [result for result in report.results if result.setting.pace == pace]
        found.append(
            (f"latency of a step in ms, {pace}", _latency_headings(report.baseline), list(map(_latency, rows)))
        )
        found.append((f"what a frame costs, {pace}", _COST_HEADINGS, list(map(_cost, rows))))
    if report.stages:
        found.append(
            ("the budget of a frame by stage, p50 (p99) in ms", _STAGE_HEADINGS, list(map(_stages, report.stages)))
        )
    if report.limits:
        rows_of_limit: list[tuple[str, ...]] = [
            (limit.device, str(limit.threads), f"{limit.gmacs_per_second:.1f}", limit.reached_by)
            for limit in report.limits
        ]
        found.append(("the machine's best rate in the same run", _LIMIT_HEADINGS, rows_of_limit))
    return found


def comparison_table(comparison: Comparison) -> Table:
    """Returns what two runs have in common as a table."""
    rows: list[tuple[str, ...]] = [
        (
            *_name(one.setting.model, one.setting.backend, one.setting.precision),
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


def as_text(tables: Iterable[Table]) -> str:
    """Returns tables for a terminal."""
    return "\n\n".join(f"{title}\n{table(headings, rows)}" for title, headings, rows in tables)


def as_markdown(tables: Iterable[Table]) -> str:
    """Returns tables in Markdown."""
    parts = []
    for title, headings, rows in tables:
        lines = [_row(headings), _row(["---"] * len(headings)), *map(_row, rows)]
        parts.append(f"{title[0].upper()}{title[1:]}:\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def milliseconds(us: float) -> str:
    """Returns a time in ms with three digits that count."""
    ms = us / 1000
    return f"{ms:.{max(0, 2 - max(0, len(str(int(ms))) - 1))}f}" if ms >= 1 else f"{ms:.3f}"


_NAME = ("model", "backend", "precision")


def _latency_headings(baseline: str) -> tuple[str, ...]:
    return (*_NAME, "threads", "streams", "p50", "p95", "p99", "p99.9", "max", f"times {baseline} (95 %)")


_COST_HEADINGS = (
    *_NAME, "threads", "streams", "frames/s", "CPU ms", "mJ", "first ms", "load ms", "peak MB", "of the limit",
)  # fmt: skip
_LIMIT_HEADINGS = ("device", "threads", "10⁹ multiply-adds a second", "reached by")
_STAGE_HEADINGS = ("model", "threads", "decode", "preprocess", "inference", "output", "all", "of delta_t")


def _name(model: str, backend: str, precision: str) -> tuple[str, str, str]:
    return model, backend, precision


def _latency(result: Result) -> tuple[str, ...]:
    setting, found = result.setting, result.latencies
    times = (found.p50_us, found.p95_us, found.p99_us, found.p999_us, found.max_us)
    return (
        *_name(setting.model, setting.backend, setting.precision), str(setting.threads), str(setting.streams),
        *map(milliseconds, times), "1" if result.ratio is None else _interval(result.ratio),
    )  # fmt: skip


def _cost(result: Result) -> tuple[str, ...]:
    setting = result.setting
    energy, share = result.energy_mj_per_frame, result.share_of_limit
    return (
        *_name(setting.model, setting.backend, setting.precision), str(setting.threads), str(setting.streams),
        f"{result.frames_per_second:.1f}", milliseconds(result.cpu_us_per_frame),
        "–" if energy is None else f"{energy:.1f}", milliseconds(result.first_us), f"{result.load_ms:.0f}",
        f"{result.peak_rss_mb:.0f}", "–" if share is None else f"{share:.0%}",
    )  # fmt: skip


def _stages(stages: Stages) -> tuple[str, ...]:
    def shown(name: str) -> str:
        found = stages.stages.get(name)
        return "–" if found is None else f"{milliseconds(found['p50_us'])} ({milliseconds(found['p99_us'])})"

    whole = sum(found["p50_us"] for found in stages.stages.values())
    return (
        stages.model, str(stages.threads), *map(shown, ("decode", "preprocess", "inference", "output")),
        milliseconds(whole), f"{whole / stages.delta_t:.0%}",
    )  # fmt: skip


def _interval(ratio: Ratio) -> str:
    return f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
