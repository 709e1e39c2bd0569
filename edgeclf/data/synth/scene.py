"""What happens before the camera: a background, and hands that come, show a gesture and go.

A scene is drawn once, completely, when it is made; rendering it draws nothing more. So it can be rendered
twice, or in parts, and stay the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeclf.data.synth.config import Range, SynthConfig
from edgeclf.data.synth.silhouette import FloatImage, Hand, Pose, coverage, draw_hand, signed_distance

_VISIBLE = 0.5
"""A hand of which less than this share is in the picture counts as background."""

_TEXTURE_CELLS = (90.0, 30.0, 10.0)
"""Sizes of the background's spots, in pixels of a 320-pixel sensor; each weighs half of the one before."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A time in which a gesture is shown: from `start_us` up to, not including, `end_us`.

    Attributes:
        start_us: Its start, in µs.
        end_us: Its end, in µs.
        class_id: The gesture, an index into `GESTURES`.
    """

    start_us: int
    end_us: int
    class_id: int


@dataclass(frozen=True, slots=True)
class Swing:
    """A sine over time.

    Attributes:
        amplitude: Its largest value.
        hz: Its frequency.
        phase: Its phase at time 0, in radians.
    """

    amplitude: float
    hz: float
    phase: float

    def at(self, t_us: int) -> float:
        """Returns its value at `t_us`."""
        return self.amplitude * math.sin(2e-6 * math.pi * self.hz * t_us + self.phase)


@dataclass(frozen=True, slots=True)
class Take:
    """One gesture: a hand, how it looks and how it moves. Times count from the take's start.

    Attributes:
        hand: The hand.
        start_us: When it begins to come in, in µs of the scene; it is still out of sight then.
        duration_us: How long it takes, in µs; it is out of sight again at the end.
        enter_us: How long the hand takes to come in, and again to leave, in µs.
        place: The pose around which the hand moves while it is in.
        away: How far back it has to go from there, against the fingers' direction, to be out of sight, in
            pixels.
        sway: Its swinging across and along the fingers' direction, in pixels.
        turn: Its turning, in radians.
        zoom: The change of its size, as a fraction.
        level: Its log-intensity, that of the background being 0 in the mean.
        shading: What is added to that towards its edge.
        softness: Width of its edge, in pixels.
    """

    hand: Hand
    start_us: int
    duration_us: int
    enter_us: int
    place: Pose
    away: float
    sway: tuple[Swing, Swing]
    turn: Swing
    zoom: Swing
    level: float
    shading: float
    softness: float

    def pose(self, t_us: int) -> Pose:
        """Returns where the hand is, `t_us` after the take's start."""
        into = min(t_us, self.duration_us - t_us) / self.enter_us
        # Smoothstep: speed and swinging start and end at zero.
        presence = 1.0 if into >= 1.0 else max(into, 0.0) ** 2 * (3.0 - 2.0 * max(into, 0.0))
        across = presence * self.sway[0].at(t_us)
        along = presence * self.sway[1].at(t_us) - (1.0 - presence) * self.away
        cos, sin = math.cos(self.place.rotation), math.sin(self.place.rotation)
        return Pose(
            self.place.x + across * cos + along * sin,
            self.place.y + across * sin - along * cos,
            self.place.scale * (1.0 + presence * self.zoom.at(t_us)),
            self.place.rotation + presence * self.turn.at(t_us),
        )


class Scene:
    """A recording's script and its pictures.

    Attributes:
        config: How it was drawn.
        duration_us: How long it lasts, in µs; a multiple of the step, as all its times are.
        takes: Its gestures, in order; the background is alone before, between and after them.
        background: Log-intensity of the background, float32 `[height, width]`.

    Args:
        config: The ranges from which to draw.
        gestures: Class ids of the gestures, in order.
        rng: Source of all randomness.
    """

    def __init__(self, config: SynthConfig, gestures: Sequence[int], rng: np.random.Generator) -> None:
        self.config = config
        self.background = draw_background(config, rng)
        takes = []
        now = _draw_time(config.pause_us, config.step_us, rng)
        for gesture in gestures:
            takes.append(draw_take(config, gesture, now, rng))
            now += takes[-1].duration_us + _draw_time(config.pause_us, config.step_us, rng)
        self.takes = tuple(takes)
        self.duration_us = max(now, config.step_us)

    def frames(self) -> Iterator[tuple[int, FloatImage]]:
        """Yields time (µs) and log-intensity `[height, width]`, from time 0 to `duration_us`, both included.

        While a hand moves there is a picture every `step_us`; in a pause, where nothing changes, only one
        at its start and one at its end. The array is the same one each time, overwritten from picture to
        picture.
        """
        step = self.config.step_us
        picture = self.background.copy()
        # A take starts and ends with its hand out of sight, so this holds even if one starts at once.
        last = 0
        yield last, picture
        for take in self.takes:
            for t in range(0, take.duration_us + step, step):
                if take.start_us + t > last:
                    last = take.start_us + t
                    box = self._draw(take, t, picture)
                    yield last, picture
                    picture[box] = self.background[box]
        if last < self.duration_us:
            yield self.duration_us, picture

    def segments(self) -> tuple[Segment, ...]:
        """Returns when which gesture is shown: while at least half the hand is in the picture.

        Bounds are multiples of the step. A gesture whose hand never comes in that far has none.
        """
        found = []
        for take in self.takes:
            points = take.hand.inner_points()
            times = range(0, take.duration_us + 1, self.config.step_us)
            shown = [t for t in times if visible_share(points, take.pose(t), self.config) >= _VISIBLE]
            if shown:
                end = shown[-1] + self.config.step_us
                found.append(Segment(take.start_us + shown[0], take.start_us + end, take.hand.gesture))
        return tuple(found)

    def _draw(self, take: Take, t_us: int, picture: FloatImage) -> tuple[slice, slice]:
        """Draws the hand into a picture of the background, and returns the box that it changed."""
        pose = take.pose(t_us)
        limbs = (*take.hand.limbs, take.hand.forearm)
        box, distance = signed_distance(limbs, pose, self.config.width, self.config.height)
        covered = coverage(distance, take.softness)
        rim = np.clip(np.float32(1.0) + distance * np.float32(4.0 / pose.scale), np.float32(0.0), np.float32(1.0))
        rim *= np.float32(take.shading)
        rim += np.float32(take.level)
        # Mixed in log-intensity: within an edge of 1 to 3 px nobody could tell, and it saves a logarithm.
        rim -= self.background[box]
        rim *= covered
        picture[box] += rim
        return box


def visible_share(points: NDArray[np.float64], pose: Pose, config: SynthConfig) -> float:
    """Returns the share, 0 to 1, of a hand's `points` `[N, 2]`, (u, v) each, that are in the picture."""
    cos, sin = pose.scale * math.cos(pose.rotation), pose.scale * math.sin(pose.rotation)
    x = pose.x + points[:, 0] * cos + points[:, 1] * sin
    y = pose.y + points[:, 0] * sin - points[:, 1] * cos
    inside = (x >= -0.5) & (x < config.width - 0.5) & (y >= -0.5) & (y < config.height - 0.5)
    return np.count_nonzero(inside) / len(points)


def draw_take(config: SynthConfig, gesture: int, start_us: int, rng: np.random.Generator) -> Take:
    """Returns a take of `gesture`, everything about it drawn from the ranges of `config`."""
    hand = draw_hand(gesture, rng)
    duration = max(_draw_time(config.gesture_us, config.step_us, rng), 10 * config.step_us)
    size = min(config.width, config.height) / 320.0
    scale = size * rng.uniform(*config.palm_px)
    rotation = math.radians(rng.uniform(*config.rotation_deg))
    # The middle of the outline, not of the palm, is what shall be near the middle of the picture.
    behind = 0.5 * (hand.radius() - 0.6) * scale
    place = Pose(
        (0.5 + rng.uniform(-0.14, 0.14)) * (config.width - 1) - behind * math.sin(rotation),
        (0.5 + rng.uniform(-0.14, 0.14)) * (config.height - 1) + behind * math.cos(rotation),
        scale,
        rotation,
    )
    sign = 1.0 if rng.random() < 0.5 else -1.0
    sway = scale * rng.uniform(*config.sway)
    return Take(
        hand=hand,
        start_us=start_us,
        duration_us=duration,
        enter_us=max(round(rng.uniform(*config.enter_fraction) * duration), 1),
        place=place,
        away=_way_out(place, hand.radius() * scale + 8.0, config),
        sway=(_draw_swing(sway, config, rng), _draw_swing(0.7 * sway, config, rng)),
        turn=_draw_swing(math.radians(rng.uniform(*config.turn_deg)), config, rng),
        zoom=_draw_swing(rng.uniform(*config.zoom), config, rng),
        level=sign * rng.uniform(*config.contrast),
        shading=rng.uniform(*config.shading) * (1.0 if rng.random() < 0.5 else -1.0),
        softness=rng.uniform(*config.softness_px),
    )


def draw_background(config: SynthConfig, rng: np.random.Generator) -> FloatImage:
    """Returns a background's log-intensity `[height, width]`: spots of several sizes, 0 in the mean."""
    size = min(config.width, config.height) / 320.0
    texture = rng.uniform(*config.texture)
    # The sum of independent spots has the standard deviation that is asked for, but for the interpolation's.
    weights = [0.5**i for i in range(len(_TEXTURE_CELLS))]
    unit = texture / math.sqrt(sum(w * w for w in weights))
    background = np.zeros((config.height, config.width))
    for cell, weight in zip(_TEXTURE_CELLS, weights, strict=True):
        background += unit * weight * _spots(config.height, config.width, max(cell * size, 2.0), rng)
    return background.astype(np.float32)


def _spots(height: int, width: int, cell: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Returns values of standard deviation 1 on a grid of `cell` pixels, interpolated linearly between."""
    rows, columns = np.arange(height) / cell, np.arange(width) / cell
    i, j = rows.astype(np.intp), columns.astype(np.intp)
    grid = rng.normal(size=(i[-1] + 2, j[-1] + 2))
    down, right = (rows - i)[:, None], (columns - j)[None, :]
    upper = grid[i][:, j] * (1.0 - right) + grid[i][:, j + 1] * right
    lower = grid[i + 1][:, j] * (1.0 - right) + grid[i + 1][:, j + 1] * right
    spots: NDArray[np.float64] = upper * (1.0 - down) + lower * down
    return spots


def _draw_swing(amplitude: float, config: SynthConfig, rng: np.random.Generator) -> Swing:
    return Swing(amplitude, rng.uniform(*config.tremble_hz), rng.uniform(0.0, 2.0 * math.pi))


def _draw_time(limits: Range, step_us: int, rng: np.random.Generator) -> int:
    """Returns a time drawn from `limits`, in µs, rounded to a whole number of steps."""
    return round(rng.uniform(*limits) / step_us) * step_us


def _way_out(place: Pose, radius: float, config: SynthConfig) -> float:
    """Returns how far a circle of `radius` around a place has to go back to leave the picture, in pixels.

    The arm leaves with it: it trails farther out on the same line, and the picture is convex.
    """
    way = 0.0
    while True:
        x = place.x - way * math.sin(place.rotation)
        y = place.y + way * math.cos(place.rotation)
        outside_x = max(-x, x - (config.width - 1), 0.0)
        outside_y = max(-y, y - (config.height - 1), 0.0)
        if math.hypot(outside_x, outside_y) > radius:
            return way
        way += 2.0
