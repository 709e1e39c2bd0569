"""How far what a model gives is from what it should give, output by output, over a chain of steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.contract import PROBABILITIES
from edgeclf_runtime.precision import Tolerance


@dataclass(frozen=True)
class OutputDifference:
    """How one output differs from what it should be.

    Attributes:
        max_absolute: Largest absolute difference of an element; NaN where a value is not finite and should be.
        mean_absolute: Mean of the absolute differences.
        relative: Euclidean norm of the differences as a share of that of the right values.
    """

    max_absolute: float
    mean_absolute: float
    relative: float


@dataclass(frozen=True)
class Comparison:
    """What a comparison found; true where everything is within the tolerance.

    Attributes:
        steps: How many chained steps were compared.
        tolerance: What is let through.
        outputs: The difference of each output, by name.
        top1_agreement: Share of frames for which both name the same class; see `Tolerance`.
        broken: What else is wrong, whatever the tolerance, a clause each.
    """

    steps: int
    tolerance: Tolerance
    outputs: dict[str, OutputDifference]
    top1_agreement: float
    broken: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.outputs) and not self.problems

    @property
    def problems(self) -> list[str]:
        """What is not within the tolerance, a clause each; a comparison with NaN is not."""
        found = [
            f"{name} differs by up to {d.max_absolute:.2g}, where {self.tolerance.max_absolute:g} is let through"
            for name, d in self.outputs.items()
            if not d.max_absolute <= self.tolerance.max_absolute
        ]
        found += [
            f"{name} differs by {d.relative:.2%} of its size, where {self.tolerance.relative:.2%} is let through"
            for name, d in self.outputs.items()
            if not d.relative <= self.tolerance.relative
        ]
        if not self.top1_agreement >= self.tolerance.top1:
            found.append(
                f"the same class is named for {self.top1_agreement:.2%} of the frames, where "
                f"{self.tolerance.top1:.2%} is asked for"
            )
        return found + list(self.broken)

    def to_dict(self) -> dict[str, Any]:
        """Returns what a JSON document says of it."""
        return {
            "passed": bool(self),
            "steps": self.steps,
            "top1_agreement": self.top1_agreement,
            "tolerance": vars(self.tolerance),
            "outputs": {name: vars(difference) for name, difference in self.outputs.items()},
            "problems": self.problems,
        }


class Comparer:
    """Adds up differences, an output of a step at a time.

    Args:
        tolerance: What will be let through.
    """

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
        self._max: dict[str, float] = {}
        self._sums: dict[str, NDArray[np.float64]] = {}
        self._agreeing: list[bool] = []

    def add(self, name: str, found: NDArray[Any], right: NDArray[Any]) -> None:
        """Takes what a step gave for an output, and what it should have given, `[B, ...]` each."""
        found, right = found.astype(np.float64), right.astype(np.float64)
        if found.shape != right.shape:
            found = np.full_like(right, np.nan)
        difference = np.abs(found - right)
        # NumPy's maximum keeps NaN, whichever step it came in, so that the comparison fails.
        self._max[name] = float(np.maximum(self._max.get(name, 0.0), difference.max(initial=0.0)))
        sums = np.array([difference.sum(), difference.size, np.square(difference).sum(), np.square(right).sum()])
        self._sums[name] = self._sums.get(name, np.zeros(4)) + sums
        if name == PROBABILITIES:
            named = np.take_along_axis(right, found.argmax(axis=1)[:, None], axis=1)[:, 0]
            self._agreeing += (named >= right.max(axis=1) - self._tolerance.tie).tolist()

    def result(self, steps: int, broken: Sequence[str] = ()) -> Comparison:
        """Returns what was found over `steps` chained steps, and what else was wrong."""
        outputs = {}
        for name, (total, count, squares, size) in self._sums.items():
            relative = math.sqrt(squares / size) if size else (0.0 if squares == 0 else math.inf)
            outputs[name] = OutputDifference(self._max[name], float(total / max(count, 1)), relative)
        agreement = float(np.mean(self._agreeing)) if self._agreeing else 1.0
        return Comparison(steps, self._tolerance, outputs, agreement, tuple(broken))
