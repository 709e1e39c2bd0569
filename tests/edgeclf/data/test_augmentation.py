from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edgeclf.data.augmentation import Augmentation, Transformation, shifted
from edgeclf_runtime.errors import UsageError


def frames(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rows", [-9, -5, -2, 0, 1, 5, 9])
@pytest.mark.parametrize("columns", [-8, -3, 0, 2, 7, 8])
def test_moving_equals_a_loop_over_pixels(rows: int, columns: int) -> None:
    given = frames(2, 3, 5, 7)
    expected = torch.zeros_like(given)
    for row in range(5):
        for column in range(7):
            if 0 <= row + rows < 5 and 0 <= column + columns < 7:
                expected[..., row + rows, column + columns] = given[..., row, column]
    assert torch.equal(shifted(given, rows, columns), expected)
    assert torch.equal(Transformation(shift=(rows, columns)).apply(given), expected)


@pytest.mark.parametrize(
    "change",
    [Transformation(shift=(1, 1)), Transformation(flip_vertical=True), Transformation(rotation=10.0, shift=(1, 0))],
)
def test_the_frames_given_are_left_alone(change: Transformation) -> None:
    given = torch.ones(1, 2, 4, 4)
    change.apply(given)
    assert given.min() == 1


@pytest.mark.parametrize("size", [(6, 6), (7, 7)])
@pytest.mark.parametrize("quarters", [1, 2, 3, -1])
def test_turning_by_right_angles_equals_rot90(size: tuple[int, int], quarters: int) -> None:
    given = frames(2, 3, *size)
    turned = Transformation(rotation=90.0 * quarters).apply(given)
    torch.testing.assert_close(turned, torch.rot90(given, quarters, (-2, -1)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("rotation", [0.0, 180.0])
def test_mirroring_equals_flip_whether_interpolated_or_not(rotation: float) -> None:
    given = frames(2, 3, 5, 8)
    for horizontal, vertical in ((True, False), (False, True), (True, True)):
        axes = [axis for axis, mirrored in ((-1, horizontal), (-2, vertical)) if mirrored]
        expected = given.flip(axes)
        if rotation:
            expected = expected.flip(-1, -2)
        found = Transformation(flip_horizontal=horizontal, flip_vertical=vertical, rotation=rotation).apply(given)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def plain(given: np.ndarray, change: Transformation) -> np.ndarray:
    """One frame, one pixel after the other: where its content comes from, step by step backwards, then four weights."""
    height, width = given.shape
    result = np.zeros_like(given)
    angle, side = math.radians(change.rotation), change.crop[0]
    for row in range(height):
        for column in range(width):
            y, x = row - (height - 1) / 2 - change.shift[0], column - (width - 1) / 2 - change.shift[1]
            # A point seen turned counter-clockwise by an angle was turned clockwise from here; rows count downwards.
            x, y = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
            x, y = x / change.scale, y / change.scale
            x -= math.tan(math.radians(change.shear)) * y
            x, y = (-x if change.flip_horizontal else x), (-y if change.flip_vertical else y)
            x = x * side + change.crop[2] * (width - width * side) / 2 + (width - 1) / 2
            y = y * side + change.crop[1] * (height - height * side) / 2 + (height - 1) / 2
            for at_row in (math.floor(y), math.floor(y) + 1):
                for at_column in (math.floor(x), math.floor(x) + 1):
                    if 0 <= at_row < height and 0 <= at_column < width:
                        weight = (1 - abs(y - at_row)) * (1 - abs(x - at_column))
                        result[row, column] += weight * given[at_row, at_column]
    return result


@pytest.mark.parametrize("seed", range(25))
def test_everything_together_equals_a_loop_over_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    limits = Augmentation(3, 60.0, 0.5, 30.0, 0.6, 0.5, 0.5)
    change = limits.draw(rng)
    given = rng.random((2, int(rng.integers(3, 12)), int(rng.integers(3, 12))))
    found = change.apply(torch.from_numpy(given)[None])[0]
    for channel in range(2):
        np.testing.assert_allclose(found[channel], plain(given[channel], change), atol=1e-6)


def test_a_crop_of_whole_pixels_equals_interpolating_what_is_left() -> None:
    """Half of each side of 8 pixels: 4 pixels, of which the inner part of torch's own enlargement must be the same."""
    given = frames(1, 2, 8, 8)
    found = Transformation(crop=(0.5, -1.0, 1.0)).apply(given)  # at the top right
    expected = functional.interpolate(given[..., :4, 4:], (8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-5, rtol=0)


def test_what_is_drawn_stays_within_its_limits_and_reaches_them() -> None:
    limits = Augmentation(2, 15.0, 0.25, 10.0, 0.36, 0.5, 0.1)
    drawn = [limits.draw(np.random.default_rng(seed)) for seed in range(2000)]
    assert {change.shift for change in drawn} == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}
    for values, low, high in (
        ([change.rotation for change in drawn], -15, 15),
        ([change.shear for change in drawn], -10, 10),
        ([change.scale for change in drawn], 0.8, 1.25),
        ([change.crop[0] for change in drawn], 0.8, 1),
        ([change.crop[1] for change in drawn], -1, 1),
        ([change.crop[2] for change in drawn], -1, 1),
    ):
        assert low <= min(values) < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < max(values) <= high
    assert np.mean([change.flip_horizontal for change in drawn]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([change.flip_vertical for change in drawn]) == pytest.approx(0.1, abs=0.03)
    assert len(set(drawn)) == len(drawn)


def test_without_limits_nothing_changes() -> None:
    nothing = Augmentation()
    assert not nothing
    assert nothing.draw(np.random.default_rng(0)) == Transformation()
    given = frames(1, 1, 3, 3)
    assert torch.equal(Transformation().apply(given), given)
    for one in ("shift", "rotation", "scale", "shear", "crop", "flip_horizontal", "flip_vertical"):
        assert Augmentation(**{one: 1})
        change = Augmentation(**{one: 1}).draw(np.random.default_rng(0))
        assert change != Transformation()
        # One kind of change does not alter what is drawn of another.
        assert (
            Augmentation(**{one: 1, "shear": 1}).draw(np.random.default_rng(0))._replace(shear=change.shear) == change
        )


def test_cutting_everything_away_leaves_a_little() -> None:
    for seed in range(50):
        assert Augmentation(crop=1.0).draw(np.random.default_rng(seed)).apply(torch.ones(1, 1, 8, 8)).max() > 0


def test_a_right_angle_of_shear_is_refused() -> None:
    with pytest.raises(UsageError, match="random_shear is 90 degrees"):
        Augmentation(shear=90.0)
