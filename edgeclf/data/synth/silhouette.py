"""The outline of a hand that shows rock, paper or scissors, as a signed distance field.

A hand is a union of limbs (palm, forearm, fingers), each a chain of tapered capsules, in the hand's own
coordinates: the unit is the palm's width, the origin the palm's centre, `u` runs across the palm towards the
thumb (of a hand that is not mirrored) and `v` towards the finger tips. Limbs are joined by a smooth
minimum, so that fingers meet the palm in a web and knuckles in a dent rather than in a sharp corner; the
capsules of one limb by the plain minimum, as a smooth one makes shapes swell where they overlap.

Distances are evaluated in pixels and only within each limb's own bounding box, which makes a hand cost
about as much as its area. Array arithmetic is restricted to operations that IEEE 754 rounds exactly (no
`np.sin`, `np.exp` or matrix product), so that a rendering does not depend on which SIMD path NumPy picks on
a machine.

Source of the distance to a capsule and of the polynomial smooth minimum: I. Quilez, "2D distance functions"
and "smooth minimum" (iquilezles.org). The proportions are an adult's, roughly: a palm 8.5 cm wide, a middle
finger 8 cm long, fingers 1.8 cm wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

GESTURES = ("paper", "rock", "scissors")
"""The gestures' names; a gesture's class id is its place in this tuple."""

PAPER, ROCK, SCISSORS = range(3)

FloatImage: TypeAlias = NDArray[np.float32]
Box: TypeAlias = tuple[slice, slice]

_WEB = 0.07
"""Radius of the smooth union, in palm widths."""

_REACH = 3.0
"""How far beyond the drawn outline the distance field is evaluated, in pixels."""

_FOREARM_LENGTH = 7.0
"""Long enough (in palm widths) that a hand anywhere in the picture has an arm reaching past its border."""

# Per finger, index to little: where it leaves the palm (u, v), its length and its radius, in palm widths.
_FINGERS = (
    (0.315, 0.36, 0.88, 0.106),
    (0.105, 0.42, 0.97, 0.110),
    (-0.105, 0.40, 0.90, 0.105),
    (-0.305, 0.31, 0.70, 0.094),
)


@dataclass(frozen=True, slots=True)
class Capsule:
    """A line from `(u0, v0)` to `(u1, v1)` thickened to radius `r0` at its start and `r1` at its end."""

    u0: float
    v0: float
    u1: float
    v1: float
    r0: float
    r1: float


Limb: TypeAlias = tuple[Capsule, ...]


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a hand is in the picture.

    Attributes:
        x: Column of the palm's centre, in pixels; pixel centres are at whole numbers.
        y: Row of the palm's centre, in pixels.
        scale: The palm's width, in pixels.
        rotation: Radians, clockwise on the screen; at 0 the fingers point up.
    """

    x: float
    y: float
    scale: float
    rotation: float

    def to_image(self, u: float, v: float) -> tuple[float, float]:
        """Returns column and row of a point given in the hand's coordinates."""
        cos, sin = math.cos(self.rotation), math.sin(self.rotation)
        return self.x + self.scale * (u * cos + v * sin), self.y + self.scale * (u * sin - v * cos)


@dataclass(frozen=True, slots=True)
class Hand:
    """A hand's shape.

    Attributes:
        gesture: Class id, an index into `GESTURES`.
        limbs: Palm, fingers and thumb.
        forearm: The arm, which does not count when it is asked how much of a hand is visible.
    """

    gesture: int
    limbs: tuple[Limb, ...]
    forearm: Limb

    def radius(self) -> float:
        """Returns the radius (palm widths) of a circle about the palm's centre that holds all but the arm."""
        capsules = [c for limb in self.limbs for c in limb]
        ends = [(c.u0, c.v0, c.r0) for c in capsules] + [(c.u1, c.v1, c.r1) for c in capsules]
        return max(math.hypot(u, v) + r for u, v, r in ends)

    def inner_points(self, spacing: float = 0.05) -> NDArray[np.float64]:
        """Returns points `[N, 2]`, as (u, v), that fill palm, fingers and thumb (not the arm) evenly.

        Args:
            spacing: Distance between neighbours, in palm widths.
        """
        half = math.ceil(self.radius() / spacing)
        side = 2 * half + 1
        box, distance = signed_distance(self.limbs, Pose(half, half, 1.0 / spacing, 0.0), side, side)
        rows, columns = np.nonzero(distance < 0.0)
        return np.stack(
            [(columns + box[1].start - half) * spacing, (half - rows - box[0].start) * spacing], axis=1
        ).astype(np.float64)


def draw_hand(gesture: int, rng: np.random.Generator) -> Hand:
    """Returns a hand of random proportions, left or right, that shows `gesture`.

    Args:
        gesture: Class id, an index into `GESTURES`.
        rng: Source of all randomness.

    Raises:
        ValueError: There is no such gesture.
    """
    if gesture not in range(len(GESTURES)):
        raise ValueError(f"there is no gesture {gesture}; ids go from 0 to {len(GESTURES) - 1}")
    stout = rng.uniform(0.9, 1.12)
    length = rng.uniform(0.88, 1.08)
    extended = {PAPER: (0, 1, 2, 3), ROCK: (), SCISSORS: (0, 1)}[gesture]
    angles = _finger_angles(gesture, rng)

    palm = (Capsule(-0.13, -0.42, -0.21, 0.20, 0.22, 0.25), Capsule(0.13, -0.42, 0.21, 0.20, 0.22, 0.25))
    limbs: list[Limb] = [palm]
    for i, (u, v, reach, radius) in enumerate(_FINGERS):
        radius *= stout
        if i in extended:
            reach *= length * rng.uniform(0.93, 1.07)
            limbs.append(_finger(u, v, reach, radius, angles[i], bend=rng.uniform(-9.0, 9.0)))
        else:
            # A curled finger shows its knuckle: a short, thick stub that stands a little out of the palm.
            top = v - 0.03 + rng.uniform(-0.025, 0.03)
            limbs.append((Capsule(0.95 * u, 0.10, 0.95 * u, top, radius * 1.1, radius * 1.15),))
    limbs.append(_thumb(gesture, stout, length, rng))

    wrist = rng.uniform(0.24, 0.29)
    forearm = Capsule(0.0, -0.55, rng.uniform(-0.6, 0.6), -_FOREARM_LENGTH, wrist, wrist * rng.uniform(1.5, 2.2))
    # Foreshortening of a palm that does not face the camera squarely, and the choice of the hand.
    across = rng.uniform(0.86, 1.06) * (1.0 if rng.random() < 0.5 else -1.0)
    return Hand(int(gesture), tuple(_stretch(limb, across) for limb in limbs), _stretch((forearm,), across))


def _finger_angles(gesture: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Returns each finger's direction, index to little finger, in degrees from `v` towards the thumb."""
    jitter = rng.uniform(-2.0, 2.0, 4)
    if gesture == SCISSORS:
        opening = rng.uniform(20.0, 36.0)
        return 0.55 * opening + jitter[0], -0.45 * opening + jitter[1], 0.0, 0.0
    spread = rng.uniform(0.8, 1.35)
    index, middle, ring, little = (spread * a + j for a, j in zip((13.0, 2.0, -9.0, -22.0), jitter, strict=True))
    return index, middle, ring, little


def _finger(u: float, v: float, reach: float, radius: float, angle: float, bend: float) -> Limb:
    """Returns a finger that leaves (u, v) at `angle` and turns by `bend` half way, both in degrees."""
    first, second = math.radians(angle), math.radians(angle + bend)
    # Its root lies inside the palm, so that the finger stays joined to it whichever way it points.
    u0, v0 = u - 0.15 * math.sin(first), v - 0.15 * math.cos(first)
    u1, v1 = u + 0.5 * reach * math.sin(first), v + 0.5 * reach * math.cos(first)
    u2, v2 = u1 + 0.42 * reach * math.sin(second), v1 + 0.42 * reach * math.cos(second)
    return Capsule(u0, v0, u1, v1, radius * 1.08, radius), Capsule(u1, v1, u2, v2, radius, radius * 0.82)


def _thumb(gesture: int, stout: float, length: float, rng: np.random.Generator) -> Limb:
    """Returns the thumb: spread for paper, folded against the curled fingers otherwise."""
    radius = 0.115 * stout
    if gesture == PAPER:
        angle = math.radians(rng.uniform(42.0, 66.0))
        tip = angle - math.radians(rng.uniform(5.0, 28.0))
        u1, v1 = 0.27 + 0.42 * length * math.sin(angle), -0.18 + 0.42 * length * math.cos(angle)
        u2, v2 = u1 + 0.34 * length * math.sin(tip), v1 + 0.34 * length * math.cos(tip)
        return Capsule(0.20, -0.24, u1, v1, radius * 1.5, radius), Capsule(u1, v1, u2, v2, radius, radius * 0.82)
    out = rng.uniform(0.38, 0.46)
    up = rng.uniform(0.08, 0.2)
    return (
        Capsule(0.24, -0.24, out, up - 0.06, radius * 1.4, radius * 1.05),
        Capsule(out, up - 0.06, out - 0.22, up + 0.08, radius * 1.05, radius),
    )


def _stretch(limb: Limb, across: float) -> Limb:
    """Returns `limb` with its `u` coordinates multiplied by `across`."""
    return tuple(Capsule(c.u0 * across, c.v0, c.u1 * across, c.v1, c.r0, c.r1) for c in limb)


def signed_distance(limbs: Sequence[Limb], pose: Pose, width: int, height: int) -> tuple[Box, FloatImage]:
    """Returns the distance to the outline of the union of `limbs`, within its bounding box in the picture.

    Args:
        limbs: The shapes.
        pose: Where they are.
        width: The picture's width, in pixels.
        height: The picture's height, in pixels.

    Returns:
        The bounding box as (rows, columns), and the distances `[rows, columns]` in pixels, negative inside.
        The box holds everything closer than about 3 px to the outline, and is empty where nothing is in the
        picture. Farther outside, distances are only known to be large.
    """
    blend = _WEB * pose.scale
    margin = blend + _REACH
    placed = [tuple(_place(part, pose) for part in limb) for limb in limbs]
    boxes = [_bounding_box(limb, margin, width, height) for limb in placed]
    seen = [
        (limb, rows, columns)
        for limb, (rows, columns) in zip(placed, boxes, strict=True)
        if rows.start < rows.stop and columns.start < columns.stop
    ]
    if not seen:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), np.float32)
    top, bottom = min(rows.start for _, rows, _ in seen), max(rows.stop for _, rows, _ in seen)
    left, right = min(columns.start for _, _, columns in seen), max(columns.stop for _, _, columns in seen)

    union = np.full((bottom - top, right - left), 2.0 * margin, np.float32)
    for limb, rows, columns in seen:
        distance = _capsule_distance(limb[0], rows, columns)
        for part in limb[1:]:
            np.minimum(distance, _capsule_distance(part, rows, columns), out=distance)
        view = union[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        _smooth_minimum(view, distance, blend)
    return (slice(top, bottom), slice(left, right)), union


def coverage(distance: FloatImage, softness: float) -> FloatImage:
    """Returns how much of each pixel is covered, 0 to 1.

    Args:
        distance: Signed distance to the outline, in pixels.
        softness: Width of the transition from 0 to 1, in pixels: 1 is anti-aliasing alone, more is defocus.
            At most 6, beyond which the distance is not known.
    """
    ramp = np.clip(np.float32(0.5) - distance * np.float32(1.0 / softness), np.float32(0.0), np.float32(1.0))
    smooth: FloatImage = ramp * ramp * (np.float32(3.0) - ramp - ramp)
    return smooth


def render(hand: Hand, pose: Pose, width: int, height: int, softness: float = 1.5) -> FloatImage:
    """Returns the coverage `[height, width]`, 0 to 1, of a picture by a hand and its arm."""
    picture = np.zeros((height, width), np.float32)
    box, distance = signed_distance((*hand.limbs, hand.forearm), pose, width, height)
    picture[box] = coverage(distance, softness)
    return picture


def _place(part: Capsule, pose: Pose) -> Capsule:
    """Returns `part` in the picture's coordinates: columns, rows and pixels."""
    x0, y0 = pose.to_image(part.u0, part.v0)
    x1, y1 = pose.to_image(part.u1, part.v1)
    return Capsule(x0, y0, x1, y1, part.r0 * pose.scale, part.r1 * pose.scale)


def _bounding_box(limb: Limb, margin: float, width: int, height: int) -> Box:
    """Returns the part of the picture within `margin` of a placed limb; of no area where there is none."""
    ends = [(c.u0, c.v0, c.r0) for c in limb] + [(c.u1, c.v1, c.r1) for c in limb]
    left = math.floor(min(x - r for x, _, r in ends) - margin)
    right = math.ceil(max(x + r for x, _, r in ends) + margin) + 1
    top = math.floor(min(y - r for _, y, r in ends) - margin)
    bottom = math.ceil(max(y + r for _, y, r in ends) + margin) + 1
    return slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))


def _capsule_distance(part: Capsule, rows: slice, columns: slice) -> FloatImage:
    """Returns the distance to a placed capsule, whose radius is interpolated along its axis."""
    dx, dy = part.u1 - part.u0, part.v1 - part.v0
    inverse = 1.0 / max(dx * dx + dy * dy, 1e-12)
    # Everything that depends on the column or on the row alone is computed once a column or a row.
    x = np.arange(columns.start, columns.stop, dtype=np.float64)[None, :] - part.u0
    y = np.arange(rows.start, rows.stop, dtype=np.float64)[:, None] - part.v0
    along = (x * (dx * inverse)).astype(np.float32) + (y * (dy * inverse)).astype(np.float32)
    np.clip(along, np.float32(0.0), np.float32(1.0), out=along)
    across_x = x.astype(np.float32) - along * np.float32(dx)
    across_y = y.astype(np.float32) - along * np.float32(dy)
    across_x *= across_x
    across_y *= across_y
    across_x += across_y
    distance: FloatImage = np.sqrt(across_x, out=across_x)
    along *= np.float32(part.r1 - part.r0)
    distance -= along
    distance -= np.float32(part.r0)
    return distance


def _smooth_minimum(target: FloatImage, other: FloatImage, blend: float) -> None:
    """Replaces `target` by the minimum of it and `other`, its corners rounded over `blend` pixels."""
    corner = target - other
    np.abs(corner, out=corner)
    np.subtract(np.float32(blend), corner, out=corner)
    np.maximum(corner, np.float32(0.0), out=corner)
    corner *= corner
    corner *= np.float32(0.25 / blend)
    np.minimum(target, other, out=target)
    target -= corner
