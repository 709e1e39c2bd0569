from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from edgeclf_runtime.latency import LatencyHistogram


def histogram_of(latencies):
    histogram = LatencyHistogram()
    for latency in latencies:
        histogram.add(latency)
    return histogram


def test_percentiles_of_one_to_a_hundred():
    summary = histogram_of(np.random.default_rng(0).permutation(np.arange(1.0, 101)).tolist()).summary()
    # Linear interpolation: percentile q lies at position q/100 · 99 of the sorted values.
    expected = {"frames": 100, "p50_us": 50.5, "p95_us": 95.05, "p99_us": 99.01, "max_us": 100.0}
    assert dataclasses.asdict(summary) == pytest.approx(expected, rel=0.01)
    assert all(type(value) in (int, float) for value in dataclasses.asdict(summary).values())


def test_no_outlier_is_left_out():
    assert histogram_of([1.0] * 99 + [1e6]).summary().max_us == 1e6


def test_none_without_latencies():
    assert LatencyHistogram().summary() is None


@pytest.mark.parametrize("count", [1, 2, 3, 10, 101, 20_000])
@pytest.mark.parametrize("spread", ["narrow", "wide", "two peaks"])
def test_against_numpy(count, spread):
    rng = np.random.default_rng(count)
    latencies = {
        "narrow": 800 + 40 * rng.random(count),
        "wide": np.exp(rng.normal(6, 3, count)).clip(0.2),
        "two peaks": np.where(rng.random(count) < 0.9, 500.0, 90_000.0) * (1 + 0.01 * rng.random(count)),
    }[spread]
    found = dataclasses.astuple(histogram_of(latencies.tolist()).summary())
    assert found[0] == count
    assert found[1:4] == pytest.approx(np.percentile(latencies, [50, 95, 99]), rel=0.01)
    assert found[4] == latencies.max()


def test_it_keeps_what_lies_outside_of_its_bins():
    found = histogram_of([0.0, 1e-9, 1e13]).summary()
    assert (found.frames, found.max_us) == (3, 1e13)
    assert 0 <= found.p50_us <= 0.11


def test_equal_latencies_are_exact():
    assert dataclasses.astuple(histogram_of([7.25] * 9).summary()) == (9, 7.25, 7.25, 7.25, 7.25)


def test_joined_histograms():
    rng = np.random.default_rng(3)
    parts = [np.exp(rng.normal(mean, 1, 500)).tolist() for mean in (3, 6, 9)]
    joined = LatencyHistogram.joined(map(histogram_of, parts))
    assert joined.summary() == histogram_of([latency for part in parts for latency in part]).summary()
    assert LatencyHistogram.joined([]).summary() is None


def test_it_does_not_grow():
    histogram = histogram_of([1.0])
    before = len(pickle.dumps(histogram))
    for latency in range(1, 50_000):
        histogram.add(latency * 1.7)
    assert len(pickle.dumps(histogram)) < before + 1300 * 4
