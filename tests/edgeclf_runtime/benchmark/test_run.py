from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest

from edgeclf_runtime.backends import DeviceOptions
from edgeclf_runtime.benchmark.bursts import Burst, Opening
from edgeclf_runtime.benchmark.candidates import Contender
from edgeclf_runtime.benchmark.results import Setting
from edgeclf_runtime.benchmark.run import Plan, measure
from edgeclf_runtime.benchmark.runtime_candidates import open_edgeclf, open_ort
from edgeclf_runtime.errors import UsageError

FRAMES = np.ones((4, 2, 12, 16), np.float32)


def setting(backend, **changes):
    return Setting(
        **{"model": "tiny", "backend": backend, "device": "auto", "precision": "fp32", "threads": 1} | changes
    )


def test_two_candidates_of_two_processes(write_model):
    path = write_model()
    options = DeviceOptions("cpu", threads=1)
    contenders = [
        Contender(setting("edgeclf"), partial(open_edgeclf, path, options, 1), macs=123),
        Contender(setting("ort"), partial(open_ort, path, options, 1)),
    ]
    plan = Plan(frames=6, rounds=3, processes=2, warmup=1, paced_frames=2)
    told = []
    results, left_out = measure(
        contenders, {"tiny": FRAMES}, {"tiny": 2000}, plan, "edgeclf", lambda *done: told.append(done)
    )
    assert left_out == []
    assert told == [(k, 28) for k in range(29)]  # 4 processes, and 2 bursts of each in 3 rounds
    assert [(r.setting.backend, r.setting.pace, r.setting.device) for r in results] == [
        ("edgeclf", "back-to-back", "cpu"),
        ("edgeclf", "paced", "cpu"),
        ("ort", "back-to-back", "cpu"),
        ("ort", "paced", "cpu"),
    ]
    for result in results:
        latencies, is_paced = result.latencies, result.setting.pace == "paced"
        assert latencies.steps == (12 if is_paced else 36) == sum(latencies.counts)
        assert np.shape(latencies.burst_p50_us) == (2, 3)
        assert 0 < latencies.p50_us <= latencies.p95_us <= latencies.p99_us <= latencies.p999_us <= latencies.max_us
        assert latencies.edges_us[0] <= np.min(latencies.burst_p50_us)
        assert min(result.first_us, result.load_ms, result.cpu_us_per_frame, result.frames_per_second) > 0
        assert 10 < result.peak_rss_mb < 1000
        assert result.macs == (123 if result.setting.backend == "edgeclf" else None)
        assert (result.late is not None) == is_paced
        assert (result.ratio is None) == (result.setting.backend == "edgeclf")
    by_pace = {pace: [r for r in results if r.setting.pace == pace] for pace in ("back-to-back", "paced")}
    for baseline, other in by_pace.values():
        assert other.ratio.median == pytest.approx(baseline.latencies.p50_us / other.latencies.p50_us)
        assert other.ratio.low <= other.ratio.high


def test_streams_are_frames_of_their_own_and_all_count(pretended, tmp_path):
    frames = 1 + np.arange(4, dtype=np.float32)[:, None]
    opens = partial(pretended.open_sleeper, notes=str(tmp_path / "three"))
    plan = Plan(frames=4, rounds=1, processes=1, warmup=0)
    (three,), _ = measure([Contender(setting("a", streams=3), opens)], {"tiny": frames}, {}, plan, "a")
    # The first step alone, then the burst; who is given frames overwrites the first of them.
    first, reset, *burst = (tmp_path / "three").read_text().splitlines()
    assert (first, reset) == ("step (3, 1) [1, 2, 3]", "reset")
    assert [line.split("[")[1] for line in burst[1:]] == ["2, 3, 4]", "3, 4, 1]", "4, 1, 2]"]
    assert three.latencies.steps == 4


def test_what_cannot_run_is_left_out_with_its_reason(pretended, tmp_path):
    contenders = [
        Contender(setting("gone"), partial(open_edgeclf, tmp_path / "gone.onnx", DeviceOptions("cpu"), 1)),
        Contender(setting("dead", threads=2), pretended.kill_itself),
        Contender(setting("fine"), pretended.open_sleeper),
    ]
    told = []
    plan = Plan(frames=2, rounds=2, processes=1, warmup=0)
    results, left_out = measure(contenders, {"tiny": FRAMES}, {}, plan, "gone", lambda *done: told.append(done))
    assert [result.setting.backend for result in results] == ["fine"]
    assert results[0].ratio is None
    assert left_out == [
        ("tiny: gone fp32 on auto, 1 thread, 1 stream", f"{tmp_path / 'gone.onnx'}: there is no such model file."),
        (
            "tiny: dead fp32 on auto, 2 threads, 1 stream",
            "Its process died of signal 9 (SIGKILL), as it does where memory runs out.",
        ),
    ]
    assert told[-1] == (9, 9)
    assert all(a < b for (a, _), (b, _) in itertools.pairwise(told))


def test_peak_memory_is_the_candidate_s_and_not_the_frames_s(pretended):
    contenders = [
        Contender(setting("small"), pretended.open_sleeper),
        Contender(setting("large"), partial(pretended.open_sleeper, ballast_mb=100)),
        Contender(setting("small", model="big frames"), pretended.open_sleeper),
    ]
    frames = {"tiny": FRAMES, "big frames": np.ones((80, 250_000), np.float32)}
    (small, large, big_frames), _ = measure(contenders, frames, {}, Plan(2, 1, 1, 0), "small")
    assert 90 < large.peak_rss_mb - small.peak_rss_mb < 120
    assert abs(big_frames.peak_rss_mb - small.peak_rss_mb) < 15


class NoProcesses:
    """Stands for `Turns`: a step of contender k takes k + 1 µs, a burst 1 ms, 30 µs of the CPU, and half a joule."""

    devices = ("cpu",)

    def __init__(self, opens, processes, *_):
        self.left_out = {}
        self._names = list(opens)
        self._processes = processes

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def round(self, requests):
        for k in self._names:
            for number, request in itertools.product(range(self._processes), requests[k]):
                yield k, number, request, Burst(np.full(request[1], 1000 * (k + 1)), 0.25, 1_000_000, 30_000, 0.5)

    def ask(self, k, what):
        return [Opening(self.devices[k % len(self.devices)], 5_000_000, 6_000)] if what == "opening" else [7_000_000]


@pytest.fixture
def no_processes(monkeypatch):
    """`NoProcesses`, in which everything is measured."""
    monkeypatch.setattr("edgeclf_runtime.benchmark.run.Turns", NoProcesses)
    return NoProcesses


@pytest.mark.usefixtures("no_processes")
def test_what_bursts_come_to(pretended):
    contenders = [Contender(setting("a", streams=streams), pretended.open_sleeper) for streams in (3, 1)]
    plan = Plan(frames=5, rounds=2, processes=1, paced_frames=10)
    results, _ = measure(contenders, {"tiny": FRAMES}, {"tiny": 1000}, plan, "a")
    three, three_paced, one, one_paced = results
    # Back to back over the time of the steps, of 1 µs and of 2 µs; paced over that of the bursts, of 1 ms each.
    assert [result.frames_per_second for result in (three, one)] == pytest.approx([3e6, 0.5e6])
    assert [result.frames_per_second for result in (three_paced, one_paced)] == pytest.approx([30_000, 10_000])
    assert [result.cpu_us_per_frame for result in results] == pytest.approx([2, 1, 6, 3])
    assert [result.late for result in results] == [None, 0.25, None, 0.25]
    assert [result.ratio for result in results] == [None] * 4  # each is its own baseline
    assert {(result.first_us, result.load_ms, result.peak_rss_mb) for result in results} == {(6, 5, 7)}


def test_there_is_no_ratio_across_devices(no_processes, monkeypatch, pretended):
    monkeypatch.setattr(no_processes, "devices", ("cuda", "cpu"))
    contenders = [Contender(setting(name), pretended.open_sleeper) for name in "abcd"]
    results, _ = measure(contenders, {"tiny": FRAMES}, {}, Plan(2, 1, 1), "a")
    assert [result.setting.device for result in results] == ["cuda", "cpu", "cuda", "cpu"]
    assert [result.ratio and result.ratio.median for result in results] == [None, None, 1 / 3, None]


@pytest.mark.usefixtures("no_processes")
@pytest.mark.parametrize(("processes", "warns"), [(32, False), (33, True)])
def test_many_processes_are_warned_of(pretended, caplog, processes, warns):
    contenders = [Contender(setting(name), pretended.open_sleeper) for name in "ab"]
    measure(contenders, {"tiny": FRAMES}, {}, Plan(2, 1, processes), "a")
    assert ("66 processes will hold a model each" in caplog.text) == warns


@pytest.mark.usefixtures("no_processes")
def test_the_baseline_is_of_the_same_model_threads_streams_and_pace(pretended):
    settings = [
        setting("a", precision="int8"),
        setting("a"),
        setting("b"),
        setting("b", precision="int8"),
        setting("b", threads=2),
        setting("b", model="other"),
        setting("a", model="limit: product"),
        setting("b", model="limit: product"),
    ]
    contenders = [Contender(one, pretended.open_sleeper) for one in settings]
    frames = {one.model: FRAMES for one in settings} | {"limit: product": np.zeros((1, 0), np.float32)}
    plan = Plan(frames=2, rounds=1, processes=1, paced_frames=4)
    results, _ = measure(contenders, frames, {"tiny": 1000}, plan, "a")
    ratios = {
        pace: [(r.latencies.p50_us, r.ratio and r.ratio.median) for r in results if r.setting.pace == pace]
        for pace in ("back-to-back", "paced")
    }
    of_tiny = [(1, 2.0), (2, None), (3, 2 / 3), (4, 2 / 4), (5, None)]
    assert ratios == {"back-to-back": [*of_tiny, (6, None), (7, None), (8, None)], "paced": of_tiny}
    assert [result.energy_mj_per_frame for result in results[:2]] == [250.0, 125.0]


@pytest.mark.parametrize(
    "change", [{"frames": 0}, {"rounds": 0}, {"processes": 0}, {"paced_frames": 0}, {"warmup": -1}]
)
def test_a_plan_of_nothing(change):
    with pytest.raises(UsageError, match="at least one frame, one round and one process"):
        Plan(**change)
