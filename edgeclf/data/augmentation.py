"""Changing training recordings a little, so that a network learns what matters in them."""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgeclf_runtime.errors import UsageError

_SMALLEST_CROP = 0.01
"""Share of a frame's area that a crop leaves at least, lest nothing be left of it."""


class Transformation(NamedTuple):
    """One change of frames, in the order in which it happens; the default is none.

    Attributes:
        crop: What of the frame fills it afterwards: share of its sides (0 to 1), and where its middle lies in the room
            that there is, rows and columns (-1: at the top or left, 1: at the bottom or right).
        flip_horizontal: Mirrored left to right.
        flip_vertical: Mirrored top to bottom.
        shear: Degrees by which columns lean to the right towards the bottom.
        scale: Factor by which the content grows.
        rotation: Degrees counter-clockwise.
        shift: Pixels down and to the right.
    """

    crop: tuple[float, float, float] = (1.0, 0.0, 0.0)
    flip_horizontal: bool = False
    flip_vertical: bool = False
    shear: float = 0.0
    scale: float = 1.0
    rotation: float = 0.0
    shift: tuple[int, int] = (0, 0)

    def apply(self, frames: Tensor) -> Tensor:
        """Returns changed frames of the same shape, all of them alike; zeros come in where nothing was.

        Mirroring and moving are exact; all else is one bilinear interpolation about the frame's middle.

        Args:
            frames: float `[..., H, W]`.
        """
        if (self.crop[0], self.shear, self.scale, self.rotation) == (1.0, 0.0, 1.0, 0.0):
            axes = [axis for axis, mirrored in ((-1, self.flip_horizontal), (-2, self.flip_vertical)) if mirrored]
            return shifted(frames.flip(axes) if axes else frames, *self.shift)
        return _resampled(frames, self._matrix(*frames.shape[-2:]))

    def _matrix(self, height: int, width: int) -> Tensor:
        """Returns where a pixel goes: `[3, 3]` for (column, row, 1), counted in pixels from the frame's middle."""
        side, down, right = self.crop
        room = (1 - side) / 2
        cropped = torch.tensor(
            [[1 / side, 0, -right * room * width / side], [0, 1 / side, -down * room * height / side], [0, 0, 1]]
        )
        mirrored = torch.diag(torch.tensor([(1.0, -1.0)[self.flip_horizontal], (1.0, -1.0)[self.flip_vertical], 1.0]))
        slanted = torch.tensor([[1, math.tan(math.radians(self.shear)), 0], [0, 1, 0], [0, 0, 1]])
        cosine, sine = math.cos(math.radians(self.rotation)), math.sin(math.radians(self.rotation))
        rows, columns = self.shift
        turned = torch.tensor(
            [
                [self.scale * cosine, self.scale * sine, columns],
                [-self.scale * sine, self.scale * cosine, rows],
                [0, 0, 1],
            ]
        )
        return turned.double() @ slanted.double() @ mirrored.double() @ cropped.double()


@dataclass(frozen=True)
class Augmentation:
    """How far recordings are changed, at most, in either direction.

    Attributes:
        shift: Pixels by which they move, down and to the right.
        rotation: Degrees by which they turn.
        scale: They become up to `1 + scale` times larger, or smaller by the same factor.
        shear: Degrees by which they lean.
        crop: Share of the frame's area that is cut away, before the rest fills the frame in the same proportions.
        flip_horizontal: How likely they are mirrored left to right, 0 to 1.
        flip_vertical: How likely they are mirrored top to bottom, 0 to 1.

    Raises:
        UsageError: Where frames would lean by a right angle.
    """

    shift: int = 0
    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    crop: float = 0.0
    flip_horizontal: float = 0.0
    flip_vertical: float = 0.0

    def __post_init__(self) -> None:
        if self.shear >= 90:
            raise UsageError(f"random_shear is {self.shear:g} degrees, and frames can lean by less than 90.")

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return any(astuple(self))

    def draw(self, rng: np.random.Generator) -> Transformation:
        """Returns one change at random; all amounts are equally likely, scales so on a logarithmic axis."""
        # The same number of draws whatever is asked for, so that one more kind of change does not alter the others.
        rows, columns = rng.integers(-self.shift, self.shift, 2, endpoint=True).tolist()
        rotation, shear, scale, down, right = rng.uniform(-1, 1, 5).tolist()
        area, horizontal, vertical = rng.uniform(0, 1, 3).tolist()
        return Transformation(
            crop=(math.sqrt(max(1 - self.crop * area, _SMALLEST_CROP)), down, right) if self.crop else (1.0, 0.0, 0.0),
            flip_horizontal=horizontal < self.flip_horizontal,
            flip_vertical=vertical < self.flip_vertical,
            shear=shear * self.shear,
            scale=(1 + self.scale) ** scale,
            rotation=rotation * self.rotation,
            shift=(rows, columns),
        )


def shifted(frames: Tensor, rows: int, columns: int) -> Tensor:
    """Returns frames moved down by `rows` and to the right by `columns`; zeros come in, what leaves is gone.

    Args:
        frames: `[..., H, W]`.
        rows: Pixels down; negative: up.
        columns: Pixels to the right; negative: to the left.
    """
    if rows == columns == 0:
        return frames
    height, width = frames.shape[-2:]
    result = torch.zeros_like(frames)
    result[..., _to(rows, height), _to(columns, width)] = frames[..., _to(-rows, height), _to(-columns, width)]
    return result


def _to(shift: int, size: int) -> slice:
    """Returns where, of `size` pixels, those lie that are still there after a shift."""
    return slice(min(max(shift, 0), size), max(size + min(shift, 0), 0))


def _resampled(frames: Tensor, matrix: Tensor) -> Tensor:
    """Returns frames `[..., H, W]` whose pixels have gone where `matrix` sends them."""
    height, width = frames.shape[-2:]
    # torch counts from -1 to 1 across the frame, and asks where a pixel comes from.
    halves = torch.diag(torch.tensor([width / 2, height / 2, 1.0], dtype=matrix.dtype))
    back = torch.linalg.inv(halves) @ torch.linalg.inv(matrix) @ halves
    flat = frames.reshape(1, -1, height, width)
    grid = functional.affine_grid(back[None, :2].to(frames.dtype), [1, 1, height, width], align_corners=False)
    sampled = functional.grid_sample(flat, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return sampled.reshape(frames.shape)
