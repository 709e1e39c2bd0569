from __future__ import annotations

import sys

import av
import numpy as np
import pytest
from PIL import ImageFont

from edgeclf_runtime.errors import MissingPackageError, UsageError
from edgeclf_runtime.outputs import VideoOutput

GREEN, GREY = (60, 190, 105), (105, 110, 120)


def frames_of(path):
    with av.open(str(path)) as file:
        return [(frame.time, frame.to_ndarray(format="rgb24").astype(int)) for frame in file.decode(video=0)]


def is_near(pixel, colour):
    return np.abs(pixel - np.array(colour)).max() < 30


def test_frames_of_one_stream(tmp_path, tiny, predicted):
    """The contract's frames are 12×16 and last 10 ms: enlarged 30 times, a hundred a second; frame 4 was dropped."""
    path = tmp_path / "neu é" / "a.mp4"
    with VideoOutput(path, tiny, ["a.raw"]) as output:
        for k in (2, 3, 5):
            frame = np.zeros((2, 12, 16), np.float32)
            frame[0, :6] = 0.4  # negative events above, positive ones in the right half
            frame[1, :, 8:] = 0.4
            output.write(predicted(k, accepted=k == 3), frame)
    (times, pictures) = zip(*frames_of(path), strict=True)
    assert times == pytest.approx([0.0, 0.01, 0.03])
    assert {picture.shape for picture in pictures} == {(12 * 30 + 18 + 3 * 17 + 1, 16 * 30 + 12, 3)}
    for picture, edge in zip(pictures, (GREY, GREEN, GREY), strict=True):
        assert is_near(picture[100, 4], edge)
        inside = picture[6 : 6 + 360, 6 : 6 + 480]
        quarters = inside[90, 120], inside[90, 360], inside[270, 120], inside[270, 360]
        for pixel, colour in zip(quarters, ((255, 0, 0), (0, 0, 0), (255, 255, 255), (0, 0, 255)), strict=True):
            assert is_near(pixel, colour)


def test_what_is_written_below(tmp_path, tiny, predicted, monkeypatch):
    written = []
    monkeypatch.setattr("PIL.ImageDraw.ImageDraw.text", lambda _self, _at, text, **_kwargs: written.append(text))
    with VideoOutput(tmp_path / "a.mp4", tiny, ["a.raw"]) as output:
        output.write(predicted(0, source="folder/a.raw", label="rock", score=0.934), np.zeros((2, 12, 16), np.float32))
        output.write(predicted(1, source="folder/a.raw", label="é", score=1.0), np.zeros((2, 12, 16), np.float32))
    assert written == ["10 ms  a.raw", "rock  93%", "memory cleared", "20 ms  a.raw", "é  100%", ""]


def test_several_streams_are_several_files(tmp_path, tiny, predicted):
    with VideoOutput(tmp_path / "a b.mp4", tiny, ["a.raw", "b.raw", "c.raw"]) as output:
        for k in range(3):
            output.write(predicted(k, 0), np.ones((2, 12, 16), np.float32))
        output.write(predicted(0, 2), np.ones((2, 12, 16), np.float32))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b_stream_0.mp4", "a b_stream_2.mp4"]
    assert [len(frames_of(path)) for path in sorted(tmp_path.iterdir())] == [3, 1]


def test_one_flash_does_not_make_what_follows_dark(tmp_path, tiny, predicted):
    faint, flash = np.zeros((2, 12, 16), np.float32), np.full((2, 12, 16), 1.0, np.float32)
    faint[1, :, :8] = 0.1
    with VideoOutput(tmp_path / "a.mp4", tiny, ["a.raw"]) as output:
        for k, frame in enumerate([faint, flash, faint]):
            output.write(predicted(k), frame)
    before, _, after = (picture[100, 100] for _, picture in frames_of(tmp_path / "a.mp4"))
    assert is_near(before, (0, 0, 255))
    assert after[0] < 110  # still more than half of the colour


def test_without_fonts_on_the_machine_pillows_own_is_used(tmp_path, tiny, predicted, monkeypatch):
    def missing(*_):
        raise OSError("cannot open resource")

    default = ImageFont.load_default(13)
    monkeypatch.setattr(ImageFont, "truetype", missing)
    monkeypatch.setattr(ImageFont, "load_default", lambda _size: default)
    with VideoOutput(tmp_path / "a.mp4", tiny, ["a.raw"]) as output:
        output.write(predicted(0), np.zeros((2, 12, 16), np.float32))
    ((_, picture),) = frames_of(tmp_path / "a.mp4")
    assert picture[380:].max() > 100


def test_a_place_that_cannot_be_written(tmp_path, tiny):
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "a.mp4"):
        with pytest.raises(UsageError, match=r"this is a folder|cannot be written there"):
            VideoOutput(place, tiny, ["a"])


def test_a_missing_package_is_said_at_once(tmp_path, tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackageError, match="need the package av"):
        VideoOutput(tmp_path / "a.mp4", tiny, ["a"])
