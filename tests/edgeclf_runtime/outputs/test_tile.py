from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFont

from edgeclf_runtime.outputs.tile import BACKDROP, RIGHT, TEXT, draw_tile, even_picture

FONT = ImageFont.load_default(13)


@pytest.mark.parametrize(("width", "drawn"), [(5, 10), (10, 10), (7, 14), (20, 20), (40, 20)])
def test_a_picture_is_enlarged_a_whole_number_of_times_or_shrunk(width, drawn):
    events = np.zeros((6, width, 3), np.uint8)
    events[:, 0] = (9, 0, 0)
    tile = np.asarray(draw_tile(events, [], RIGHT, FONT, (10, 20)))
    assert tile.shape == (6 * drawn // width + 18, drawn + 12, 3)
    inside = tile[6:-12, 6:-6]
    if drawn >= width:
        np.testing.assert_array_equal(inside, events.repeat(drawn // width, 0).repeat(drawn // width, 1))


def test_the_frame_has_the_colour_and_the_text_its_own():
    events = np.full((20, 40, 3), 255, np.uint8)
    tile = np.asarray(draw_tile(events, [("a", TEXT), ("", TEXT)], RIGHT, FONT, (40, 80)))
    assert tuple(tile[3, 20]) == tuple(tile[10, 3]) == RIGHT
    below = tile[32:].reshape(-1, 3)
    assert TEXT in set(map(tuple, below.tolist()))
    assert tile.shape[0] == 20 + 18 + 2 * 17


def test_text_that_is_too_long_stays_below_the_picture():
    events = np.full((20, 40, 3), 255, np.uint8)
    tile = np.asarray(draw_tile(events, [("x" * 100, TEXT)], RIGHT, FONT, (40, 80)))
    assert (tile[31:, -6:] == BACKDROP).all()


@pytest.mark.parametrize("size", [(4, 4), (3, 4), (4, 3), (1, 1)])
def test_even_pictures(size):
    picture = even_picture(Image.new("RGB", size, (9, 9, 9)))
    assert (picture.shape[0] % 2, picture.shape[1] % 2) == (0, 0)
    assert (picture[: size[1], : size[0]] == 9).all()
    assert picture.shape[0] - size[1] < 2
