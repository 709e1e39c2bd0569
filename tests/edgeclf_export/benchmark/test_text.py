from __future__ import annotations

from edgeclf_export.benchmark.text import Table, as_markdown, as_text, remarks_of, tables_of
from edgeclf_runtime.benchmark.results import BenchReport, Latencies, Limit, Ratio, Result, Setting, Stages


def result(backend: str, pace="back-to-back", ratio=None, device="cpu", **more) -> Result:
    latencies = Latencies(300, 8123.4, 9000.0, 12_345.0, 99_960.0, 123_456.0, [300], [8000.0, 130_000.0], [[8123.4]])
    setting = Setting("best", backend, device, "fp32", 2, 1, pace)
    return Result(setting, latencies, 123.06, 16_000.0, 20_000.0, 181.4, 79.6, ratio=ratio, **more)


def cells(table: Table) -> list[dict[str, str]]:
    """The rows by their headings."""
    _, headings, rows = table
    return [dict(zip(headings, row, strict=True)) for row in rows]


REPORT = BenchReport(
    {},
    "edgeclf",
    0.2,
    [
        result("edgeclf"),
        result("a|b", ratio=Ratio(0.5, 0.45, 0.55), macs=10, share_of_limit=0.123),
        result("ort", device="cuda"),
        result("edgeclf", "paced", late=0.25),
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
    [("best: compile", "There is no compiler.")],
)


def test_every_pace_has_a_table_of_latencies_and_one_of_costs() -> None:
    tables = tables_of(REPORT)
    assert [title for title, _, _ in tables] == [
        "how long a step takes, back-to-back",
        "what a frame costs, back-to-back",
        "how long a step takes, paced",
        "what a frame costs, paced",
        "the budget of a frame by stage, p50 (p99) in ms",
        "the machine's best rate in the same run",
    ]
    assert all(len(row) == len(headings) for _, headings, rows in tables for row in rows)
    text = as_text(tables)
    for shown in ("8.12", "9.00", "12.3", "100", "123", "12.3 %", "1.00 (2.00)", "20.0 %", "10.0"):
        assert shown in text
    markdown = as_markdown(tables)
    assert "| best | a\\|b | fp32 |" in markdown
    assert markdown.count("\n| --- ") == len(tables)


def test_only_the_baseline_is_one_time_itself() -> None:
    assert [row["times edgeclf (95 %)"] for row in cells(tables_of(REPORT)[0])] == ["1", "0.50 (0.45 to 0.55)", "–"]


def test_devices_and_what_is_late_where_there_is_something_to_say() -> None:
    latency, _, paced, paced_costs = (cells(table) for table in tables_of(REPORT)[:4])
    assert [row["device"] for row in latency] == ["–", "–", "cuda"]
    assert {row["steps"] for row in latency} == {"300"}
    assert "device" not in paced[0]
    assert paced_costs[0]["late"] == "25.0 %"
    assert "of the limit" not in paced_costs[0]


def test_remarks_stand_below_the_tables() -> None:
    remarks = remarks_of(REPORT)
    assert "takes 0.200 µs" in remarks[0]
    assert remarks[1] == "Left out: best: compile: There is no compiler."
    tables = tables_of(REPORT)
    assert as_text(tables, remarks).endswith("\n\n" + "\n".join(remarks))
    assert as_markdown(tables, remarks).endswith("\n\n".join(["", *remarks]) + "\n")
