"""A page to leaf through pictures: one HTML file beside them that opens from disk and asks no network for anything."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

from edgeclf.page import escaped, write_document

_STYLE = """
body { max-width: 80rem } nav ol { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem .5rem }
nav a { display: block; padding: .1rem .6rem; border: 1px solid #ccc; border-radius: 1rem; text-decoration: none;
  color: inherit }
nav a[aria-current] { background: #1b4d89; border-color: #1b4d89; color: white }
figure { margin: 1rem 0 2.5rem } img { width: auto; max-width: 100% }
.leafing figure { display: none } .leafing figure.shown { display: block }
.steps { display: none } .leafing .steps { display: flex; gap: 1rem }
button { font: inherit; padding: .2rem .8rem }
"""

# Without scripts all pictures stand one below the other, and the links jump to them.
_SCRIPT = """
const figures = [...document.querySelectorAll("figure")], links = [...document.querySelectorAll("nav a")];
const at = () => Math.max(0, figures.findIndex(figure => "#" + figure.id === location.hash));
function show() {
  const current = at();
  figures.forEach((figure, i) => figure.classList.toggle("shown", i === current));
  links.forEach((link, i) => i === current ? link.setAttribute("aria-current", "true")
                                           : link.removeAttribute("aria-current"));
}
function step(by) {
  const next = (at() + by + figures.length) % figures.length;
  history.replaceState(null, "", "#" + figures[next].id);
  show();
}
document.body.classList.add("leafing");
document.getElementById("back").onclick = () => step(-1);
document.getElementById("on").onclick = () => step(1);
addEventListener("keydown", event => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (by) { step(by); event.preventDefault(); }
});
links.forEach((link, i) => link.onclick = event => { event.preventDefault(); step(i - at()); });
addEventListener("hashchange", show);
show();
"""

_TITLE = "edgeclf: "


class PageEntry(NamedTuple):
    """One picture of a page.

    Attributes:
        name: What it shows; stands in the list of links.
        picture: File name of the picture, in the folder of the page.
        text: What is said below it.
    """

    name: str
    picture: str
    text: str


def write_page(path: Path, title: str, entries: Sequence[PageEntry]) -> None:
    """Writes a page that shows one picture at a time; arrow keys, buttons and links go to another.

    Args:
        path: The `.html` file, in the folder of the pictures.
        title: Its heading.
        entries: The pictures.

    Raises:
        UsageError: Where nothing can be written there.
    """
    links = "".join(f'<li><a href="#r{i}">{escaped(entry.name)}</a></li>' for i, entry in enumerate(entries, 1))
    figures = "".join(
        f'<figure id="r{i}"><img src="{html.escape(quote(entry.picture))}" alt="{escaped(entry.name)}: event frames '
        f'over time, above its labels and predictions"><figcaption><b>{escaped(entry.name)}</b>: '
        f"{escaped(entry.text)}</figcaption></figure>\n"
        for i, entry in enumerate(entries, 1)
    )
    body = (
        f"<h1>{escaped(title)}</h1><nav><ol>{links}</ol></nav>\n"
        '<p class="steps"><button id="back">← back</button><button id="on">on →</button></p>\n'
        f"<main>{figures}</main><script>{_SCRIPT}</script>"
    )
    write_document(path, f"{_TITLE}{title}", body, _STYLE)


def pictures_of(path: Path) -> list[str]:
    """Returns the file names of the pictures that a page of `write_page` shows; none where there is no such page.

    Args:
        path: The `.html` file.
    """
    try:
        page = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    if f"<title>{_TITLE}" not in page:
        return []
    return [unquote(html.unescape(name)) for name in re.findall(r'<figure id="r\d+"><img src="([^"]*)"', page)]
