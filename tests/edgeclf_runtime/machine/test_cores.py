from __future__ import annotations

import os

import pytest

from edgeclf_runtime.machine import cores
from edgeclf_runtime.machine.cores import usable_cores


@pytest.mark.parametrize(
    ("allowed", "quota", "usable"), [(8, None, 8), (8, 2.5, 2), (2, 6.0, 2), (8, 0.5, 1), (1, None, 1)]
)
def test_usable_cores_are_the_fewer_of_those_allowed_and_those_paid_for(monkeypatch, allowed, quota, usable):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(allowed)), raising=False)
    monkeypatch.setattr(cores, "core_quota", lambda _root: quota)
    assert usable_cores() == usable


def test_usable_cores_where_there_is_no_affinity(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path) == 1


def test_usable_cores_here():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
