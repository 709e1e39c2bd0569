from __future__ import annotations

import pytest

from edgeclf_export.benchmark.text import as_markdown, as_text, milliseconds, tables_of
from edgeclf_runtime.benchmark.results import BenchReport, Latencies, Limit, Ratio, Result, Setting, Stages


def result(backend: str, pace="back-to-back", ratio=None, **more) -> Result:
    latencies = Latencies(300, 8123.4, 9000.0, 12_345.0, 99_999.0, 123_456.0, [300], [8000.0, 130_000.0], [[8123.4]])
    setting = Setting("best", backend, "cpu", "fp32", 2, 1, pace)
    return Result(setting, latencies, 123.06, 16_000.0, 20_000.0, 181.4, 79.6, ratio=ratio, **more)


@pytest.mark.parametrize(
    ("us", "shown"),
    [(0.4, "0.000"), (812.4, "0.812"), (1000, "1.00"), (12_345, "12.3"), (99_999, "100.0"), (1e6, "1000")],
)
def test_milliseconds(us: float, shown: str) -> None:
    assert milliseconds(us) == shown


def test_every_pace_has_a_table_of_latencies_and_one_of_costs() -> None:
    report = BenchReport(
        {},
        "edgeclf",
        0.2,
        [
            result("edgeclf"),
            result("a|b", ratio=Ratio(0.5, 0.45, 0.55), macs=10, share_of_limit=0.123),
            result("edgeclf", "paced"),
        ],
        [
            Stages(
                "best fp32",
                2,
                50_000,
                99,
                {"decode": {"p50_us": 1000.0, "p99_us": 2000.0}, "inference": {"p50_us": 9000.0, "p99_us": 9900.0}},
            )
        ],
        [Limit("cpu", 2, 123.45, "ort conv 3×3")],
    )
    tables = tables_of(report)
    assert [title for title, _, _ in tables] == [
        "latency of a step in ms, back-to-back",
        "what a frame costs, back-to-back",
        "latency of a step in ms, paced",
        "what a frame costs, paced",
        "the budget of a frame by stage, p50 (p99) in ms",
        "the machine's best rate in the same run",
    ]
    assert all(len(row) == len(headings) for _, headings, rows in tables for row in rows)
    text = as_text(tables)
    for shown in (
        "8.12",
        "9.00",
        "12.3",
        "100.0",
        "123.5",
        "0.50 (0.45 to 0.55)",
        "12%",
        "1.00 (2.00)",
        "20%",
        "123.5",
    ):
        assert shown in text
    markdown = as_markdown(tables)
    assert "| best | a\\|b | fp32 |" in markdown
    assert markdown.count("\n| --- ") == len(tables)
