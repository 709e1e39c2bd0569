"""The page of `edgeclf bench --report`: what was measured, for people who have to decide by it.

Pictures take Matplotlib, and no torch: the page is made on a device too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeclf.page import Page
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
from edgeclf_runtime.benchmark.results import BenchReport, Result, Setting, Stages
from edgeclf_runtime.console import progress
from edgeclf_runtime.errors import MissingPackageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from edgeclf.figures import Colour


def check_can_draw() -> None:
    """Raises a `MissingPackageError` where the package that draws the pictures is not installed."""
    try:
        import matplotlib  # noqa: F401 - asked for only where a page is
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"The page needs the package {error.name}, which is not installed: pip install 'edgeclf[report]'."
        ) from error


def write_bench_page(path: Path, report: BenchReport) -> None:
    """Writes what a benchmark found as one HTML file that needs nothing beside it.

    Args:
        path: The `.html` file.
        report: What was measured.

    Raises:
        MissingPackageError: Where Matplotlib is not installed.
        UsageError: Where nothing can be written there.
    """
    check_can_draw()
    from edgeclf.figures import class_colours

    candidates = list(dict.fromkeys(_candidate(result.setting) for result in report.results))
    colours = dict(zip(candidates, class_colours(candidates), strict=True))
    results = sorted(report.results, key=_section(report))  # within a section they stay in their order
    page = Page("edgeclf bench")
    page.facts([(name, _said(value)) for name, value in report.machine.items()])
    if len({result.setting.model for result in results}) > 1:
        page.heading("Medians at a glance", "The median of a step in ms, each model's details below.")
        _add_matrix(page, results, candidates, lambda result: milliseconds(result.latencies.p50_us))
    sections = [list(rows) for _, rows in groupby(results, lambda result: (result.setting.model, result.setting.pace))]
    with progress(sections, "drawing") as shown:
        for rows in shown:
            _add_section(page, rows, report.baseline, colours)
    _add_budget(page, report.stages)
    _add_limits(page, report, results, candidates)
    if report.left_out:
        page.heading("Left out", "What was asked for and could not be measured.")
        page.facts(report.left_out)
    page.heading("How it was measured", _method(report))
    page.write(path)


def _section(report: BenchReport) -> Callable[[Result], tuple[int, bool, int, int]]:
    """Returns what results are sorted by: model as they came, pace, then threads and streams."""
    models = list(dict.fromkeys(result.setting.model for result in report.results))

    def key(result: Result) -> tuple[int, bool, int, int]:
        setting = result.setting
        return models.index(setting.model), setting.pace == "paced", setting.threads, setting.streams

    return key


def _add_section(page: Page, results: Sequence[Result], baseline: str, colours: Mapping[str, Colour]) -> None:
    """Adds the table and the pictures of one model at one pace."""
    from edgeclf_export.benchmark.figures import draw_histograms, draw_percentiles, draw_ratios

    page.heading(f"{results[0].setting.model}, {results[0].setting.pace}")
    _add_table(page, results, latency_columns(baseline))
    _add_table(page, results, COST_COLUMNS)
    pictures: list[tuple[Figure, str]] = []
    for load, rows in groupby(results, lambda result: _load(result.setting)):
        latencies = {_candidate(result.setting): result.latencies for result in rows}
        pictures.append((draw_histograms(latencies, colours), f"{load}: how many steps took how long"))
        pictures.append(
            (draw_percentiles(latencies, colours), f"{load}: latency by percentile, up to the slowest step")
        )
    ratios = [
        (_name(result), result.ratio, colours[_candidate(result.setting)])
        for result in results
        if result.ratio is not None
    ]
    if ratios:
        against = f"Medians against {baseline} with as many threads and streams; 95 % confidence intervals"
        pictures.append((draw_ratios(ratios, baseline), against))
    page.figures(*pictures)


def _add_table(page: Page, results: Sequence[Result], columns: Sequence[Column]) -> None:
    """Adds a table with a row a result; a column that nothing is known for is left out."""
    headings, rows = filled([("", _name), *columns], results)
    page.table(headings, rows)


def _add_matrix(
    page: Page, results: Sequence[Result], candidates: Sequence[str], cell: Callable[[Result], str]
) -> None:
    """Adds a table with a row for each model, pace, threads and streams, and a column for each candidate."""
    rows: dict[str, dict[str, str]] = {}
    for result in results:
        place = f"{result.setting.model}, {result.setting.pace}, {_load(result.setting)}"
        rows.setdefault(place, {})[_candidate(result.setting)] = cell(result)
    body = [[place, *(row.get(name, MISSING) for name in candidates)] for place, row in rows.items()]
    page.table(["", *candidates], body)


def _add_budget(page: Page, stages: Sequence[Stages]) -> None:
    """Adds what the stages of a frame take of its time, where it was measured."""
    if not stages:
        return
    from edgeclf.figures import short
    from edgeclf_export.benchmark.figures import draw_budget

    page.heading(
        "The budget of a frame",
        "What each stage takes when the runtime streams a recording: p50 / p99 in ms. Percentiles are of each stage by "
        "itself; a frame that is slow in one is seldom slow in all, so that few are as slow as the p99 together.",
    )
    names = list(dict.fromkeys(name for row in stages for name in row.stages))
    cells = []
    for row in stages:
        median = sum(stage["p50_us"] for stage in row.stages.values())
        shown = [row.stages.get(name) for name in names]
        pairs = [
            f"{milliseconds(stage['p50_us'])} / {milliseconds(stage['p99_us'])}" if stage else MISSING
            for stage in shown
        ]
        of_all = [milliseconds(row.delta_t), percent(median / row.delta_t), str(row.frames)]
        cells.append([row.model, str(row.threads), *pairs, *of_all])
    headings = [*names, "delta_t ms", "p50 of it", "frames"]
    page.table(["model", "threads", *headings], cells)
    rows = [(f"{short(row.model, 20)}\n{_threads(row.threads)}", row) for row in stages]
    page.figures(
        (draw_budget(rows, of_delta_t=True), "The stages, one after the other, of the time that there is for a frame"),
        (draw_budget(rows, of_delta_t=False), "The same, enlarged"),
    )


def _add_limits(page: Page, report: BenchReport, results: Sequence[Result], candidates: Sequence[str]) -> None:
    """Adds the best rates of the machine, and how close to them the candidates come."""
    if not report.limits:
        return
    page.heading(
        "The limit",
        "The best rate at which a large convolution or matrix product was computed in the same run, in billions of "
        "multiply-adds a second (GMAC/s).",
    )
    page.table(
        ["device", "threads", "GMAC/s", "reached by"],
        [
            [limit.device, str(limit.threads), number(limit.gmacs_per_second), limit.reached_by]
            for limit in report.limits
        ],
    )
    shares = [result for result in results if result.share_of_limit is not None]
    if shares:
        page.heading(
            "Shares of the limit",
            "The multiply-adds of a model over that rate, as a share of the median: at 100 % it would compute as fast "
            "as the largest product.",
        )
        _add_matrix(page, shares, candidates, lambda result: percent(result.share_of_limit))


def _method(report: BenchReport) -> str:
    """Returns how the run was made, in words."""
    bursts = [result.latencies.burst_p50_us for result in report.results]
    processes, rounds = max(map(len, bursts), default=0), max((len(b) for all_ in bursts for b in all_), default=0)
    return (
        "Where a name says nothing else, a model is fp32 and runs on the CPU. "
        f"Each candidate ran in {processes} processes of its own, as thread pools in one process slow each other down "
        f"and a whole process can be slow. In each of {rounds} rounds, every process of every candidate ran a burst of "
        "steps, in an order that was shuffled anew, so that a machine that drifts hurts all alike. The state of a step "
        "was fed back into the next. Warm-up, the first step and loading are counted apart, and no outlier is left "
        "out: the percentiles are of all steps of all processes. Back-to-back, a frame starts when the one before is "
        "done; paced, when it is due, so that a core may have gone to sleep. A ratio is of medians, and over 1 is "
        f"faster than {report.baseline}; its interval is the middle 95 % of a bootstrap. Timing a step that does "
        f"nothing takes {number(report.timing_overhead_us)} µs, which is part of every step's time."
    )


def _name(result: Result) -> str:
    return f"{_candidate(result.setting)}, {_load(result.setting)}"


def _candidate(setting: Setting) -> str:
    """Returns what a backend is called: precision and device are named where they are not fp32 on the CPU."""
    unusual = [text for text in (setting.precision, setting.device) if text not in ("fp32", "cpu")]
    return " ".join([setting.backend, *unusual])


def _load(setting: Setting) -> str:
    return _threads(setting.threads) + (f", {setting.streams} streams" if setting.streams > 1 else "")


def _threads(number: int) -> str:
    return f"{number} thread{'s' if number != 1 else ''}"


def _said(value: Any) -> str:
    """Returns a fact of any kind in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_said(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_said, value))
    if value is None or isinstance(value, bool):
        return {None: "unknown", True: "yes", False: "no"}[value]
    return str(value)
