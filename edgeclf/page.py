"""A page for people: one HTML file that holds its pictures, reads well on a phone, and asks no network for anything."""

from __future__ import annotations

import base64
import html
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeclf_runtime.files import as_text, written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CSS_DPI = 96
"""Pixels of a page in an inch, whatever the screen."""

_LARGEST_DRAWING = 300_000
"""Bytes of a drawing over which it is put in as pixels instead."""

_STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 64rem; padding: 0 1rem; color: #1b1b1b;
  background: white; overflow-wrap: anywhere; -webkit-text-size-adjust: 100% }
h1 { font-size: 1.6rem; line-height: 1.25 } h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem } p { max-width: 46rem }
table { border-collapse: collapse } th, td { padding: .25rem .6rem; vertical-align: top }
.facts { width: 100%; table-layout: fixed }
.facts td:first-child { color: #555; padding-left: 0; width: 30% }
@media (max-width: 40rem) { .wide { font-size: .9rem } }
@media (min-width: 48rem) { .facts td:first-child { width: 11rem } }
.wide { overflow-x: auto; margin: .8rem 0; font-variant-numeric: tabular-nums }
.wide th, .wide td { text-align: right; white-space: nowrap; background: white }
.wide thead th { border-bottom: 1px solid #999; vertical-align: bottom }
.wide tbody tr:nth-child(even) td { background: #f4f4f4 }
.wide :is(th, td):first-child { text-align: left; position: sticky; left: 0; white-space: normal;
  min-width: min(11rem, 28vw) }
.passed { color: #17692b } .failed { color: #a31515; font-weight: bold }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: .8rem 0 }
figure { margin: 0; max-width: 100% } figcaption { color: #444; font-size: .9rem } img { width: 100%; height: auto }
"""


class Page:
    """A page, put together from top to bottom.

    Args:
        title: Its heading.
        passed: Whether what it reports passed, which the heading says; None where there is nothing to pass.
    """

    def __init__(self, title: str, passed: bool | None = None) -> None:
        verdict = "" if passed is None else ("passed" if passed else "failed")
        self._title = title + (f": {verdict}" if verdict else "")
        mark = f': <span class="{verdict}">{verdict}</span>' if verdict else ""
        self._parts = [f"<h1>{escaped(title)}{mark}</h1>"]

    def heading(self, text: str, note: str = "") -> None:
        """Adds a heading, and a paragraph under it where there is something to say."""
        self._parts.append(f"<h2>{escaped(text)}</h2>" + (f"<p>{escaped(note)}</p>" if note else ""))

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Adds a list of names and values."""
        cells = "".join(f"<tr><td>{escaped(name)}</td><td>{escaped(value)}</td></tr>" for name, value in rows)
        self._parts.append(f'<table class="facts">{cells}</table>')

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Adds a table whose first column stays in sight where the rest scrolls sideways, as on a narrow screen.

        Cells `passed` and `failed` are coloured.
        """
        head = "".join(f"<th>{escaped(heading)}</th>" for heading in headings)
        body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
        self._parts.append(
            f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    def figures(self, *figures: tuple[Figure, str]) -> None:
        """Adds pictures with their captions, in their own size but no wider than the screen, beside each other."""
        shown = "".join(_shown(figure, caption) for figure, caption in figures)
        self._parts.append(f'<div class="figures">{shown}</div>')

    def write(self, path: Path) -> None:
        """Writes the page.

        Args:
            path: The `.html` file; needs nothing beside it.

        Raises:
            UsageError: Where nothing can be written there.
        """
        write_document(path, self._title, "\n".join(self._parts))


def write_document(path: Path, title: str, body: str, style: str = "") -> None:
    """Writes an HTML file whose body is there already, in the style of all pages.

    Args:
        path: The `.html` file.
        title: What the browser calls it.
        body: What stands in `<body>`.
        style: CSS of its own, which goes before the common one.

    Raises:
        UsageError: Where nothing can be written there.
    """
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{_STYLE}{style}</style></head>\n<body>{body}</body></html>\n"
    )
    with written_whole(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def escaped(text: str) -> str:
    """Returns text as HTML; bytes of a file's name that are no UTF-8 become question marks."""
    return html.escape(as_text(text))


def _cell(text: str) -> str:
    mark = f' class="{text}"' if text in ("passed", "failed") else ""
    return f"<td{mark}>{escaped(text).replace('_', '_<wbr>')}</td>"  # where a name may break on a narrow screen


def _shown(figure: Figure, caption: str) -> str:
    return (
        f'<figure style="width: {figure.get_figwidth() * _CSS_DPI:.0f}px"><img alt="{escaped(caption)}" '
        f'src="{_data_url(figure)}"><figcaption>{escaped(caption)}</figcaption></figure>'
    )


def _data_url(figure: Figure) -> str:
    """Returns a figure inside the page: as a drawing, sharp at any size, or as pixels where it would be a huge one."""
    data, kind = _saved(figure, "svg", metadata={"Date": None}), "svg+xml"
    if len(data) > _LARGEST_DRAWING:
        data, kind = _saved(figure, "png", dpi=2 * _CSS_DPI), "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _saved(figure: Figure, kind: str, **options: Any) -> bytes:
    import matplotlib as mpl

    buffer = io.BytesIO()
    # Letters as outlines look the same on every machine; a salt of our own makes the same drawing the same bytes.
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": "edgeclf"}), warnings.catch_warnings():
        # A letter that Matplotlib's font lacks is an empty box in the picture; the caption and the tables have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()
