from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeclf_runtime.benchmark.compare import compare
from edgeclf_runtime.benchmark.results import BenchReport, Latencies, Limit, Result, Setting
from edgeclf_runtime.errors import UsageError

SETTING = Setting("best", "edgeclf", "cpu", "fp32", 2)


def result(setting: Setting, bursts) -> Result:
    middle = float(np.median(bursts))
    latencies = Latencies(100, middle, middle, middle, middle, middle, [100], [middle / 2, middle * 2], bursts)
    return Result(setting, latencies, 1e6 / middle, middle, middle, 100.0, 50.0)


def report(*results: Result, machine=None, rate=50.0) -> BenchReport:
    return BenchReport(machine or {"processor": "A"}, "edgeclf", 0.2, results, (), [Limit("cpu", 2, rate, "conv")])


def bursts(middle: float, seed: int, scatter=0.02):
    return (middle * np.random.default_rng(seed).lognormal(0, scatter, (3, 8))).tolist()


def test_what_got_slower_beyond_noise():
    old = report(result(SETTING, bursts(1000, 0)), result(replace(SETTING, backend="ort"), bursts(1000, 1)))
    new = report(result(SETTING, bursts(1300, 2)), result(replace(SETTING, backend="ort"), bursts(1000, 3)))
    found = compare(old, new)
    slower, same = found.changes
    assert (slower.verdict, same.verdict) == ("slower", "within noise")
    assert slower.times.median == pytest.approx(1.3, rel=0.03)
    assert slower.times.low < slower.times.median < slower.times.high
    assert found.slower_by(0.1) == [slower]
    assert found.slower_by(0.5) == []
    assert compare(new, old).changes[0].verdict == "faster"


def test_a_run_is_within_the_noise_of_itself():
    one = report(result(SETTING, bursts(1000, 0)))
    (change,) = compare(one, one).changes
    assert change.times.median == pytest.approx(1)
    assert change.verdict == "within noise"
    assert compare(one, one).differences == []


def test_a_change_within_wide_scatter_is_noise():
    old, new = (report(result(SETTING, bursts(middle, seed, 0.5))) for middle, seed in ((1000, 0), (1100, 5)))
    assert compare(old, new).changes[0].verdict == "within noise"


def test_what_one_run_alone_has_and_what_the_machine_did():
    paced = replace(SETTING, pace="paced")
    old = report(result(SETTING, bursts(1000, 0)), result(paced, bursts(1000, 0)))
    other = replace(SETTING, threads=1)
    new = report(
        result(other, bursts(1000, 0)), result(SETTING, bursts(1000, 0)), machine={"processor": "B"}, rate=25.0
    )
    found = compare(old, new)
    assert [one.setting for one in found.changes] == [SETTING]
    assert (found.only_old, found.only_new) == ([paced], [other])
    assert found.differences == [("processor", "A", "B")]
    assert [times for _, times in found.machine] == [0.5]
    document = found.to_dict()
    assert document["changes"][0]["backend"] == "edgeclf"
    assert document["only_new"][0]["threads"] == 1


def test_runs_of_different_things_cannot_be_compared():
    with pytest.raises(UsageError, match="no setting in common"):
        compare(report(result(SETTING, bursts(1, 0))), report(result(replace(SETTING, model="x"), bursts(1, 0))))
