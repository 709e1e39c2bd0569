"""What a run of rounds comes to, as the tables show it: medians and quartiles."""

from __future__ import annotations

import statistics

import numpy as np


def by_round(found: list[list[float]]) -> list[float]:
    """Returns a candidate's figure for each round: the median of its processes."""
    return [statistics.median(values) for values in found]


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Returns the first quartile, the median and the third quartile."""
    low, middle, high = np.percentile(values, (25, 50, 75)).tolist()
    return low, middle, high


def shown(values: list[float], digits: int = 2, unit: str = "") -> str:
    """Returns the median and, in parentheses, the quartiles as a table shows them."""
    low, middle, high = (f"{value:.{digits}f}" for value in quartiles(values))
    return f"{middle}{unit} ({low} to {high})"
