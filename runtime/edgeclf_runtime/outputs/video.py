"""Predictions as videos: what the model saw, and what it said of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.console import check_can_write
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.outputs.base import PredictionOutput
from edgeclf_runtime.outputs.event_image import event_image, image_scale
from edgeclf_runtime.outputs.mp4 import Mp4Writer, check_video_package
from edgeclf_runtime.streaming.prediction import StreamPrediction

_WIDTHS = (480, 960)
"""Widths that the picture of an event frame may have, in pixels."""

_ADAPTATION = 0.05
"""How much of the brightness a new frame's own one makes up: one flash does not make the frames around it dark."""


class VideoOutput(PredictionOutput):
    """Writes an MP4 file per stream, at the sensor's speed: event frames, below them the label and its score.

    A file shows all frames that a prediction came of; where some were dropped, the one before stays for as long. What
    was accepted is green. What was written before a kill, or on a disk that got full, can be played.

    Args:
        path: The file; its folders are made. Of several streams, `NAME_stream_0.mp4` and so on stand in its place.
        contract: The model's contract.
        sources: The streams' sources, by name.

    Raises:
        UsageError: Where the files cannot be written there.
        MissingPackageError: Where a package that makes videos is not installed.
    """

    def __init__(self, path: str | Path, contract: Contract, sources: Sequence[str]) -> None:
        check_video_package()
        path = Path(path)
        several = len(sources) > 1
        paths = [path.with_stem(f"{path.stem}_stream_{i}") if several else path for i in range(len(sources))]
        for one in paths:
            check_can_write(one)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{path}: the video cannot be written there ({error.strerror}); choose another place."
            ) from error
        self._videos = [_StreamVideo(one, Fraction(1_000_000, contract.delta_t)) for one in paths]

    def write(self, prediction: StreamPrediction, frame: NDArray[np.float32] | None = None) -> None:
        """Takes a prediction and its frame, which must be there."""
        if frame is None:
            raise ValueError("a video shows event frames, and there is none")
        self._videos[prediction.stream].write(prediction, frame)

    def close(self) -> None:
        """Writes what is left and closes the files, each of them though another failed."""
        with ExitStack() as stack:
            for video in self._videos:
                stack.callback(video.close)


class _StreamVideo:
    """The video of one stream.

    Args:
        path: Where to write it.
        rate: Frames a second.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        from PIL import ImageFont

        self._path = path
        self._rate = rate
        self._writer: Mp4Writer | None = None
        self._first = 0
        self._scale: float | None = None
        try:
            self._font: ImageFont.FreeTypeFont | ImageFont.ImageFont = ImageFont.truetype("DejaVuSans.ttf", 13)
        except OSError:
            self._font = ImageFont.load_default(13)  # of Pillow's own, with few letters but those of English

    def write(self, prediction: StreamPrediction, frame: NDArray[np.float32]) -> None:
        """Draws a picture and writes it."""
        from edgeclf_runtime.outputs.tile import NEUTRAL, RIGHT, TEXT, draw_tile, even_picture

        lines = [
            (f"{prediction.t_us / 1000:.0f} ms  {Path(prediction.source).name}", NEUTRAL),
            (f"{prediction.label}  {prediction.score:.0%}", RIGHT if prediction.accepted else TEXT),
            ("memory cleared" if prediction.reset else "", NEUTRAL),
        ]
        events = np.rint(255 * event_image(frame, self._adapted_scale(frame))).astype(np.uint8)
        colour = RIGHT if prediction.accepted else NEUTRAL
        picture = even_picture(draw_tile(events, lines, colour, self._font, _WIDTHS))
        if self._writer is None:
            self._first = prediction.frame
            self._writer = Mp4Writer(self._path, picture.shape[:2], self._rate)
        self._writer.write(picture, prediction.frame - self._first)

    def close(self) -> None:
        """Writes what is left and closes the file."""
        if self._writer is not None:
            self._writer.close()

    def _adapted_scale(self, frame: NDArray[np.float32]) -> float:
        """Returns the value that is drawn in full colour; it follows the frames that show something."""
        if frame.any():
            own = image_scale([frame])
            self._scale = own if self._scale is None else self._scale + _ADAPTATION * (own - self._scale)
        return self._scale or 1.0
