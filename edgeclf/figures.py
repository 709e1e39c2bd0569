"""What pictures share: figures that need no display, names that fit, colours of classes, saving."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from edgeclf_runtime.contract import BACKGROUND
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.files import as_text, written_whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

Colour: TypeAlias = tuple[float, float, float]
"""Red, green and blue, 0 to 1."""

DPI = 120
LEFT_OUT_COLOUR = "#ffffff"
_BACKGROUND_COLOUR = (0.79, 0.79, 0.79)


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure of a size in inches; no window, no display, nothing of pyplot's is touched."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finished(figure: Figure, path: str | Path | None) -> Figure:
    """Saves a figure where a path is given, and returns it.

    Args:
        figure: What to save.
        path: Image file; its suffix says which kind (.png, .svg, .pdf, …). None: nothing is written.

    Raises:
        UsageError: Where nothing can be written there, or the suffix is of no image that can be.
    """
    if path is None:
        return figure
    suffix = Path(path).suffix[1:].lower()
    known = figure.canvas.get_supported_filetypes()
    if suffix not in known:
        raise UsageError(f"{path}: give a picture's file name that ends in one of {', '.join(sorted(known))}.")
    with written_whole(path) as temporary:
        figure.savefig(temporary, format=suffix)
    return figure


def panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Returns a figure with `count` panels in a grid close to a square, rows filled one after another.

    Args:
        count: Number of panels.
        width: Width of one in inches.
        height: Height of one in inches.
    """
    columns = min(count, 4) if count <= 8 else 5
    rows = ceil(count / columns)
    figure = new_figure(columns * width, rows * height)
    return figure, [figure.add_subplot(rows, columns, 1 + i) for i in range(count)]


def short(name: str, length: int = 18) -> str:
    """Returns a name that fits: its middle left out where it is longer than `length`.

    Bytes of a file's name that are no UTF-8 become question marks.
    """
    name = as_text(name)
    if len(name) > length:
        head = (length - 1) // 2
        name = f"{name[:head]}…{name[-(length - 1 - head) :]}"
    return name.replace("$", r"\$")  # what stands between two of them would be set as a formula


def class_colours(labels: Sequence[str]) -> list[Colour]:
    """Returns a colour for each class; the background is grey, and no other class is."""
    colours = _palette("tab10", 10)
    if len(labels) > len(colours) + 1:
        colours = [colour for name in ("tab20", "tab20b", "tab20c") for colour in _palette(name, 20)]
    others = iter(colours * ceil(len(labels) / len(colours)))
    return [_BACKGROUND_COLOUR if label == BACKGROUND else next(others) for label in labels]


def _palette(name: str, size: int) -> list[Colour]:
    """Returns the colours of one of Matplotlib's lists, without the greys."""
    colours = [(float(r), float(g), float(b)) for r, g, b, _ in mpl.colormaps[name](range(size))]
    return [colour for colour in colours if max(colour) - min(colour) > 0.01]
