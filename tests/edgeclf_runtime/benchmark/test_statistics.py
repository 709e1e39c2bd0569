from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from edgeclf_runtime.benchmark.statistics import bootstrap_ratio, change, logarithmic_histogram, summed_up


def skewed(seed, shape, scale=1000.0):
    return scale * np.random.default_rng(seed).lognormal(0.0, 0.3, shape)


def test_percentiles_are_of_all_steps_of_all_bursts():
    values = np.random.default_rng(0).permutation(np.arange(1.0, 241.0)).reshape(3, 4, 20)
    found = summed_up(values)
    # Linear interpolation: percentile q lies at position q/100 · 239 of the sorted values.
    assert (found.steps, found.p50_us, found.max_us) == (240, 120.5, 240.0)
    assert (found.p95_us, found.p99_us, found.p999_us) == pytest.approx((228.05, 237.61, 239.761))
    assert found.burst_p50_us == [[float(np.median(values[p, r])) for r in range(4)] for p in range(3)]
    assert sum(found.counts) == 240


def test_no_outlier_is_left_out():
    values = np.full((1, 1, 1000), 5.0)
    values[0, 0, 17] = 1e7
    found = summed_up(values)
    assert found.max_us == 1e7
    assert found.counts[0] == 999
    assert found.counts[-1] == 1


@pytest.mark.parametrize("values", [skewed(1, (500,)), np.array([3.0]), np.array([100.0, 1000.0, 0.0])])
def test_histogram_against_numpy(values):
    counts, edges = logarithmic_histogram(values)
    found = np.maximum(values, 1e-3)
    assert edges[0] <= found.min() * (1 + 1e-12)
    assert edges[-1] > found.max()
    assert np.diff(np.log10(edges)) == pytest.approx(1 / 40)
    assert counts == np.histogram(found * (1 + 1e-12), edges)[0].tolist()


def test_histograms_of_two_settings_have_borders_in_common():
    one, other = (logarithmic_histogram(skewed(2, (300,), scale))[1] for scale in (1000, 1500))
    shared = [edge for edge in one if any(abs(edge / e - 1) < 1e-9 for e in other)]
    assert len(shared) > 10


def test_ratio_against_scipy_where_rounds_alone_are_drawn():
    # One process and one step a round: what is drawn are pairs, as in scipy's paired bootstrap.
    drift = skewed(3, 60, 1.0)
    baseline, candidate = 1500 * drift * skewed(4, 60, 1.0), 1000 * drift * skewed(5, 60, 1.0)
    found = bootstrap_ratio(baseline[None, :, None], candidate[None, :, None], resamples=20_000)
    right = scipy.stats.bootstrap(
        (baseline, candidate),
        lambda a, b, axis: np.median(a, axis) / np.median(b, axis),
        paired=True, vectorized=True, n_resamples=20_000, method="percentile", random_state=1,
    ).confidence_interval  # fmt: skip
    assert found.median == np.median(baseline) / np.median(candidate)
    assert (found.low, found.high) == pytest.approx((right.low, right.high), rel=0.01)


def test_ratio_against_scipy_where_processes_alone_are_drawn():
    baseline, candidate = skewed(6, 25), skewed(7, 30, 700.0)
    found = bootstrap_ratio(baseline[:, None, None], candidate[:, None, None], resamples=20_000)
    right = scipy.stats.bootstrap(
        (baseline, candidate),
        lambda a, b, axis: np.median(a, axis) / np.median(b, axis),
        vectorized=True, n_resamples=20_000, method="percentile", random_state=1,
    ).confidence_interval  # fmt: skip
    assert (found.low, found.high) == pytest.approx((right.low, right.high), rel=0.01)


def test_change_against_scipy():
    old, new = skewed(8, 40), skewed(9, 50, 1200.0)
    found = change([old.tolist()], [new.tolist()], resamples=20_000)
    right = scipy.stats.bootstrap(
        (new, old),
        lambda a, b, axis: np.median(a, axis) / np.median(b, axis),
        vectorized=True, n_resamples=20_000, method="percentile", random_state=1,
    ).confidence_interval  # fmt: skip
    assert found.median == np.median(new) / np.median(old)
    assert (found.low, found.high) == pytest.approx((right.low, right.high), rel=0.01)


def test_what_is_twice_as_fast():
    slow = np.full((3, 4, 5), 2000.0)
    assert vars(bootstrap_ratio(slow, slow / 2)) == {"median": 2.0, "low": 2.0, "high": 2.0}
    # A run that takes half as long as the older one.
    assert vars(change([[2000.0] * 4] * 3, [[1000.0] * 2])) == {"median": 0.5, "low": 0.5, "high": 0.5}


def test_a_drift_that_both_share_does_not_widen_the_interval():
    drift = np.linspace(1, 3, 10)[None, :, None]
    noise = [skewed(seed, (3, 10, 100), 1.0) ** 0.1 for seed in (10, 11)]
    paired = bootstrap_ratio(1300 * drift * noise[0], 1000 * drift * noise[1])
    apart = bootstrap_ratio(1300 * drift * noise[0], 1000 * drift[:, ::-1] * noise[1])
    assert paired.low < 1.3 < paired.high
    assert paired.high - paired.low < 0.1
    assert apart.high - apart.low > 5 * (paired.high - paired.low)


def test_a_slow_process_widens_the_interval():
    noise = skewed(12, (3, 10, 100), 1000.0)
    even = bootstrap_ratio(noise, noise)
    one_slow = bootstrap_ratio(noise * np.array([1, 1, 2])[:, None, None], noise)
    assert one_slow.high - one_slow.low > 3 * (even.high - even.low)


def test_the_same_numbers_give_the_same_interval_however_many_are_resampled_at_once(monkeypatch):
    sides = skewed(13, (3, 8, 40)), skewed(14, (2, 8, 30))
    whole = bootstrap_ratio(*sides)
    monkeypatch.setattr("edgeclf_runtime.benchmark.statistics._MOST_AT_ONCE", 5000)
    assert bootstrap_ratio(*sides) == whole


@pytest.mark.parametrize("paired", [True, False])
def test_the_interval_covers_the_true_ratio_about_as_often_as_it_says(paired):
    # Rounds that drift for both sides alike, and processes that differ by a few percent.
    covered, runs = 0, 120
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        drift = rng.lognormal(0, 0.1, (1, 10, 1))
        sides = []
        for scale in (1250.0, 1000.0):
            process = rng.lognormal(0, 0.01, (5, 1, 1))
            other = drift if paired else rng.lognormal(0, 0.1, (1, 10, 1))
            sides.append(scale * process * other * rng.lognormal(0, 0.05, (5, 10, 20)))
        if paired:
            found = bootstrap_ratio(*sides, resamples=300)
        else:
            found = change(*(np.median(side, axis=2).tolist() for side in reversed(sides)), resamples=300)
        covered += found.low <= 1.25 <= found.high
    assert 0.86 <= covered / runs <= 1.0
