"""Rounds of bursts in shuffled turns, and what they come to, as the tables show it: medians and quartiles."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeclf_runtime.benchmark.turns import Open, Turns
from edgeclf_runtime.errors import EdgeclfError


def interleaved(opens: Mapping[str, Open], rounds: int, processes: int) -> dict[str, list[list[Any]]]:
    """Returns what the bursts measured, by candidate, `[round][process]`; a first burst of each is left out.

    Args:
        opens: Loads each candidate; what it returns is called without arguments, for a burst each.
        rounds: Bursts of each process.
        processes: Processes of each candidate.

    Raises:
        EdgeclfError: Where a candidate cannot be measured.
    """
    found: dict[str, list[list[Any]]] = {name: [[None] * processes for _ in range(rounds)] for name in opens}
    with Turns(opens, processes) as turns:
        for name in opens:
            turns.ask(name)  # what the first pass pays for is not asked here
        for turn in range(rounds):
            for name, number, _, answer in turns.round({key: [()] for key in opens}):
                found[name][turn][number] = answer
        if turns.left_out:
            raise EdgeclfError(" ".join(f"{name}: {reason}" for name, reason in turns.left_out.items()))
    return found


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
