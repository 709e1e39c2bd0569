"""An event camera's pixels: log-intensity in, events out.

Each pixel memorises the log-intensity at which it last made an event, and makes the next one when the
present value differs from that by its contrast threshold, as in ESIM (Rebecq, Gehrig, Scaramuzza, "ESIM: an
Open Event Camera Simulator", CoRL 2018). Thresholds differ from pixel to pixel, the memory leaks, and noise
adds events, as in v2e (Hu, Liu, Delbruck, "v2e: From Video Frames to Realistic DVS Events", CVPR Workshops
2021). Not modelled: the photoreceptor's limited bandwidth and the read-out's jitter and saturation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeclf.data.synth.config import PixelConfig
from edgeclf_runtime.events.batch import Events

_SMALLEST_THRESHOLD = 0.01
"""Mismatch never makes a threshold smaller than this (log-intensity), as in v2e."""


@dataclass(slots=True, eq=False)
class PixelState:
    """What the pixels remember between two steps.

    Attributes:
        t_us: The time up to which events have been made, in µs.
        log_intensity: The picture at that time, float32 `[height, width]`.
        reference: The log-intensity that each pixel has memorised, float32 `[height, width]`.
        last_event_us: When each pixel made its last event, in µs, int64 `[height, width]`.
    """

    t_us: int
    log_intensity: NDArray[np.float32]
    reference: NDArray[np.float32]
    last_event_us: NDArray[np.int64]


class EventSimulator:
    """Turns a sequence of log-intensity pictures into events.

    Between two pictures log-intensity is taken to change linearly, and an event gets the time at which the
    line crosses its threshold, rounded down to a µs. The result depends on the sequence of pictures and the
    random generator alone, not on how calls are grouped. All that is remembered is in `state` and `rng`.

    A threshold crossed within a pixel's refractory time makes no event, but the memory follows it (as in
    ESIM). A noise event leaves the memory alone, and starts a refractory time as every event does.

    Attributes:
        config: How pixels behave.
        rng: The noise's random generator; it has drawn the mismatch already.
        threshold_on: Each pixel's threshold for ON events, float32 `[height, width]`.
        threshold_off: Each pixel's threshold for OFF events, float32 `[height, width]`; positive.
        state: What the pixels remember.

    Args:
        config: How pixels behave.
        log_intensity: The first picture, float `[height, width]`, which makes no events.
        rng: The source of mismatch and noise.
        t_us: The first picture's time, in µs.
    """

    def __init__(
        self,
        config: PixelConfig,
        log_intensity: NDArray[np.floating],
        rng: np.random.Generator,
        t_us: int = 0,
    ) -> None:
        first = np.array(log_intensity, dtype=np.float32, order="C")
        if first.ndim != 2:
            raise ValueError(f"a picture has two axes, not {first.ndim}")
        self.config = config
        self.rng = rng
        self.threshold_on = _mismatched(config.threshold_on, config.threshold_sigma, first.shape, rng)
        self.threshold_off = _mismatched(config.threshold_off, config.threshold_sigma, first.shape, rng)
        reference = first.copy()
        if config.leak_rate_hz > 0:
            # Memories that all started alike would leak in step and fire all at once.
            reference -= self.threshold_on * rng.random(first.shape, dtype=np.float32)
        last = np.full(first.shape, t_us - config.refractory_us, np.int64)
        self.state = PixelState(t_us, first, reference, last)

    def step(self, t_us: int, log_intensity: NDArray[np.floating]) -> Events:
        """Returns the events between the last picture's time (included) and this one's (not included).

        They are sorted by time, those of the same µs by row, then column. A scene that does not change may be
        stepped over at once, however long it lasts: what happens meanwhile is linear in time.

        Args:
            t_us: The picture's time, in µs; later than the last one's.
            log_intensity: The picture, float `[height, width]`; it is copied.

        Raises:
            ValueError: Time does not advance, or the picture has another size than the first.
        """
        state = self.state
        log_intensity = np.asarray(log_intensity, dtype=np.float32)
        if t_us <= state.t_us:
            raise ValueError(f"time must advance, but goes from {state.t_us} µs to {t_us} µs")
        if log_intensity.shape != state.log_intensity.shape:
            raise ValueError(f"the picture is {log_intensity.shape}, not {state.log_intensity.shape}")
        pixel, t, on = self._crossings(t_us, log_intensity)
        if self.config.shot_noise_rate_hz > 0:
            noise_pixel, noise_t, noise_on = self._shot_noise(t_us)
            pixel = np.concatenate([pixel, noise_pixel])
            t = np.concatenate([t, noise_t])
            on = np.concatenate([on, noise_on])
        events = self._after_refractory(pixel, t, on)
        state.t_us = t_us
        np.copyto(state.log_intensity, log_intensity)
        return events

    def _crossings(
        self, t_us: int, log_intensity: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.bool_]]:
        """Returns pixel, time and polarity of every threshold crossed, and moves the memory there."""
        state = self.state
        duration = t_us - state.t_us
        leak_per_us = self.config.leak_rate_hz * 1e-6
        if leak_per_us > 0:
            state.reference -= self.threshold_on * np.float32(leak_per_us * duration)
        change = log_intensity - state.reference
        moved = np.flatnonzero((change >= self.threshold_on) | (change <= -self.threshold_off))

        # From here on only the pixels that make events, in float64: the times of crossings are differences of
        # nearly equal numbers.
        reference = state.reference.ravel()[moved].astype(np.float64)
        threshold_on = self.threshold_on.ravel()[moved].astype(np.float64)
        end = log_intensity.ravel()[moved] - reference
        begin = state.log_intensity.ravel()[moved] - reference - threshold_on * (leak_per_us * duration)
        rising = end > 0
        threshold = np.where(rising, threshold_on, -self.threshold_off.ravel()[moved].astype(np.float64))
        count = np.floor(end / threshold).astype(np.int64)
        state.reference.ravel()[moved] = reference + count * threshold

        which = np.repeat(np.arange(moved.size), count)
        nth = np.arange(1, which.size + 1) - np.repeat(np.cumsum(count) - count, count)
        # Rounding can leave a pixel exactly at its threshold, which it then crosses without any change.
        span = (end - begin)[which]
        fraction = np.divide(nth * threshold[which] - begin[which], span, np.zeros_like(span), where=span != 0)
        offset = np.clip(np.floor(fraction * duration), 0, duration - 1).astype(np.int64)
        return moved[which], state.t_us + offset, rising[which]

    def _shot_noise(self, t_us: int) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.bool_]]:
        """Returns pixel, time and polarity of the noise: a Poisson process, the same for every pixel."""
        duration = t_us - self.state.t_us
        pixels = self.state.reference.size
        count = self.rng.poisson(self.config.shot_noise_rate_hz * 1e-6 * duration * pixels)
        pixel = self.rng.integers(0, pixels, count, dtype=np.intp)
        t = self.rng.integers(self.state.t_us, t_us, count, dtype=np.int64)
        return pixel, t, self.rng.integers(0, 2, count, dtype=np.uint8) == 1

    def _after_refractory(self, pixel: NDArray[np.intp], t: NDArray[np.int64], on: NDArray[np.bool_]) -> Events:
        """Returns the events among these candidates that no earlier event of their pixel forbids, sorted."""
        if pixel.size == 0:
            return Events.empty()
        by_pixel = np.lexsort((t, pixel))
        pixel, t, on = pixel[by_pixel], t[by_pixel], on[by_pixel]
        # Whether one is allowed depends only on those before it in its pixel: take every pixel's first
        # candidate together, then every pixel's second, and so on.
        starts = np.flatnonzero(np.concatenate([[True], pixel[1:] != pixel[:-1]]))
        lengths = np.diff(np.append(starts, pixel.size))
        last = self.state.last_event_us.ravel()
        accepted = np.zeros(pixel.size, np.bool_)
        for nth in range(int(lengths.max())):
            candidates = starts[lengths > nth] + nth
            allowed = candidates[t[candidates] - last[pixel[candidates]] >= self.config.refractory_us]
            last[pixel[allowed]] = t[allowed]
            accepted[allowed] = True
        kept = np.flatnonzero(accepted)
        kept = kept[np.argsort(t[kept], kind="stable")]
        row, column = np.divmod(pixel[kept], self.state.reference.shape[1])
        return Events(t[kept], column.astype(np.uint16), row.astype(np.uint16), on[kept].astype(np.uint8))


def _mismatched(mean: float, sigma: float, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Returns one threshold a pixel, drawn from a Gaussian and kept positive."""
    drawn = rng.normal(mean, sigma, shape) if sigma > 0 else np.full(shape, mean)
    return np.maximum(drawn, min(mean, _SMALLEST_THRESHOLD)).astype(np.float32)
