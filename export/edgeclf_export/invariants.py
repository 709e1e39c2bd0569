"""What holds of every step graph to rounding, in whatever precision: its streams know nothing of each other.

int8 may be so far from PyTorch that a comparison overlooks a stream that is not reset, or that leaks into the next.
Here a file is compared with itself, so that nothing but its own rounding is let through.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeclf_runtime.contract import EVENTS, Contract
from edgeclf_runtime.golden import Array, ChainedStep, Step

_TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "int8": 1e-3}
"""Largest difference as a share of the output's largest value: one step's rounding, which may depend on the batch."""


def broken_invariants(step: Step, contract: Contract, frames: Sequence[Array]) -> list[str]:
    """Runs a file on the same streams in several ways; returns what it does that no step graph may, a clause each.

    Args:
        step: The loaded file.
        contract: What is inside it.
        frames: What goes into some chained steps: event frames of some streams, `[B, C, H, W]`, or one stream's events.
    """
    problems = []
    batch = 1 if contract.takes == EVENTS else len(frames[0])

    def chain(inputs: Sequence[Array], streams: int) -> tuple[ChainedStep, list[Sequence[Array]]]:
        chained = ChainedStep(step, contract, streams)
        outputs = [chained(value, np.full(streams, float(k > 0), np.float32)) for k, value in enumerate(inputs)]
        return chained, [[np.array(value) for value in values] for values in outputs]

    whole, right = chain(frames, batch)
    if contract.state:
        again = whole(frames[0], np.zeros(batch, np.float32))
        problems += _differences(again, right[0], contract, "where a stream starts anew, its old state still counts in")
    if batch > 1:
        turned = [np.roll(value, 1, axis=0) for value in frames]
        _, found = chain(turned, batch)
        moved = [[np.roll(value, 1, axis=0) for value in values] for values in right]
        problems += _differences(found[-1], moved[-1], contract, "streams in another order give other values of")
        if contract.batch is None:
            _, alone = chain([value[:1] for value in frames], 1)
            first = [value[:1] for value in right[-1]]
            problems += _differences(
                alone[-1], first, contract, "a stream alone gives other values than among others of"
            )
    return problems


def _differences(found: Sequence[Array], right: Sequence[Array], contract: Contract, what: str) -> list[str]:
    """Returns a clause, where one of the outputs differs, that names them."""
    tolerance = _TOLERANCE[contract.precision]
    names = [
        name
        for name, value, expected in zip(contract.output_names, found, right, strict=True)
        if value.shape != expected.shape
        or not np.abs(value.astype(np.float64) - expected).max() <= tolerance * max(1e-3, np.abs(expected).max())
    ]
    return [f"{what} {', '.join(names)}"] if names else []
