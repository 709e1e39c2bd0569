"""What an export format is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeclf_export.step_graph import StepGraph
from edgeclf_runtime.contract import Contract

Array = NDArray[np.float32]
Step = Callable[[Sequence[Array]], list[Array]]
"""Runs a written file once: the contract's inputs in order, to its outputs in order."""


class ExportFormat(ABC):
    """A format that a step graph can be written in.

    Attributes:
        name: What `--format` calls it.
        suffix: Of the file.
        summary: One line for the list of formats.
    """

    name: str
    suffix: str
    summary: str

    @abstractmethod
    def write(self, graph: StepGraph, contract: Contract, path: Path) -> Contract:
        """Writes the file and returns the contract that is inside it."""

    @abstractmethod
    def load(self, path: Path) -> tuple[Step, Contract]:
        """Loads a file that was written, as a program on a device would, and returns its step and its contract."""
