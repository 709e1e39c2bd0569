"""The precisions that a model is exported in, and by how much each may differ from PyTorch: one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class Tolerance:
    """By how much a file's outputs may differ from PyTorch's over a chain of steps.

    Attributes:
        max_absolute: Largest difference of a logit, a probability or a state element.
        relative: Largest norm of an output's difference, as a share of the norm of the output itself. It sees what an
            absolute bound overlooks where a model's state is small.
        top1: Smallest share of frames for which both name the same class.
        tie: Classes whose probabilities differ by less than this may be named one for the other.
    """

    max_absolute: float
    relative: float
    top1: float
    tie: float


PRECISIONS: Mapping[Precision, Tolerance] = {
    "fp32": Tolerance(max_absolute=1e-4, relative=1e-3, top1=1.0, tie=1e-4),
    "fp16": Tolerance(max_absolute=0.25, relative=0.01, top1=0.98, tie=0.01),
    "int8": Tolerance(max_absolute=10.0, relative=0.3, top1=0.9, tie=0.05),
}
