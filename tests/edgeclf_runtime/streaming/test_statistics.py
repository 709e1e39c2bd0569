from __future__ import annotations

import json
from collections import Counter

import pytest

from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.streaming import RunStatistics, StreamStatistics


@pytest.fixture
def stream(fed):
    return StreamStatistics(fed("a b.raw").source, "every")


def test_summary(stream, fed, monkeypatch):
    stream.predictions = Counter(rock=3, paper=5)
    stream.misses, stream.drops, stream.merges, stream.resets, stream.stalls = 1, 2, 3, 4, 5
    stream.first_us, stream.last_us = 20_000, 520_000
    stream.failure = EdgeclfError("It broke.")
    stream.decode.add(30.0)
    stream.preprocess.add(60.0)
    other = StreamStatistics(fed("b").source, "never", first_us=0, last_us=100_000, failure=KeyError())
    other.decode.add(50.0)
    run = RunStatistics("cpu", [stream, other])
    times = iter([10.0, 10.25])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    run.begin()
    run.end()
    run.latency.add(900.0)
    run.inference.add(700.0)
    found = json.loads(json.dumps(run.to_dict()))

    def same(value, count=1):
        return {"frames": count, "p50_us": value, "p95_us": value, "p99_us": value, "max_us": value}

    decode = found["stages"].pop("decode")
    assert (decode["frames"], decode["max_us"], decode["p50_us"]) == (2, 50.0, pytest.approx(40, rel=0.01))
    assert found == {
        "device": "cpu",
        "frames": 8,
        "duration_s": 0.25,
        "real_time_factor": 2.0,
        "latency": same(900.0),
        "stages": {"preprocess": same(60.0), "inference": same(700.0), "output": None},
        "streams": [
            {
                "source": "a b.raw",
                "frames": 8,
                "predictions": {"paper": 5, "rock": 3},
                "misses": 1,
                "drops": 2,
                "merges": 3,
                "resets": 4,
                "stalls": 5,
                "damage": {"odd words": 2},
                "memory": "every",
                "failure": "It broke.",
            },
            {
                "source": "b",
                "frames": 0,
                "predictions": {},
                "misses": 0,
                "drops": 0,
                "merges": 0,
                "resets": 0,
                "stalls": 0,
                "damage": {"odd words": 2},
                "memory": "never",
                "failure": "KeyError",
            },
        ],
    }


def test_before_anything_happened(stream):
    found = RunStatistics("cpu", [stream]).to_dict()
    assert (found["frames"], found["duration_s"], found["real_time_factor"]) == (0, 0.0, 0.0)
    assert found["latency"] is None
    assert RunStatistics("cpu", []).to_dict()["streams"] == []


def test_while_it_runs(stream, monkeypatch):
    run = RunStatistics("cpu", [stream])
    times = iter([1.0, 3.0, 7.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    run.begin()
    assert [run.duration_s, run.duration_s] == [2.0, 6.0]
