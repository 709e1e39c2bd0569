"""A video of a classifier at work: event frames, a tile for each stream, with what they show and what it says.

Written with PyAV (`av`, extra `video`): BSD-3-Clause, releases every few months (18.1.0 is pinned), wheels for Linux on
x86-64 and aarch64, macOS and Windows, no program needed beside them. Its wheels bring FFmpeg with libx264, which is
under the GPL; it is the user who installs them, and edgeclf ships neither.
"""

from __future__ import annotations

import logging
import math
import webbrowser
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import chain, islice
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from edgeclf.data.labels import IGNORED, recording_name
from edgeclf.data.sequential import Batch, VideoInfo
from edgeclf.event_image import event_image, image_scale
from edgeclf_runtime.errors import MissingPackageError, UsageError
from edgeclf_runtime.files import written_whole

logger = logging.getLogger(__name__)

Picture = NDArray[np.uint8]
"""`[rows, columns, 3]`, red, green, blue."""

_RIGHT, _WRONG, _NEUTRAL, _TEXT = (60, 190, 105), (235, 80, 70), (105, 110, 120), (225, 228, 232)
_MARGIN, _LINE = 6, 17
_NARROWEST, _WIDEST = 208, 480
"""Widths of a tile's picture in pixels: smaller frames are enlarged a whole number of times, larger ones shrunk."""


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


Answer = list[tuple[str, tuple[int, int, int]]]
"""Lines of text with their colours; the last one's is the tile's."""


def _position(info: VideoInfo, step: int) -> str | None:
    """Returns which recording a tile shows, and when the frame ends; None where it shows none."""
    if not info.path or step >= info.frames:
        return None
    return f"{info.ends_us[step] / 1000:.0f} ms  {recording_name(Path(info.path))}"


def _answer(truth: int, shares: Tensor | None, labels: Sequence[str]) -> Answer:
    lines: Answer = [(f"is {labels[truth]}" if truth != IGNORED else "not labelled", _TEXT)]
    if shares is None:
        return [*lines, ("", _NEUTRAL)]
    best = int(shares.argmax())
    mark, colour = ("", _NEUTRAL) if truth == IGNORED else ("✓ ", _RIGHT) if best == truth else ("✗ ", _WRONG)
    return [*lines, (f"{mark}says {labels[best]}  {float(shares[best]):.0%}", colour)]


def _tile(events: Picture, position: str | None, answer: Answer) -> Image.Image:
    """Returns a stream's tile: the events, framed in the answer's colour, and three lines of text below."""
    picture = _enlarged(events)
    colour = answer[-1][1] if position is not None else _NEUTRAL
    size = (picture.width + 2 * _MARGIN, picture.height + 2 * _MARGIN + 3 * _LINE + _MARGIN)
    tile = Image.new("RGB", size, (12, 14, 20))
    drawing = ImageDraw.Draw(tile)
    if position is None:
        return tile
    frame = (_MARGIN - 4, _MARGIN - 4, _MARGIN + picture.width + 3, _MARGIN + picture.height + 3)
    drawing.rectangle(frame, outline=colour, width=4)
    tile.paste(picture, (_MARGIN, _MARGIN))
    font = _font()
    for i, (text, ink) in enumerate([(position, _NEUTRAL), *answer]):
        at = (_MARGIN, picture.height + 2 * _MARGIN + i * _LINE)
        drawing.text(at, _shortened(text, font, picture.width), fill=ink, font=font)
    return tile


@cache
def _font() -> ImageFont.FreeTypeFont:
    """Returns the font that comes with matplotlib: it has marks and the letters of many languages."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 13)


def _enlarged(events: Picture) -> Image.Image:
    """Returns a picture of events that is neither tiny nor huge."""
    height, width = events.shape[:2]
    picture = Image.fromarray(events)
    if width > _WIDEST:
        return picture.resize((_WIDEST, max(1, round(height * _WIDEST / width))), Image.Resampling.BOX)
    times = math.ceil(_NARROWEST / width)
    return picture.resize((width * times, height * times), Image.Resampling.NEAREST)


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Returns a text that is no wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _grid(tiles: Sequence[Image.Image], streams: int) -> Picture:
    """Returns tiles side by side, in about as many rows as columns; rows and columns of the picture are even."""
    columns = math.ceil(math.sqrt(streams))
    rows = math.ceil(streams / columns)
    width, height = tiles[0].size
    # H.264 with colours at half the resolution has no odd sizes.
    grid = Image.new("RGB", (columns * width + columns * width % 2, rows * height + rows * height % 2), (12, 14, 20))
    for i, tile in enumerate(tiles):
        grid.paste(tile, (i % columns * width, i // columns * height))
    return np.asarray(grid)


def check_video_package() -> None:
    """Raises a `MissingPackageError` where the package that writes videos is not installed."""
    try:
        import av  # noqa: F401 - asked for only where a video is
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "Videos need the package av, which is not installed: pip install 'edgeclf[video]'."
        ) from error


def write_h264(path: Path, pictures: Iterable[Picture], fps: int) -> Path:
    """Writes pictures, all of one even size, as an MP4 file with H.264 video, and returns its path.

    Args:
        path: Where to; the folder is made where it is missing.
        pictures: At least one.
        fps: Pictures a second.

    Raises:
        MissingPackageError: Where the package that writes videos is not installed.
        UsageError: Where there is no picture, `fps` is not positive, or nothing can be written there.
    """
    check_video_package()
    import av

    if fps < 1:
        raise UsageError(f"A video cannot show {fps} frames a second; give 1 or more.")
    waiting = iter(pictures)
    first = next(waiting, None)
    if first is None:
        raise UsageError(f"{path}: there is no batch to show, so no video was written; give at least one.")
    with written_whole(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        # By the codec's name FFmpeg takes the encoder that it has, libx264 in the wheels.
        stream = container.add_stream("h264", rate=fps, options={"crf": "20", "preset": "veryfast"})
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"  # what every player shows
        for picture in chain([first], waiting):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def open_with_viewer(path: Path) -> None:
    """Opens a file with the desktop's viewer, and says so; or that there is none."""
    if webbrowser.open(path.resolve().as_uri()):
        logger.info("%s: opened with the desktop's viewer", path)
    else:
        logger.warning("%s: this machine has no viewer to open it with; copy the file to one that has", path)
