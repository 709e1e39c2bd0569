from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edgeclf_runtime.benchmark import bursts
from edgeclf_runtime.benchmark.bursts import (
    FramesFile,
    MeasuredCandidate,
    Opening,
    peak_memory,
    timed,
    timing_overhead_us,
)
from edgeclf_runtime.benchmark.candidates import Candidate


class Clock:
    """A time that only sleeping and steps move on."""

    def __init__(self):
        self.now = 1_000_000
        self.cpu = 0

    def perf_counter_ns(self):
        return self.now

    def sleep(self, seconds):
        self.now += round(1e9 * seconds)

    def process_time_ns(self):
        return self.cpu


@pytest.fixture
def clock(monkeypatch):
    """The time that bursts are measured by."""
    clock = Clock()
    monkeypatch.setattr(bursts, "time", clock)
    return clock


class Takes(Candidate):
    """Its first step takes 500 ns, and each one after it 100 ns of the clock and 250 ns of the CPU."""

    device = "pretended"

    def __init__(self, clock):
        self._clock = clock
        self._steps = 0

    def step(self, frames):
        self._steps += 1
        self._clock.now += 500 if self._steps == 1 else 100
        self._clock.cpu += 250
        return frames

    def reset(self):
        self._clock.now += 7

    def close(self):
        pass


def test_each_step_is_timed_alone_and_in_order(clock):
    seen = []

    def step(took):
        seen.append(took)
        clock.now += took

    latencies, late = timed(step, [30, 0, 60, 7])
    assert seen == latencies.tolist() == [30, 0, 60, 7]
    assert late == 0


def test_a_paced_step_begins_when_it_is_due_or_once_the_one_before_has_ended(clock):
    began = []

    def step(took):
        began.append(clock.now - 1_000_000)
        clock.now += took

    # Due at 100, 200, …; the second ends at 350, after the third was due, which then ends in time for the fourth.
    latencies, late = timed(step, [10, 150, 20, 5], pace_ns=100)
    assert began == [100, 200, 350, 400]
    assert latencies.tolist() == [10, 150, 20, 5]  # from its begin, not from when it was due
    assert late == 0.25


def test_the_overhead_is_measured_by_the_loop_that_times_steps(monkeypatch):
    calls = []

    def spy(step, given, pace_ns=0):
        calls.append(len(given))
        assert step(None) is None
        return timed(step, given, pace_ns)

    monkeypatch.setattr(bursts, "timed", spy)
    assert timing_overhead_us() >= 0
    assert calls == [10_000]


def test_every_stream_is_a_frame_ahead_of_the_one_before(tmp_path):
    frames = np.arange(5, dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 3, 4), np.float32)
    file = FramesFile.write(tmp_path / "a.npy", frames, most_streams=3)
    one, _ = file.read(1)
    three, size = file.read(3)
    assert [batch[:, 0, 0, 0].tolist() for batch in one] == [[0], [1], [2], [3], [4]]
    assert [batch[:, 0, 0, 0].tolist() for batch in three] == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 0], [4, 0, 1]]
    assert all(batch.shape == (3, 2, 3, 4) and batch.flags.c_contiguous for batch in three)
    assert size == 7 * 2 * 3 * 4 * 4


def test_more_streams_than_frames(tmp_path):
    file = FramesFile.write(tmp_path / "a.npy", np.arange(2.0)[:, None], most_streams=5)
    assert [batch[:, 0].tolist() for batch in file.read(5)[0]] == [[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]]


def test_frames_of_nothing(tmp_path):
    file = FramesFile.write(tmp_path / "a.npy", np.zeros((1, 0), np.float32), most_streams=1)
    assert [batch.shape for batch in file.read(1)[0]] == [(1, 0)]


def test_every_burst_runs_the_same_frames_from_zero_state(pretended, tmp_path):
    frames = 1 + np.arange(3, dtype=np.float32)[:, None]
    file = FramesFile.write(tmp_path / "a.npy", frames, most_streams=1)
    notes = tmp_path / "notes"
    measured = MeasuredCandidate(lambda: pretended.open_sleeper(notes=notes), file, streams=1, warmup=2)
    notes.write_text("")
    for _ in range(2):
        assert measured("burst", 4).latencies_ns.shape == (4,)
    # The candidate overwrites what it is given, which no file sees.
    assert np.array_equal(np.load(tmp_path / "a.npy"), frames)
    lines = notes.read_text().splitlines()
    assert [line.split()[0] for line in lines] == (["reset"] + ["step"] * 4) * 2


def test_what_a_burst_takes_of_the_time_and_of_the_cpu(clock, tmp_path):
    file = FramesFile.write(tmp_path / "a.npy", np.ones((3, 1), np.float32), most_streams=1)
    measured = MeasuredCandidate(lambda: Takes(clock), file, 1, warmup=0)
    burst = measured("burst", 3)
    assert burst.latencies_ns.tolist() == [100] * 3
    assert (burst.wall_ns, burst.cpu_ns) == (300, 750)  # of more than one thread
    paced = measured("burst", 3, 1)
    assert paced.latencies_ns.tolist() == [100] * 3
    assert (paced.wall_ns, paced.cpu_ns) == (3100, 750)  # waiting included


def test_energy_is_that_of_the_burst(pretended, tmp_path, monkeypatch):
    class Meter:
        readings = iter([100.0, 103.5])
        closed = False

        @staticmethod
        def find():
            return Meter()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            Meter.closed = True

        def read(self):
            return next(Meter.readings)

    file = FramesFile.write(tmp_path / "a.npy", np.ones((3, 1), np.float32), most_streams=1)
    measured = MeasuredCandidate(pretended.open_sleeper, file, 1, warmup=0)
    monkeypatch.setattr(bursts, "EnergyMeter", Meter)
    assert measured("burst", 3).joules == 3.5
    assert Meter.closed
    monkeypatch.setattr(Meter, "find", lambda: None)
    assert measured("burst", 3).joules is None


def test_the_first_step_and_the_warm_up_come_before_the_bursts(clock, monkeypatch, tmp_path):
    file = FramesFile.write(tmp_path / "a.npy", np.ones((3, 1), np.float32), most_streams=1)
    monkeypatch.setattr(bursts, "STARTED_NS", clock.now - 3000)
    reads = FramesFile.read

    def read(*arguments):
        clock.now += 10_000
        return reads(*arguments)

    def opens():
        clock.now += 40
        return Takes(clock)

    monkeypatch.setattr(FramesFile, "read", read)
    measured = MeasuredCandidate(opens, file, 1, warmup=4)
    assert clock.cpu == 5 * 250
    assert measured("opening") == Opening("pretended", load_ns=3040, first_ns=500)


@pytest.mark.skipif(sys.platform != "linux", reason="as Linux tells it")
def test_peak_memory_is_the_process_s_own():
    # Linux's ru_maxrss begins with what the process that started it held.
    ballast = np.ones(40_000_000)
    program = (
        "import numpy as np; from edgeclf_runtime.benchmark.bursts import peak_memory\n"
        "before = peak_memory(); ballast = np.ones(12_500_000); del ballast\n"
        "print(before, peak_memory())"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, after = map(int, found.stdout.split())
    assert before < ballast.nbytes <= peak_memory()
    assert 90e6 < after - before < 120e6
