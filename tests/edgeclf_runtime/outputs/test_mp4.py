from __future__ import annotations

import contextlib
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from edgeclf_runtime.errors import EdgeclfError, MissingPackageError
from edgeclf_runtime.outputs.mp4 import Mp4Writer, check_video_package


def grey(level):
    return np.full((48, 64, 3), level, np.uint8)


def shown_in(path):
    """Returns when each picture is shown, in seconds, and how bright it is."""
    with av.open(str(path)) as file:
        return [(frame.time, frame.to_ndarray(format="rgb24").mean()) for frame in file.decode(video=0)]


def test_pictures_come_when_they_should(tmp_path):
    given = {0: 40, 1: 80, 2: 120, 7: 160, 8: 200}
    with Mp4Writer(tmp_path / "a.mp4", (48, 64), Fraction(1_000_000, 33_333)) as video:
        for at, level in given.items():
            video.write(grey(level), at)
    found = shown_in(tmp_path / "a.mp4")
    assert [time for time, _ in found] == pytest.approx([at * 0.033333 for at in given], abs=1e-4)
    assert [level for _, level in found] == pytest.approx(list(given.values()), abs=4)


def test_what_was_written_can_be_seen_before_the_end(tmp_path):
    """Every two seconds, what came before is on the disk, as a kill would leave it."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    with Mp4Writer(tmp_path / "a.mp4", (48, 64), Fraction(10)) as video:
        for k in range(400):
            video.write(np.roll(noise, k, axis=0), k)
        assert len(shown_in_part(tmp_path / "a.mp4")) >= 200
    assert len(shown_in(tmp_path / "a.mp4")) == 400


def shown_in_part(path):
    found = []
    # The last piece may not be whole.
    with av.open(str(path)) as file, contextlib.suppress(av.error.InvalidDataError):
        found.extend(frame.time for frame in file.decode(video=0))
    return found


def test_closing_twice(tmp_path):
    video = Mp4Writer(tmp_path / "a.mp4", (48, 64), Fraction(10))
    video.write(grey(9), 0)
    video.close()
    video.close()
    assert len(shown_in(tmp_path / "a.mp4")) == 1


def test_a_place_that_cannot_be_written_is_told_once(tmp_path):
    video = Mp4Writer(tmp_path / "missing" / "a.mp4", (48, 64), Fraction(10), "NAME")
    with pytest.raises(EdgeclfError, match="NAME: the video could not be written to its end"):  # noqa: PT012
        for k in range(100):
            video.write(grey(9), k)
        video.close()
    video.close()


@pytest.mark.parametrize("name", ["av", "PIL"])
def test_a_missing_package_names_its_extra(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=rf"need the package {name}, .* pip install 'edgeclf\[video\]'"):
        check_video_package()
