"""What `edgeclf run-stream` says at its end, for people."""

from __future__ import annotations

from typing import Any

from edgeclf_runtime.console import say, table

_COUNTS = ("misses", "drops", "merges", "resets", "stalls")
_PERCENTILES = ("p50_us", "p95_us", "p99_us", "max_us")


def show_summary(summary: dict[str, Any]) -> None:
    """Shows a run's summary, as `RunStatistics.to_dict` gives it, as tables on standard error."""
    rows = [
        (
            stream["source"],
            stream["frames"],
            *(stream[name] for name in _COUNTS),
            ", ".join(f"{label} {n}" for label, n in stream["predictions"].items()),
        )
        for stream in summary["streams"]
    ]
    say(table(("source", "frames", *_COUNTS, "predictions"), rows, of_words=True))
    for stream in summary["streams"]:
        for kind, count in stream["damage"].items():
            say(f"{stream['source']}: {kind}: {count}")
    if not summary["frames"]:
        return
    stages = {"latency": summary["latency"], **summary["stages"]}
    say(
        "\n"
        + table(
            ("µs", *(name[:-3] for name in _PERCENTILES)),
            [
                (name, *(f"{found[percentile]:.0f}" for percentile in _PERCENTILES))
                for name, found in stages.items()
                if found is not None
            ],
        )
    )
    say(
        f"{summary['frames']} frames in {summary['duration_s']:.2f} s on {summary['device']}, "
        f"{summary['real_time_factor']:.2f} times the sensor's time"
    )
