from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edgeclf_runtime.latency import summarise


def test_percentiles_of_one_to_a_hundred():
    summary = summarise(list(np.random.default_rng(0).permutation(np.arange(1.0, 101))))
    # Linear interpolation: percentile q lies at position q/100 · 99 of the sorted values.
    expected = {"frames": 100, "p50_us": 50.5, "p95_us": 95.05, "p99_us": 99.01, "max_us": 100.0}
    assert dataclasses.asdict(summary) == pytest.approx(expected)
    assert all(type(value) in (int, float) for value in dataclasses.asdict(summary).values())


def test_no_outlier_is_left_out():
    assert summarise([1.0] * 99 + [1e6]).max_us == 1e6


def test_one_latency():
    assert dataclasses.astuple(summarise([7.0])) == (1, 7.0, 7.0, 7.0, 7.0)


def test_none_without_latencies():
    assert summarise([]) is None
