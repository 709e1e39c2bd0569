"""The columns of a benchmark's tables, the same in a terminal, in Markdown and on the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edgeclf_runtime.benchmark.results import Result

Column = tuple[str, Callable[[Result], str]]
"""A heading, and what a row has below it."""

MISSING = "–"
"""What a cell says where nothing is known."""


def number(value: float | None) -> str:
    """Returns a number with three digits that count, and all of those before the point.

    Example:
        >>> number(0.041239), number(99.96), number(123456)
        ('0.0412', '100', '123456')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if not value:
        return "0"
    magnitude = math.floor(math.log10(float(f"{abs(value):.2e}")))  # rounded first: 99.96 has three before the point
    return f"{value:.{max(0, 2 - magnitude)}f}"


def milliseconds(us: float) -> str:
    """Returns a time in ms; see `number`."""
    return number(us / 1000)


def percent(share: float | None) -> str:
    """Returns a share in percent; see `number`."""
    return MISSING if share is None else f"{number(100 * share)} %"


def latency_columns(baseline: str) -> Sequence[Column]:
    """Returns the columns of how long a step takes.

    Args:
        baseline: The backend that ratios are against.
    """

    def ratio(result: Result) -> str:
        found = result.ratio
        if found is None:
            return "1" if result.setting.backend == baseline else MISSING
        return f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"

    return (
        ("p50 ms", lambda result: milliseconds(result.latencies.p50_us)),
        ("p95 ms", lambda result: milliseconds(result.latencies.p95_us)),
        ("p99 ms", lambda result: milliseconds(result.latencies.p99_us)),
        ("p99.9 ms", lambda result: milliseconds(result.latencies.p999_us)),
        ("max ms", lambda result: milliseconds(result.latencies.max_us)),
        (f"times {baseline} (95 %)", ratio),
        ("steps", lambda result: str(result.latencies.steps)),
    )


COST_COLUMNS: Sequence[Column] = (
    ("frames/s", lambda result: number(result.frames_per_second)),
    ("late", lambda result: percent(result.late)),
    ("CPU ms", lambda result: milliseconds(result.cpu_us_per_frame)),
    ("first step ms", lambda result: milliseconds(result.first_us)),
    ("load ms", lambda result: number(result.load_ms)),
    ("peak MB", lambda result: number(result.peak_rss_mb)),
    ("energy mJ", lambda result: number(result.energy_mj_per_frame)),
    ("of the limit", lambda result: percent(result.share_of_limit)),
)
"""What a frame costs."""


def filled(columns: Sequence[Column], results: Sequence[Result]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Returns the headings and a row a result; a column that nothing is known for is left out."""
    cells = [(heading, [cell(result) for result in results]) for heading, cell in columns]
    kept = [(heading, column) for heading, column in cells if any(text != MISSING for text in column)]
    return tuple(heading for heading, _ in kept), list(zip(*(column for _, column in kept), strict=True))
