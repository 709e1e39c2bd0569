from __future__ import annotations

import base64
import os
import re

import numpy as np
import pytest

from edgeclf.figures import new_figure
from edgeclf.page import Page
from edgeclf_runtime.errors import UsageError

PHONE, DESKTOP = 375, 1280
NASTY = "<script>throw 'ran'</script> & \"quoted\" 'too'"
LONG = "a_recording_whose_name_has_no_blank_" * 8


def drawn(points: int = 10):
    figure = new_figure(4.8, 3.4)
    figure.subplots().plot(np.random.default_rng(0).random(points), ".", label="what & where <here>")
    return figure


def written(tmp_path, passed=None, names=(NASTY, LONG)):
    """Writes a page that has everything on it, with names that are hard to show."""
    page = Page(f"Seen: {names[0]}", passed)
    page.facts([(name, name) for name in names])
    for name in names:
        page.heading(name, f"A note on {name}.")
    page.table([*names, *(f"column {i}" for i in range(30))], [[*names, *["1234.5"] * 29, "passed"]] * 3)
    page.figures((drawn(), names[0]), (drawn(), names[-1]))
    page.write(tmp_path / "page.html")
    return tmp_path / "page.html"


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_a_page_is_whole_without_a_network_and_fits_the_screen(open_page, tmp_path, width):
    opened = open_page(written(tmp_path), width)
    assert opened.console == []
    assert opened.requests == []
    assert opened.overflow <= 0
    assert len(opened.pictures) == 2
    assert all(width > 0 and height > 0 for width, height in opened.pictures)


def test_what_is_written_is_text_not_html(open_page, tmp_path):
    text = open_page(written(tmp_path)).text
    assert f"Seen: {NASTY}" in text
    assert f"A note on {NASTY}." in text
    # In the title, the facts, a heading and its note, the table's head and its three rows, and a caption.
    assert text.count(NASTY) == 1 + 2 + 2 + 1 + 3 + 1
    assert text.count(LONG) == 2 + 2 + 1 + 3 + 1


@pytest.mark.parametrize(("passed", "said"), [(True, ": passed"), (False, ": failed"), (None, "")])
def test_the_heading_and_the_windows_title_say_whether_it_passed(open_page, tmp_path, passed, said):
    file = written(tmp_path, passed, ["the check"])
    assert open_page(file).text.splitlines()[0] == f"Seen: the check{said}"
    assert f"<title>Seen: the check{said}</title>" in file.read_text("utf-8")


def test_names_that_are_no_utf8_and_letters_that_no_font_has_are_shown_all_the_same(open_page, tmp_path):
    figure = drawn()
    figure.suptitle("手 \U000f0000")
    page = Page(os.fsdecode(b"bytes \xff.html"))
    page.figures((figure, "手"))
    page.write(tmp_path / "page.html")
    opened = open_page(tmp_path / "page.html")
    assert "bytes ?.html" in opened.text
    assert "手" in opened.text
    assert opened.console == []
    assert opened.pictures[0][0] > 0


def test_a_drawing_is_sharp_and_a_huge_one_becomes_pixels(open_page, tmp_path):
    page = Page("Points")
    page.figures((drawn(10), "few"), (drawn(20_000), "many"))
    page.write(tmp_path / "page.html")
    kinds = re.findall(r"data:image/([a-z+]+);base64,([\w+/=]+)", (tmp_path / "page.html").read_text())
    assert [kind for kind, _ in kinds] == ["svg+xml", "png"]
    drawing, pixels = (base64.b64decode(data) for _, data in kinds)
    assert drawing.startswith(b"<?xml")
    assert b"<text" not in drawing  # letters are outlines: no font of the reader's machine is asked for
    assert pixels.startswith(b"\x89PNG")
    assert len(pixels) < 1_000_000
    (few_width, few_height), (many_width, many_height) = open_page(tmp_path / "page.html").pictures
    assert few_width / few_height == pytest.approx(many_width / many_height, rel=0.01)


def test_the_same_page_is_the_same_bytes(tmp_path):
    assert written(tmp_path / "a").read_bytes() == written(tmp_path / "b").read_bytes()


def test_a_page_that_cannot_be_written_is_an_error_for_people(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose another place"):
        Page("Page").write(tmp_path / "file" / "page.html")


def test_the_browser_sees_what_a_page_does_wrong(open_page, tmp_path):
    file = tmp_path / "wrong page.html"
    file.write_text(
        "<img src=https://example.invalid/a.png><img src=beside.png>"
        "<script>console.warn('warned'); throw 'thrown'</script><div style='width: 2000px'>wide</div>"
    )
    opened = open_page(file, PHONE)
    assert {"warned", "thrown"} <= set(opened.console)
    assert [request.rpartition("/")[2] for request in opened.requests] == ["a.png", "beside.png"]
    assert opened.pictures == [(0, 0), (0, 0)]
    assert opened.overflow > 1000
    opened.screenshot(tmp_path / "wrong.png")
    assert (tmp_path / "wrong.png").stat().st_size > 0
