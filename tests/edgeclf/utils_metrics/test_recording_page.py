from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgeclf.utils_metrics.recording_page import PageEntry, pictures_of, write_page
from edgeclf_runtime.errors import UsageError

AWKWARD = "<script>alert(\"x\")</script> & 'é' \udcff"
READ_AS = "<script>alert(\"x\")</script> & 'é' ?"


class Page(HTMLParser):
    """Elements with their attributes, and the text of each kind of element."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self._open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append((self._open[-1] if self._open else "", data))

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def texts(self, tag):
        return [data for name, data in self.text if name == tag]


def page(tmp_path, entries):
    write_page(tmp_path / "index.html", "The worst", entries)
    return Page((tmp_path / "index.html").read_text(encoding="utf-8"))


def test_links_lead_to_the_pictures(tmp_path: Path):
    entries = [PageEntry(f"{i}. rec", f"{i:02}.png", f"{i} wrong") for i in (1, 2, 3)]
    found = page(tmp_path, entries)
    assert [link["href"] for link in found.of("a")] == [f"#{figure['id']}" for figure in found.of("figure")]
    assert len({figure["id"] for figure in found.of("figure")}) == 3
    assert [image["src"] for image in found.of("img")] == ["01.png", "02.png", "03.png"]
    assert found.texts("a") == found.texts("b") == ["1. rec", "2. rec", "3. rec"]
    assert all(image["alt"].startswith(f"{i}. rec") for i, image in enumerate(found.of("img"), 1))
    assert "2 wrong" in "".join(found.texts("figcaption"))


def test_nothing_is_taken_from_elsewhere(tmp_path: Path):
    found = page(tmp_path, [PageEntry("1. rec", "01.png", "")])
    text = (tmp_path / "index.html").read_text()
    assert "//" not in text
    assert all("src" not in script for script in found.of("script"))
    assert found.of("link") == []


def test_arrow_keys_are_listened_to(tmp_path: Path):
    (script,) = page(tmp_path, [PageEntry("1. rec", "01.png", "")]).texts("script")
    assert "ArrowLeft" in script
    assert "ArrowRight" in script


def test_names_are_text_whatever_they_hold(tmp_path: Path):
    found = page(tmp_path, [PageEntry(AWKWARD, "a b#?.png", AWKWARD)])
    assert len(found.of("script")) == 1  # the page's own
    assert "".join(found.texts("a")) == READ_AS
    assert "".join(found.texts("figcaption")) == f": {READ_AS}"
    (image,) = found.of("img")
    assert image["src"] == "a%20b%23%3F.png"
    assert image["alt"].startswith(READ_AS)


def test_the_pictures_of_a_page_are_found_again(tmp_path: Path):
    names = ["01.png", "a b#?&'\"é.png", "<img src=.png"]
    page(tmp_path, [PageEntry('<figure id="r1"><img src="x.png"', name, 'src="y.png"') for name in names])
    assert pictures_of(tmp_path / "index.html") == names


def test_another_page_is_none_of_ours(tmp_path: Path):
    path = tmp_path / "index.html"
    assert pictures_of(path) == []
    path.write_text('<title>holidays</title><figure id="r1"><img src="01.png"></figure>')
    assert pictures_of(path) == []
    path.write_bytes(b"\xff")
    assert pictures_of(path) == []


def test_a_folder_that_cannot_be_is_a_sentence(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written there"):
        write_page(tmp_path / "file" / "index.html", "The worst", [])
