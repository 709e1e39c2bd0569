"""Measuring several candidates in one run, each in processes of its own, their bursts in shuffled turns.

Thread pools in one process slow each other down, whole processes can be slow, and a shared machine drifts: so each
candidate has several processes, and a round is a burst of every process of every candidate, in an order that is
shuffled anew.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

Burst = Callable[[], Any]
"""Runs a candidate for some frames and returns what was measured."""

Open = Callable[[], Burst]
"""Loads a candidate, in the process that measures it; must be picklable (`functools.partial` of a function)."""


def interleaved(candidates: Mapping[str, Open], rounds: int, processes: int) -> dict[str, list[list[Any]]]:
    """Returns what the bursts measured, by candidate, `[round][process]`; a first burst of each is left out."""
    context = multiprocessing.get_context("spawn")
    servers: list[tuple[str, int, Connection, Any]] = []
    found: dict[str, list[list[Any]]] = {name: [[None] * processes for _ in range(rounds)] for name in candidates}
    try:
        for name, opens in candidates.items():
            for number in range(processes):
                here, there = context.Pipe()
                process = context.Process(target=_serve, args=(there, opens), daemon=True)
                process.start()
                servers.append((name, number, here, process))
                there.close()  # so that the end of the process ends `recv` here
                here.recv()
        order = random.Random(0)
        for turn in range(rounds):
            order.shuffle(servers)
            for name, number, connection, _ in servers:
                connection.send("burst")
                found[name][turn][number] = connection.recv()
                time.sleep(0.02)  # its threads go to sleep before the next one begins
    finally:
        for _, _, connection, process in servers:
            with contextlib.suppress(OSError):  # it is gone already
                connection.send(None)
            process.join()
            connection.close()
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


def _serve(connection: Connection, opens: Open) -> None:
    """Loads a candidate and runs a burst for every message, until the message is None."""
    burst = opens()
    burst()  # what the first pass pays for is not asked here
    connection.send(None)
    while connection.recv() is not None:
        connection.send(burst())
