"""The pictures on the page of `edgeclf bench`: latencies, ratios, the budget of a frame. No torch is imported."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from edgeclf.figures import Colour, new_figure, short
from edgeclf_runtime.benchmark.results import Latencies, Ratio, Stages

_WIDTH = 4.8  # two stand beside each other on a page, and letters of size 9 can be read on a phone
_SMALL = 9
_BIN = 1.04
"""Upper over lower border of a bar of a histogram."""

_STAGE_COLOURS = ("#88ccee", "#ddcc77", "#4477aa", "#cc6677")


def draw_histograms(latencies: Mapping[str, Latencies], colours: Mapping[str, Colour]) -> Figure:
    """Draws the latencies of candidates over each other: the share of steps that took so long, on a logarithmic axis.

    Args:
        latencies: By candidate; at least one.
        colours: Of each candidate.
    """
    curves = {name: _Distribution(steps) for name, steps in latencies.items()}
    low = min(curve.edges[0] for curve in curves.values())
    high = max(curve.edges[-1] for curve in curves.values())
    edges = np.geomspace(low, high, 1 + min(max(math.ceil(math.log(high / low, _BIN)), 10), 200))
    figure, axes = _with_room(len(curves))
    for name, curve in curves.items():
        shares = 100 * np.diff(curve.share_until(edges))
        axes.stairs(shares, edges / 1000, color=colours[name], fill=True, alpha=0.12)
        axes.stairs(shares, edges / 1000, color=colours[name], linewidth=1.4, label=short(name, 24))
    axes.set(xscale="log", xlabel="time of a step in ms", ylabel="share of steps in %")
    axes.set_ylim(bottom=0)
    _count_plainly(axes.xaxis)
    return _with_legend(figure)


def draw_percentiles(latencies: Mapping[str, Latencies], colours: Mapping[str, Colour]) -> Figure:
    """Draws latency over percentile, up to the slowest step; each further nine takes as much room as the one before.

    Args:
        latencies: By candidate; at least one.
        colours: Of each candidate.
    """
    figure, axes = _with_room(len(latencies))
    for name, steps in latencies.items():
        nines = np.linspace(0, math.log10(max(steps.steps, 2)), 400)
        axes.plot(
            nines, _Distribution(steps).quantiles(1 - 10**-nines) / 1000, color=colours[name], label=short(name, 24)
        )
    most = math.log10(max(max(steps.steps for steps in latencies.values()), 2))
    shown = [q for q in (0, 50, 90, 99, 99.9, 99.99, 99.999) if -math.log10(1 - q / 100) <= most]
    axes.set_xticks([-math.log10(1 - q / 100) for q in shown], [f"{q:g}" for q in shown])
    axes.set(yscale="log", xlabel="percentile", ylabel="time of a step in ms", xlim=(0, most))
    _count_plainly(axes.yaxis)
    axes.grid(color="#e4e4e4")
    return _with_legend(figure)


def draw_ratios(ratios: Sequence[tuple[str, Ratio, Colour]], baseline: str) -> Figure:
    """Draws how many times as fast as the baseline candidates are, each with its confidence interval.

    Args:
        ratios: A row each: what to call it, the ratio, and a colour.
        baseline: Name of what they are against.
    """
    figure = new_figure(_WIDTH, 1.1 + 0.27 * len(ratios))
    axes = figure.subplots()
    for row, (_, ratio, colour) in enumerate(ratios):
        reach = [[max(ratio.median - ratio.low, 0)], [max(ratio.high - ratio.median, 0)]]
        axes.errorbar(ratio.median, row, xerr=reach, fmt="o", color=colour, markersize=5, capsize=3)
        axes.annotate(
            f"{ratio.median:.2f}", (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=_SMALL
        )
    axes.axvline(1, color="#777777", linestyle="--", linewidth=1)
    axes.set(xscale="log", xlabel=f"times as fast as {short(baseline)}", ylim=(len(ratios) - 0.5, -0.5))
    axes.set_yticks(range(len(ratios)), [short(name, 30) for name, _, _ in ratios], fontsize=_SMALL)
    _count_plainly(axes.xaxis)
    axes.grid(axis="x", color="#e4e4e4")
    return figure


def draw_budget(rows: Sequence[tuple[str, Stages]], of_delta_t: bool) -> Figure:
    """Draws how long the stages of a frame take, one after the other: the median, and below it the 99th percentile.

    Args:
        rows: What to call each, and its stages.
        of_delta_t: Whether the axis is a frame's whole time, in percent; else it ends where the longest bar does.
    """
    names = list(dict.fromkeys(name for _, stages in rows for name in stages.stages))
    figure = new_figure(_WIDTH, 1.4 + 0.5 * len(rows))
    axes = figure.subplots()
    for row, (_, stages) in enumerate(rows):
        unit = stages.delta_t / 100 if of_delta_t else 1000
        for offset, percentile, strength in ((-0.2, "p50_us", 1.0), (0.2, "p99_us", 0.55)):
            start = 0.0
            for name, colour in zip(names, cycle(_STAGE_COLOURS), strict=False):
                length = stages.stages.get(name, {}).get(percentile, 0.0) / unit
                label = name if (row, offset) == (0, -0.2) else None
                axes.barh(row + offset, length, 0.36, start, color=colour, alpha=strength, label=label)
                start += length
    if of_delta_t:
        axes.axvline(100, color="#222222", linestyle="--", linewidth=1)
    axes.set(xlabel=f"{'share of delta_t in %' if of_delta_t else 'ms'} (upper bar p50, lower p99)")
    axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=(0, None))
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=_SMALL)
    return _with_legend(figure)


class _Distribution:
    """Latencies between whose bins is interpolated; the empty bins at both ends are left out."""

    def __init__(self, latencies: Latencies) -> None:
        counts = np.asarray(latencies.counts, dtype=np.float64)
        filled = np.flatnonzero(counts)
        first, last = (int(filled[0]), int(filled[-1])) if filled.size else (0, counts.size - 1)
        self.edges: NDArray[np.float64] = np.asarray(latencies.edges_us, dtype=np.float64)[first : last + 2]
        until = np.append(0, np.cumsum(counts[first : last + 1]))
        self._shares = until / max(until[-1], 1)
        self._longest = latencies.max_us

    def share_until(self, us: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the share of steps that took no longer."""
        shares: NDArray[np.float64] = np.interp(np.log(us), np.log(self.edges), self._shares)
        return shares

    def quantiles(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns in µs what so large a share of the steps took at most."""
        return np.minimum(np.exp(np.interp(shares, self._shares, np.log(self.edges))), self._longest)


def _with_room(names: int) -> tuple[Figure, Axes]:
    """Returns a figure with one panel, and with room above it for a legend of so many names."""
    figure = new_figure(_WIDTH, 3.0 + 0.2 * math.ceil(names / 3))
    return figure, figure.subplots()


def _with_legend(figure: Figure) -> Figure:
    """Adds a legend above the panel, of as many columns as the longest name leaves room for."""
    longest = max(len(name) for name in figure.axes[0].get_legend_handles_labels()[1])
    figure.legend(
        loc="outside upper center",
        ncols=3 if longest <= 13 else 2 if longest <= 22 else 1,
        fontsize=_SMALL,
        frameon=False,
        handlelength=1.2,
        columnspacing=1,
    )
    return figure


def _count_plainly(axis: XAxis | YAxis) -> None:
    """Gives a logarithmic axis numbers as people write them, and enough of them however short it is."""
    low, high = axis.get_view_interval()
    middle, reach = math.sqrt(low * high), max(math.sqrt(high / low), 1.25)
    axis.axes.set(**{f"{axis.axis_name}lim": (middle / reach, middle * reach)})
    decades = 2 * math.log10(reach)
    digits = (1,) if decades > 2.5 else (1, 2, 5) if decades > 0.8 else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    axis.set_major_locator(LogLocator(subs=digits, numticks=20))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
