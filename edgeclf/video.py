"""A video of a classifier at work: event frames, a tile for each stream, with what they show and what it says."""

from __future__ import annotations

import logging
import math
import webbrowser
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from itertools import chain, islice
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageFont
from torch import Tensor

from edgeclf.data.labels import IGNORED, recording_name
from edgeclf.data.sequential import Batch, VideoInfo
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.files import written_whole
from edgeclf_runtime.outputs.event_image import event_image, image_scale
from edgeclf_runtime.outputs.mp4 import Mp4Writer, check_video_package
from edgeclf_runtime.outputs.tile import (
    BACKDROP,
    NEUTRAL,
    RIGHT,
    TEXT,
    WRONG,
    Line,
    Picture,
    draw_tile,
    even_picture,
)

logger = logging.getLogger(__name__)

_WIDTHS = (208, 480)
"""Widths that a tile's picture may have, in pixels."""


def demo_images(
    batches: Iterable[Batch],
    predict: Callable[[Batch], Tensor] | None,
    labels: Sequence[str],
    num_batches: int,
) -> Iterator[Picture]:
    """Yields the pictures of a demo video, all of one size, rows and columns even: a grid with a tile for each stream.

    Args:
        batches: Batches of the data module, of consecutive frames or of windows; of a window, the last frame is shown.
        predict: Gives the logits `[T, B, K]` of a batch; None: predictions are not shown.
        labels: Names of the outputs.
        num_batches: How many batches are shown, at most.
    """
    streams = 0
    for batch in islice(batches, num_batches):
        frames, truth = batch["inputs"].float().cpu().numpy(), batch["labels"].cpu()
        shown = len(truth)
        first = len(frames) - shown  # what comes before belongs to a window
        scale = image_scale(list(frames.reshape(-1, *frames.shape[2:])))
        shares = None if predict is None else predict(batch).detach().float().softmax(-1).cpu()
        streams = streams or frames.shape[1]  # a last batch that is smaller leaves tiles empty
        for k in range(shown):
            tiles = [
                _tile(
                    np.rint(255 * event_image(frames[first + k, row], scale)).astype(np.uint8),
                    _position(info, k),
                    _answer(int(truth[k, row]), None if shares is None else shares[k, row], labels),
                )
                for row, info in enumerate(batch["video_infos"][:streams])
            ]
            yield _grid(tiles, streams)


Answer = list[Line]
"""Lines of text with their colours; the last one's is the tile's."""


def _position(info: VideoInfo, step: int) -> str | None:
    """Returns which recording a tile shows, and when the frame ends; None where it shows none."""
    if not info.path or step >= info.frames:
        return None
    return f"{info.ends_us[step] / 1000:.0f} ms  {recording_name(Path(info.path))}"


def _answer(truth: int, shares: Tensor | None, labels: Sequence[str]) -> Answer:
    lines: Answer = [(f"is {labels[truth]}" if truth != IGNORED else "not labelled", TEXT)]
    if shares is None:
        return [*lines, ("", NEUTRAL)]
    best = int(shares.argmax())
    mark, colour = ("", NEUTRAL) if truth == IGNORED else ("✓ ", RIGHT) if best == truth else ("✗ ", WRONG)
    return [*lines, (f"{mark}says {labels[best]}  {float(shares[best]):.0%}", colour)]


def _tile(events: Picture, position: str | None, answer: Answer) -> Image.Image:
    """Returns a stream's tile, framed in the answer's colour; an empty one where it shows no recording."""
    lines = [(position or "", NEUTRAL), *answer]
    tile = draw_tile(events, lines, answer[-1][1], _font(), _WIDTHS)
    return tile if position is not None else Image.new("RGB", tile.size, BACKDROP)


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Returns the font that comes with matplotlib: it has marks and the letters of many languages."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 13)


def _grid(tiles: Sequence[Image.Image], streams: int) -> Picture:
    """Returns tiles side by side, in about as many rows as columns."""
    columns = math.ceil(math.sqrt(streams))
    rows = math.ceil(streams / columns)
    width, height = tiles[0].size
    grid = Image.new("RGB", (columns * width, rows * height), BACKDROP)
    for i, tile in enumerate(tiles):
        grid.paste(tile, (i % columns * width, i // columns * height))
    return even_picture(grid)


def write_h264(path: Path, pictures: Iterable[Picture], fps: int) -> Path:
    """Writes pictures, all of one even size, as an MP4 file with H.264 video, and returns its path.

    Args:
        path: Where to; the folder is made where it is missing.
        pictures: At least one.
        fps: Pictures a second.

    Raises:
        MissingPackageError: Where the package that writes videos is not installed.
        UsageError: Where there is no picture, `fps` is not positive, or nothing can be written there.
        EdgeclfError: Where the file cannot be written to its end, as on a full disk.
    """
    check_video_package()
    if fps < 1:
        raise UsageError(f"A video cannot show {fps} frames a second; give 1 or more.")
    waiting = iter(pictures)
    first = next(waiting, None)
    if first is None:
        raise UsageError(f"{path}: there is no batch to show, so no video was written; give at least one.")
    with written_whole(path) as temporary, Mp4Writer(temporary, first.shape[:2], Fraction(fps), path) as video:
        for at, picture in enumerate(chain([first], waiting)):
            video.write(picture, at)
    return path


def open_with_viewer(path: Path) -> None:
    """Opens a file with the desktop's viewer, and says so; or that there is none."""
    if webbrowser.open(path.resolve().as_uri()):
        logger.info("%s: opened with the desktop's viewer", path)
    else:
        logger.warning("%s: this machine has no viewer to open it with; copy the file to one that has", path)
