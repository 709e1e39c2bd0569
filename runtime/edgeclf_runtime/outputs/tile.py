"""A picture of what a classifier sees and says: the event frame, framed in a colour, above lines of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]
"""`[rows, columns, 3]`, red, green, blue."""

Colour = tuple[int, int, int]

Line = tuple[str, Colour]
"""A line of text and its colour."""

BACKDROP: Colour = (12, 14, 20)
RIGHT: Colour = (60, 190, 105)
WRONG: Colour = (235, 80, 70)
NEUTRAL: Colour = (105, 110, 120)
TEXT: Colour = (225, 228, 232)

_MARGIN, _LINE = 6, 17


def draw_tile(
    events: Picture,
    lines: Sequence[Line],
    colour: Colour,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    widths: tuple[int, int],
) -> Image.Image:
    """Draws a tile.

    Args:
        events: The event frame as a picture.
        lines: What is written below it; what is too long is cut off.
        colour: Of the frame around the picture.
        font: Of a size that goes into lines of 17 pixels.
        widths: What the picture's width in pixels should lie between: a smaller one is enlarged a whole number of
            times, a larger one shrunk.
    """
    picture = _resized(events, *widths)
    size = (picture.width + 2 * _MARGIN, picture.height + 3 * _MARGIN + len(lines) * _LINE)
    tile = Image.new("RGB", size, BACKDROP)
    drawing = ImageDraw.Draw(tile)
    frame = (_MARGIN - 4, _MARGIN - 4, _MARGIN + picture.width + 3, _MARGIN + picture.height + 3)
    drawing.rectangle(frame, outline=colour, width=4)
    tile.paste(picture, (_MARGIN, _MARGIN))
    for i, (text, ink) in enumerate(lines):
        at = (_MARGIN, picture.height + 2 * _MARGIN + i * _LINE)
        drawing.text(at, _shortened(text, font, picture.width), fill=ink, font=font)
    return tile


def even_picture(image: Image.Image) -> Picture:
    """Returns an image with even numbers of rows and columns: H.264 with colours at half the resolution has no odd."""
    size = (image.width + image.width % 2, image.height + image.height % 2)
    even = Image.new("RGB", size, BACKDROP)
    even.paste(image)
    return np.asarray(even)


def _resized(events: Picture, narrowest: int, widest: int) -> Image.Image:
    height, width = events.shape[:2]
    picture = Image.fromarray(events)
    if width > widest:
        return picture.resize((widest, max(1, round(height * widest / width))), Image.Resampling.BOX)
    times = math.ceil(narrowest / width)
    return picture.resize((width * times, height * times), Image.Resampling.NEAREST)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """Returns a text that is no wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
