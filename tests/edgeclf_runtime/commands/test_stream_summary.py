from __future__ import annotations

import pytest

from edgeclf_runtime.commands.stream_summary import show_summary
from edgeclf_runtime.console import start_logging
from edgeclf_runtime.sources import IteratorSource
from edgeclf_runtime.streaming.statistics import RunStatistics, StreamStatistics


class Damaged(IteratorSource):
    """A source that has been read, and was not whole."""

    def __init__(self, name, damage):
        super().__init__([], (4, 3), name)
        self._counts = damage

    @property
    def damage(self):
        return self._counts


@pytest.fixture(autouse=True)
def _loud():
    start_logging()


@pytest.fixture
def statistics():
    first = StreamStatistics(Damaged("left eye.raw", {"odd words": 3, "steps": 12}), "never")
    first.predictions.update({"rock": 1, "background": 11})
    first.misses, first.drops, first.merges, first.resets, first.stalls = 1, 2, 3, 4, 5
    first.first_us, first.last_us = 0, 120_000
    run = RunStatistics("cuda", [first, StreamStatistics(Damaged("b", {}), "every")])
    run.begin()
    run.end()
    for latency in (100, 100, 100, 9000):
        run.latency.add(latency)
        run.inference.add(latency / 2)
    return run


def test_what_it_shows(statistics, capsys):
    summary = statistics.to_dict() | {"duration_s": 0.5, "real_time_factor": 0.24}
    show_summary(summary)
    out, err = capsys.readouterr()
    assert out == ""
    p50, p95, p99 = (f"{summary['latency'][name]:.0f}" for name in ("p50_us", "p95_us", "p99_us"))
    assert err.splitlines() == [
        "source        frames  misses  drops  merges  resets  stalls  predictions",
        "left eye.raw  12      1       2      3       4       5       background 11, rock 1",
        "b             0       0       0      0       0       0",
        "left eye.raw: odd words: 3",
        "left eye.raw: steps: 12",
        "",
        "µs         p50   p95   p99   max",
        f"latency    {p50:>3}  {p95:>4}  {p99:>4}  9000",
        "inference   50  "
        + "  ".join(f"{summary['stages']['inference'][name]:.0f}" for name in ("p95_us", "p99_us"))
        + "  4500",
        "12 frames in 0.50 s on cuda, 0.24 times the sensor's time",
    ]


def test_nothing_came(capsys):
    run = RunStatistics("cpu", [StreamStatistics(Damaged("a.raw", {}), "never")])
    show_summary(run.to_dict())
    assert capsys.readouterr().err.splitlines() == [
        "source  frames  misses  drops  merges  resets  stalls  predictions",
        "a.raw   0       0       0      0       0       0",
    ]
