from __future__ import annotations

import math

import numpy as np
import pytest

from edgeclf.data.synth.silhouette import (
    GESTURES,
    PAPER,
    ROCK,
    SCISSORS,
    Capsule,
    Pose,
    coverage,
    draw_hand,
    render,
    signed_distance,
)

SEEDS = range(25)


def hand(gesture: int, seed: int = 0):
    return draw_hand(gesture, np.random.default_rng(seed))


def fingers_crossed(gesture: int, seed: int, radius: float) -> int:
    """Counts the fingers that an arc above the palm runs across, `radius` palm widths from its centre."""
    scale = 100.0
    picture = render(hand(gesture, seed), Pose(160.0, 160.0, scale, 0.0), 320, 320)
    angle = np.radians(np.linspace(-70.0, 70.0, 600))
    rows = np.rint(160.0 - scale * radius * np.cos(angle)).astype(int)
    columns = np.rint(160.0 + scale * radius * np.sin(angle)).astype(int)
    covered = picture[rows, columns] > 0.5
    return np.count_nonzero(covered[1:] & ~covered[:-1])


def test_the_distance_to_a_capsule_is_that_of_plain_geometry() -> None:
    limb = (Capsule(-0.5, 0.0, 0.5, 0.0, 0.25, 0.25),)
    # Rotation by 90° clockwise: what was across now points down.
    box, distance = signed_distance([limb], Pose(50.0, 40.0, 20.0, math.pi / 2), 100, 80)
    rows, columns = np.mgrid[box]
    nearest_row = np.clip(rows, 30, 50)
    expected = np.hypot(rows - nearest_row, columns - 50) - 5.0
    near = expected < 5.0
    np.testing.assert_allclose(distance[near], expected[near], atol=1e-4)
    assert (distance[~near] >= 5.0 - 1e-4).all()
    assert box[0].start < 30 - 5 - 3
    assert box[0].stop > 50 + 5 + 3


def test_a_tapered_capsule_is_as_thick_at_either_end_as_it_says() -> None:
    limb = (Capsule(0.0, 0.0, 0.0, 1.0, 0.3, 0.1),)
    box, distance = signed_distance([limb], Pose(60.0, 60.0, 40.0, 0.0), 120, 120)
    column = 60 - box[1].start
    assert distance[60 - box[0].start, column] == pytest.approx(-12.0, abs=1e-4)
    assert distance[20 - box[0].start, column] == pytest.approx(-4.0, abs=1e-4)


def test_limbs_meet_in_a_web_while_capsules_of_one_limb_do_not_swell() -> None:
    pose = Pose(50.0, 50.0, 30.0, 0.0)
    one, other = Capsule(-0.5, 0.0, 0.5, 0.0, 0.2, 0.2), Capsule(0.0, -0.5, 0.0, 0.5, 0.2, 0.2)
    _, plain = signed_distance([(one, other)], pose, 100, 100)
    box, smooth = signed_distance([(one,), (other,)], pose, 100, 100)
    corner = (50 - 8 - box[0].start, 50 + 8 - box[1].start)
    assert smooth[corner] < plain[corner] - 0.2
    alone = signed_distance([(one,)], pose, 100, 100)[1]
    assert plain.min() == pytest.approx(alone.min(), abs=1e-4)


def test_coverage_falls_from_one_to_zero_across_the_outline() -> None:
    distance = np.array([-10.0, -1.0, -0.5, 0.0, 0.5, 1.0, 10.0], np.float32)
    covered = coverage(distance, 2.0)
    np.testing.assert_allclose(covered, [1.0, 1.0, 0.84375, 0.5, 0.15625, 0.0, 0.0], atol=1e-6)


def test_two_fingers_are_scissors_no_finger_is_rock_and_more_are_paper() -> None:
    assert {fingers_crossed(ROCK, seed, 0.9) for seed in SEEDS} == {0}
    assert {fingers_crossed(SCISSORS, seed, 0.9) for seed in SEEDS} == {2}
    assert min(fingers_crossed(PAPER, seed, 1.0) for seed in SEEDS) >= 3


def test_hands_of_one_gesture_are_left_and_right_and_differ() -> None:
    # A drawn hand's second limb is its index finger, on the thumb's side.
    sides = [math.copysign(1.0, hand(PAPER, seed).limbs[1][0].u0) for seed in SEEDS]
    assert {-1.0, 1.0} == set(sides)
    reaches = [hand(PAPER, seed).radius() for seed in SEEDS]
    assert max(reaches) - min(reaches) > 0.1


def test_a_part_of_the_picture_shows_the_same_as_the_whole() -> None:
    whole = render(hand(PAPER), Pose(200.0, 200.0, 80.0, 0.6), 400, 400)
    part = render(hand(PAPER), Pose(50.0, 20.0, 80.0, 0.6), 160, 120)
    np.testing.assert_allclose(part, whole[180:300, 150:310], atol=1e-3)
    assert 0.2 < part.mean() < 0.8


def test_half_a_turn_turns_the_picture_around() -> None:
    up = render(hand(SCISSORS), Pose(100.0, 100.0, 60.0, 0.0), 201, 201)
    down = render(hand(SCISSORS), Pose(100.0, 100.0, 60.0, math.pi), 201, 201)
    np.testing.assert_allclose(down, up[::-1, ::-1], atol=1e-3)
    # The arm, not the fingers, is at the border below.
    assert up[-1].max() == 1.0
    assert up[0].max() == 0.0


@pytest.mark.parametrize("gesture", range(len(GESTURES)))
def test_the_arm_reaches_past_the_picture_and_a_hand_outside_shows_nothing(gesture: int) -> None:
    assert render(hand(gesture), Pose(160.0, 0.0, 56.0, 0.0), 320, 320)[-1].max() == 1.0
    assert not render(hand(gesture), Pose(160.0, 700.0, 60.0, 0.0), 320, 320).any()


@pytest.mark.parametrize("gesture", range(len(GESTURES)))
def test_inner_points_fill_the_hand_without_its_arm(gesture: int) -> None:
    shape = hand(gesture)
    points = shape.inner_points(0.04)
    box, distance = signed_distance(shape.limbs, Pose(200.0, 200.0, 80.0, 0.0), 400, 400)
    area = coverage(distance, 1.0).sum() / 80.0**2
    assert len(points) * 0.04**2 == pytest.approx(area, rel=0.02)
    columns = np.rint(200.0 + 80.0 * points[:, 0]).astype(int) - box[1].start
    rows = np.rint(200.0 - 80.0 * points[:, 1]).astype(int) - box[0].start
    assert distance[rows, columns].max() < 1.0
    assert np.hypot(*points.T).max() <= shape.radius()


@pytest.mark.parametrize("gesture", [-1, 3])
def test_an_unknown_gesture_is_an_error(gesture: int) -> None:
    with pytest.raises(ValueError, match="no gesture"):
        hand(gesture)
