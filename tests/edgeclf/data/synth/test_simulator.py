from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

from edgeclf.data.synth.config import PixelConfig
from edgeclf.data.synth.simulator import EventSimulator
from edgeclf_runtime.events.batch import Events

QUIET = PixelConfig(
    threshold_on=0.25,
    threshold_off=0.25,
    threshold_sigma=0.0,
    refractory_us=0,
    leak_rate_hz=0.0,
    shot_noise_rate_hz=0.0,
)


def pixels(first: float | np.ndarray, seed: int = 0, **changes: float) -> EventSimulator:
    config = PixelConfig(**{name: changes.get(name, getattr(QUIET, name)) for name in QUIET.__slots__})
    return EventSimulator(config, np.atleast_2d(np.asarray(first, np.float64)), np.random.default_rng(seed))


def rows(events: Events) -> list[tuple[int, int, int, int]]:
    return list(zip(events.t.tolist(), events.y.tolist(), events.x.tolist(), events.p.tolist(), strict=True))


def simulate_pixel_by_pixel(
    simulator: EventSimulator, times: list[int], pictures: np.ndarray
) -> list[tuple[int, int, int, int]]:
    """What an `EventSimulator` without shot noise should return, by following each pixel's line by itself."""
    config, state = simulator.config, simulator.state
    found = []
    for y, x in np.ndindex(state.reference.shape):
        on, off = float(simulator.threshold_on[y, x]), float(simulator.threshold_off[y, x])
        memory, value, now = float(state.reference[y, x]), float(state.log_intensity[y, x]), state.t_us
        last = -math.inf
        for then, picture in zip(times, pictures, strict=True):
            target = float(picture[y, x])
            leak = on * config.leak_rate_hz * 1e-6
            slope = (target - value) / (then - now) + leak
            difference, elapsed = value - memory, 0.0
            while True:
                goal = on if slope > 0 else -off
                wait = (goal - difference) / slope if slope != 0 else math.inf
                if elapsed + wait > then - now:
                    break
                elapsed += wait
                memory, difference = memory + goal, 0.0
                t = now + min(int(elapsed), then - now - 1)
                if t - last >= config.refractory_us:
                    found.append((t, y, x, int(goal > 0)))
                    last = t
            memory -= leak * (then - now)
            value, now = target, then
    return sorted(found)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"threshold_sigma": 0.05, "threshold_off": 0.35},
        {"threshold_sigma": 0.05, "leak_rate_hz": 40.0},
        {"threshold_sigma": 0.03, "leak_rate_hz": 5.0, "refractory_us": 700},
    ],
)
def test_events_are_those_of_a_loop_over_pixels(changes: dict[str, float]) -> None:
    rng = np.random.default_rng(7)
    times = np.cumsum(rng.integers(300, 1500, 60)).tolist()
    pictures = np.cumsum(rng.normal(0.0, 0.3, (61, 4, 5)), axis=0).astype(np.float32)
    simulator = pixels(pictures[0], **changes)
    expected = simulate_pixel_by_pixel(simulator, times, pictures[1:])
    events = Events.concatenate(simulator.step(t, picture) for t, picture in zip(times, pictures[1:], strict=True))
    assert len(expected) > 500
    # The loop adds up waits in float64 where the simulator's memory is float32: a time may round to its neighbour.
    by_pixel = sorted((y, x, t, p) for t, y, x, p in rows(events))
    wanted = sorted((y, x, t, p) for t, y, x, p in expected)
    assert [(y, x, p) for y, x, _, p in by_pixel] == [(y, x, p) for y, x, _, p in wanted]
    assert max(abs(a[2] - b[2]) for a, b in zip(by_pixel, wanted, strict=True)) <= 1
    assert {p for *_, p in by_pixel} == {0, 1}


def test_a_ramp_makes_an_event_at_each_threshold_at_the_time_of_its_crossing() -> None:
    simulator = pixels([[0.0, 0.0, 0.0]])
    events = simulator.step(1000, np.array([[1.1, -0.6, 0.2]]))
    assert rows(events) == [
        (227, 0, 0, 1),
        (416, 0, 1, 0),
        (454, 0, 0, 1),
        (681, 0, 0, 1),
        (833, 0, 1, 0),
        (909, 0, 0, 1),
    ]
    # What is left over counts towards the next event: 0.1 of 0.25 here, 0.2 of 0.25 in the last pixel.
    assert rows(simulator.step(2000, np.array([[1.26, -0.6, 0.31]]))) == [(1454, 0, 2, 1), (1937, 0, 0, 1)]


def test_a_constant_scene_without_noise_is_silent() -> None:
    assert len(pixels(np.ones((8, 8))).step(1_000_000, np.ones((8, 8)))) == 0


def test_a_pixel_left_at_its_threshold_by_rounding_fires_at_the_next_step() -> None:
    simulator = pixels(0.0)
    simulator.state.reference -= 0.25
    assert rows(simulator.step(1000, np.array([[0.0]]))) == [(0, 0, 0, 1)]
    assert rows(simulator.step(2000, np.array([[0.0]]))) == []


def test_an_event_at_the_very_end_of_a_step_stays_within_it() -> None:
    simulator = pixels(0.0)
    assert rows(simulator.step(1000, np.array([[0.25]]))) == [(999, 0, 0, 1)]


def test_thresholds_are_followed_one_polarity_each() -> None:
    simulator = pixels(np.zeros((1, 2)), threshold_on=0.1, threshold_off=0.4)
    assert [(x, p) for _, _, x, p in rows(simulator.step(100, np.array([[0.45, -0.45]])))] == [
        (0, 1),
        (0, 1),
        (0, 1),
        (0, 1),
        (1, 0),
    ]


def test_mismatch_is_gaussian_and_independent_for_the_two_polarities() -> None:
    simulator = pixels(np.zeros((200, 200)), threshold_sigma=0.03, threshold_off=0.3)
    on, off = simulator.threshold_on.ravel(), simulator.threshold_off.ravel()
    assert on.mean() == pytest.approx(0.25, abs=0.001)
    assert off.mean() == pytest.approx(0.3, abs=0.001)
    assert on.std() == pytest.approx(0.03, rel=0.03)
    assert np.count_nonzero(np.abs(on - 0.25) < 0.03) / on.size == pytest.approx(0.683, abs=0.01)
    assert abs(np.corrcoef(on, off)[0, 1]) < 0.02


def test_no_mismatch_makes_a_threshold_vanish() -> None:
    simulator = pixels(np.zeros((100, 100)), threshold_sigma=0.5)
    assert simulator.threshold_on.min() == pytest.approx(0.01)


def test_a_pixel_rests_for_its_refractory_time() -> None:
    simulator = pixels(np.zeros((20, 20)), refractory_us=5000, shot_noise_rate_hz=300.0)
    events = Events.concatenate(
        simulator.step(t, np.full((20, 20), np.sin(t * 1e-3))) for t in range(1000, 101_000, 1000)
    )
    order = np.lexsort((events.t, events.x, events.y))
    pixel = (events.y.astype(int) * 20 + events.x)[order]
    gaps = np.diff(events.t[order])[np.diff(pixel) == 0]
    assert gaps.min() >= 5000
    assert np.count_nonzero(gaps < 5500) > 50


def test_what_is_crossed_while_a_pixel_rests_is_not_made_up_for_later() -> None:
    simulator = pixels(0.0, refractory_us=900)
    assert rows(simulator.step(1000, np.array([[1.05]]))) == [(238, 0, 0, 1)]
    assert rows(simulator.step(5000, np.array([[1.05]]))) == []
    assert rows(simulator.step(6000, np.array([[1.25]]))) == [(5999, 0, 0, 1)]


def test_leaks_make_on_events_at_their_rate_spread_over_time() -> None:
    simulator = pixels(np.zeros((50, 40)), leak_rate_hz=4.0, threshold_sigma=0.03)
    events = simulator.step(1_000_000, np.zeros((50, 40)))
    assert len(events) == pytest.approx(4 * 2000, rel=0.001)
    assert events.p.all()
    per_tenth = np.histogram(events.t, bins=10, range=(0, 1_000_000))[0]
    assert per_tenth == pytest.approx(np.full(10, 800), abs=150)


def test_shot_noise_is_poisson_at_its_rate_in_both_polarities_everywhere() -> None:
    simulator = pixels(np.zeros((40, 40)), shot_noise_rate_hz=5.0)
    events = Events.concatenate(simulator.step(t, np.zeros((40, 40))) for t in range(10_000, 4_010_000, 10_000))
    mean = 5.0 * 4.0 * 1600
    assert abs(len(events) - mean) < 4.0 * math.sqrt(mean)
    assert events.p.mean() == pytest.approx(0.5, abs=0.015)
    counts = np.bincount(events.y.astype(int) * 40 + events.x, minlength=1600)
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.15)
    assert len(set(events.t.tolist())) > 0.98 * len(events)


def test_noise_leaves_the_memory_alone() -> None:
    simulator = pixels(np.zeros((30, 30)), shot_noise_rate_hz=50.0)
    assert len(simulator.step(100_000, np.zeros((30, 30)))) > 1000
    assert not simulator.state.reference.any()


def test_stepping_over_a_still_scene_at_once_is_the_same_as_in_small_steps() -> None:
    still = np.zeros((12, 12))
    at_once = pixels(still, leak_rate_hz=7.0).step(500_000, still)
    simulator = pixels(still, leak_rate_hz=7.0)
    in_steps = Events.concatenate(simulator.step(t, still) for t in range(1000, 501_000, 1000))
    one, other = (np.lexsort((e.t, e.x, e.y)) for e in (at_once, in_steps))
    np.testing.assert_array_equal(at_once.x[one], in_steps.x[other])
    # 500 additions to a float32 memory leave about 500 roundings of 1e-8 in a slope of 1.75e-6 a µs.
    np.testing.assert_allclose(at_once.t[one], in_steps.t[other], atol=20)


def test_a_simulator_put_aside_and_taken_up_again_goes_on_as_if_nothing_had_been() -> None:
    rng = np.random.default_rng(3)
    pictures = np.cumsum(rng.normal(0.0, 0.2, (31, 9, 9)), axis=0)
    noisy = {"leak_rate_hz": 20.0, "shot_noise_rate_hz": 100.0, "refractory_us": 400, "threshold_sigma": 0.02}
    whole = pixels(pictures[0], **noisy)
    parted = pixels(pictures[0], **noisy)
    expected = [rows(whole.step(1000 * k, pictures[k])) for k in range(1, 31)]
    found = [rows(parted.step(1000 * k, pictures[k])) for k in range(1, 13)]
    state, generator = pickle.loads(pickle.dumps((parted.state, parted.rng)))
    parted.step(99_000, pictures[0])
    parted.state, parted.rng = state, generator
    found += [rows(parted.step(1000 * k, pictures[k])) for k in range(13, 31)]
    assert found == expected


def test_events_of_a_step_are_in_order_and_within_it() -> None:
    rng = np.random.default_rng(5)
    simulator = pixels(np.zeros((30, 40)), shot_noise_rate_hz=50.0, leak_rate_hz=20.0)
    for k in range(1, 6):
        events = simulator.step(2000 * k, rng.normal(0.0, 1.0, (30, 40)))
        key = (events.t * 30 + events.y) * 40 + events.x
        assert (np.diff(key) >= 0).all()
        assert events.t[0] >= 2000 * (k - 1)
        assert events.t[-1] < 2000 * k
        assert events.x.max() == 39
        assert events.y.max() == 29


def test_the_caller_may_overwrite_the_picture_it_passed() -> None:
    picture = np.zeros((3, 3), np.float32)
    simulator = pixels(picture)
    simulator.step(1000, picture)
    picture += 1.0
    events = simulator.step(2000, picture)
    assert sorted(set(events.t.tolist())) == [1250, 1500, 1750, 1999]
    assert len(events) == 9 * 4
    assert (picture == 1.0).all()


def test_time_that_stands_still_and_pictures_of_another_size_are_errors() -> None:
    simulator = pixels(np.zeros((3, 4)))
    simulator.step(10, np.zeros((3, 4)))
    with pytest.raises(ValueError, match="time must advance"):
        simulator.step(10, np.zeros((3, 4)))
    with pytest.raises(ValueError, match="the picture is"):
        simulator.step(20, np.zeros((4, 3)))
    with pytest.raises(ValueError, match="two axes"):
        EventSimulator(QUIET, np.zeros(3), np.random.default_rng(0))
