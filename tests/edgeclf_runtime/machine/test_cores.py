from __future__ import annotations

import os

import pytest

from edgeclf_runtime.machine import cores
from edgeclf_runtime.machine.cores import physical_cores, usable_cores, usable_processors


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Makes a machine of cores, each of one or two processors, of which this process may use some."""

    def make(siblings, allowed=None, quota=None):
        numbers = [int(number) for core in siblings for number in core.split(",")]
        for core in siblings:
            for number in core.split(","):
                path = tmp_path / f"sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list"
                path.parent.mkdir(parents=True)
                path.write_text(core + "\n")
        (tmp_path / "sys/devices/system/cpu/cpufreq").mkdir(parents=True, exist_ok=True)
        allowed = set(numbers) if allowed is None else allowed
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: allowed, raising=False)
        monkeypatch.setattr(cores, "core_quota", lambda _root: quota)
        return tmp_path

    return make


TWO_THREADS_EACH = ["0,4", "1,5", "2,6", "3,7"]
HYBRID = ["0,1", "2,3", "4", "5", "6", "7"]


@pytest.mark.parametrize(
    ("siblings", "allowed", "quota", "threads", "processes"),
    [
        (["0", "1", "2", "3"], None, None, 4, 4),
        (TWO_THREADS_EACH, None, None, 4, 8),
        (TWO_THREADS_EACH, {0, 4}, None, 1, 2),
        (TWO_THREADS_EACH, {0, 1, 4}, None, 2, 3),
        (TWO_THREADS_EACH, {5}, None, 1, 1),
        (TWO_THREADS_EACH, None, 6.0, 4, 6),
        (TWO_THREADS_EACH, None, 2.5, 2, 2),
        (TWO_THREADS_EACH, {0, 4}, 2.5, 1, 2),
        (TWO_THREADS_EACH, None, 0.5, 1, 1),
        (HYBRID, None, None, 6, 8),
        ([], set(range(8)), None, 8, 8),
        ([], set(range(8)), 2.5, 2, 2),
        ([], {3}, 0.5, 1, 1),
    ],
)
def test_threads_go_by_cores_and_processes_by_processors(machine, siblings, allowed, quota, threads, processes):
    root = machine(siblings, allowed, quota)
    assert usable_cores(root) == threads
    assert usable_processors(root) == processes


def test_all_cores_of_the_machine(machine):
    root = machine(TWO_THREADS_EACH, allowed={0})
    assert physical_cores(root) == 4
    assert physical_cores(root, {1, 5, 2}) == 2
    assert physical_cores(root / "nothing") is None


def test_a_system_without_affinity(monkeypatch, machine):
    root = machine([])
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    for count, usable in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert usable_cores(root) == usable_processors(root) == usable


def test_this_machine():
    assert 1 <= usable_cores() <= usable_processors() <= (os.cpu_count() or 1)
