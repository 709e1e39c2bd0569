from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgeclf_runtime.benchmark.compare import compare
from edgeclf_runtime.benchmark.facts import DATE, LOAD, machine_facts
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


def test_one_machine_does_not_differ_from_itself(monkeypatch):
    facts = []
    for load in (0.0, 1.0):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, load, load), raising=False)
        facts.append(machine_facts() | {DATE: f"2026-01-0{load:.0f}"})
    assert facts[0][LOAD] != facts[1][LOAD]
    old, new = (report(result(SETTING, bursts(1000, 0)), machine=one) for one in facts)
    assert compare(old, new).differences == []


def test_what_the_newer_run_could_not_measure_is_lost():
    other = replace(SETTING, backend="eager", precision="fp16", device="cuda")
    settings = [SETTING, replace(SETTING, pace="paced"), other, replace(other, threads=1), replace(other, streams=4)]
    old = report(*(result(one, bursts(1000, 0)) for one in settings))
    # What could not be opened is called by the device that was asked for.
    lost = replace(other, device="auto").name
    new = replace(report(result(SETTING, bursts(1000, 0))), left_out=[(lost, "It failed."), ("the stages", "Why.")])
    found = compare(old, new)
    assert found.only_old == settings[1:]
    assert found.lost == [("best: eager fp16 on cuda, 2 threads, 1 stream", "It failed.")]
    assert found.to_dict()["lost"] == [{"name": found.lost[0][0], "reason": "It failed."}]
    assert compare(new, new).lost == []


def test_a_run_that_lost_everything_at_every_pace():
    settings = [SETTING, replace(SETTING, pace="paced")]
    old = report(*(result(one, bursts(1000, 0)) for one in settings))
    found = compare(old, replace(report(), left_out=[(SETTING.name, "It died.")]))
    assert found.changes == []
    assert found.lost == [(one.name, "It died.") for one in settings]


def test_runs_of_different_things_cannot_be_compared():
    with pytest.raises(UsageError, match="no setting in common"):
        compare(report(result(SETTING, bursts(1, 0))), report(result(replace(SETTING, model="x"), bursts(1, 0))))
