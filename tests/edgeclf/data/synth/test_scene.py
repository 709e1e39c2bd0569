from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from edgeclf.data.synth.config import SynthConfig
from edgeclf.data.synth.scene import Scene, Take, draw_background, draw_take, visible_share
from edgeclf.data.synth.silhouette import PAPER, ROCK, SCISSORS, coverage, signed_distance

SMALL = SynthConfig(width=96, height=80, step_us=2000, gesture_us=(200_000, 300_000), pause_us=(20_000, 60_000))


def scene(gestures: list[int], seed: int = 0, config: SynthConfig = SMALL) -> Scene:
    return Scene(config, gestures, np.random.default_rng(seed))


def take_of(gesture: int, seed: int, config: SynthConfig = SMALL) -> Take:
    return draw_take(config, gesture, 0, np.random.default_rng(seed))


def shown_share(take: Take, t: int, config: SynthConfig) -> float:
    """The share of the drawn hand, without its arm, that is within the picture; by counting pixels."""
    pose = take.pose(t)
    far = 2000
    moved = type(pose)(pose.x + far, pose.y + far, pose.scale, pose.rotation)
    (rows, columns), distance = signed_distance(take.hand.limbs, moved, 2 * far + config.width, 2 * far + config.height)
    covered = coverage(distance, 1.0)
    y, x = np.arange(rows.start, rows.stop) - far, np.arange(columns.start, columns.stop) - far
    inside = ((y >= 0) & (y < config.height))[:, None] & ((x >= 0) & (x < config.width))[None, :]
    return float(covered[inside].sum() / covered.sum())


def test_pictures_run_from_start_to_end_and_only_hands_need_many() -> None:
    script = scene([ROCK, PAPER])
    times = [t for t, _ in script.frames()]
    assert times[0] == 0
    assert times[-1] == script.duration_us
    moving = sum(take.duration_us for take in script.takes)
    assert len(times) == moving // 2000 + 2 + 2
    assert set(np.diff(times).tolist()) - {2000} <= set(range(20_000, 62_000, 2000))


def test_the_background_is_alone_in_pauses_and_hidden_in_between() -> None:
    script = scene([SCISSORS, ROCK], seed=4)
    for t, picture in script.frames():
        takes = [k for k in script.takes if k.start_us < t < k.start_us + k.duration_us]
        changed = np.count_nonzero(picture != script.background)
        if not takes:
            assert changed == 0
        elif min(t - takes[0].start_us, takes[0].start_us + takes[0].duration_us - t) > takes[0].enter_us:
            assert changed > 300


def test_a_hand_differs_from_the_background_by_its_contrast() -> None:
    config = SynthConfig(width=96, height=80, contrast=(0.7, 0.7), shading=(0.0, 0.0), texture=(0.0, 0.0))
    levels = set()
    for seed in range(8):
        script = scene([PAPER], seed, config)
        middle = script.takes[0].start_us + script.takes[0].duration_us // 2 // 1000 * 1000
        picture = next(p for t, p in script.frames() if t == middle)
        assert np.abs(picture).max() == pytest.approx(0.7, abs=1e-5)
        levels.add(round(float(picture.flat[np.abs(picture).argmax()]), 3))
    assert levels == {-0.7, 0.7}


def test_rendering_again_shows_the_same_even_if_one_rendering_was_given_up() -> None:
    script = scene([ROCK])
    given_up = script.frames()
    for _ in range(60):
        next(given_up)
    once = [(t, picture.copy()) for t, picture in script.frames()]
    for (t, picture), (other_t, other) in zip(once, script.frames(), strict=True):
        assert t == other_t
        np.testing.assert_array_equal(picture, other)


@pytest.mark.parametrize("gesture", [PAPER, ROCK, SCISSORS])
def test_a_hand_is_labelled_while_half_of_it_is_in_the_picture(gesture: int) -> None:
    script = scene([gesture], seed=gesture)
    (segment,) = script.segments()
    (take,) = script.takes
    assert segment.class_id == gesture
    for t in range(0, take.duration_us + 1, SMALL.step_us):
        share = shown_share(take, t, SMALL)
        if abs(share - 0.5) > 0.03:
            assert (segment.start_us <= take.start_us + t < segment.end_us) == (share > 0.5)


def test_a_hand_that_has_come_in_stays_in_whatever_is_drawn() -> None:
    for seed in range(60):
        take = take_of(seed % 3, seed, SynthConfig())
        points = take.hand.inner_points(0.1)
        shares = [visible_share(points, take.pose(t), SynthConfig()) for t in range(0, take.duration_us + 1, 10_000)]
        seen = np.flatnonzero(np.array(shares) >= 0.5)
        assert np.array_equal(seen, np.arange(seen[0], seen[-1] + 1))
        assert shares[0] == shares[-1] == 0.0
        middle = [
            s
            for t, s in zip(range(0, take.duration_us, 10_000), shares, strict=False)
            if take.enter_us < t < take.duration_us - take.enter_us
        ]
        assert min(middle) > 0.75


def test_a_hand_moves_smoothly_and_never_stands_quite_still() -> None:
    for seed in range(20):
        take = take_of(seed % 3, seed, SynthConfig())
        poses = [take.pose(t) for t in range(0, take.duration_us + 1, 1000)]
        steps = np.array([math.dist((a.x, a.y), (b.x, b.y)) for a, b in itertools.pairwise(poses)])
        assert steps.max() < 6.0
        assert np.abs(np.diff(steps)).max() < 0.3
        hold = steps[take.enter_us // 1000 + 1 : -take.enter_us // 1000 - 1]
        assert hold.sum() > 4.0
        assert len({pose.rotation for pose in poses}) > 100


def test_hands_vary_in_place_size_and_direction() -> None:
    places = [take_of(PAPER, seed, SynthConfig()).place for seed in range(40)]
    assert np.ptp([p.scale for p in places]) > 25
    assert np.ptp([p.rotation for p in places]) > math.radians(70)
    assert np.ptp([p.x for p in places]) > 60


def test_the_background_has_the_texture_asked_for_and_no_two_are_alike() -> None:
    config = SynthConfig(texture=(0.1, 0.1))
    backgrounds = [draw_background(config, np.random.default_rng(seed)) for seed in range(6)]
    # Linear interpolation between the spots' centres takes away about a third.
    assert 0.04 < np.mean([b.std() for b in backgrounds]) < 0.11
    assert abs(np.mean(backgrounds)) < 0.05
    assert not np.array_equal(backgrounds[0], backgrounds[1])
    assert not draw_background(SynthConfig(texture=(0.0, 0.0)), np.random.default_rng(0)).any()


def test_pauses_may_be_left_out_and_so_may_gestures() -> None:
    close = scene([ROCK, ROCK], config=SynthConfig(width=64, height=64, pause_us=(0, 0), step_us=5000))
    times = [t for t, _ in close.frames()]
    assert times == list(range(0, close.duration_us + 1, 5000))
    empty = scene([])
    assert [t for t, _ in empty.frames()] == [0, empty.duration_us]
    assert empty.segments() == ()
