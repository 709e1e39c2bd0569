"""Is a written file still the classifier that was trained? Chained steps beside PyTorch, state by state."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from edgeclf.models import Classifier, mask_state
from edgeclf_export.formats import Array, Step
from edgeclf_runtime.contract import Contract

TOLERANCE = {"float32": 1e-4}
"""Largest absolute difference of a logit, a probability or a state element, by precision of the file."""

STEPS = 60
BATCHES = (1, 3)
_RESET_EVERY = 17


@dataclass(frozen=True)
class ValidationReport:
    """What comparing a file with PyTorch found; true where it passed.

    Attributes:
        steps: Chained steps at each batch size.
        tolerance: Largest absolute difference that is let through.
        max_difference: Largest absolute difference of each output, by name.
    """

    steps: int
    tolerance: float
    max_difference: dict[str, float]

    def __bool__(self) -> bool:
        return bool(self.max_difference) and all(d <= self.tolerance for d in self.max_difference.values())

    @property
    def worst(self) -> tuple[str, float]:
        """The output that differs most, and by how much; NaN counts as worst."""
        return max(self.max_difference.items(), key=lambda item: np.inf if np.isnan(item[1]) else item[1])


def validate(step: Step, contract: Contract, classifier: Classifier, steps: int = STEPS) -> ValidationReport:
    """Runs a written file beside PyTorch, each fed its own state back.

    Streams are reset now and then, one at a time and each at another step. The frames are sparse, as those of an event
    camera are. PyTorch computes in float64: a cell state grows by up to 1 a step, and PyTorch's own float32 rounding,
    which is no fault of the file, came to 0.8e-4 on a trained ConvRNN whose file was within 0.2e-4.

    Args:
        step: The loaded file.
        contract: What is inside it.
        classifier: The trained classifier, in evaluation mode; left as it is.
        steps: Chained steps at each batch size.
    """
    classifier = copy.deepcopy(classifier).double()
    worst = dict.fromkeys(contract.output_names, 0.0)
    for batch in BATCHES:
        state = classifier.initial_state(batch, *contract.frame_shape[1:])
        memory = [np.zeros((batch, *tensor.shape), np.float32) for tensor in contract.state]
        for frames, keep in _inputs(contract, batch, steps):
            feed = [frames, *([keep, *memory] if contract.state else [])]
            found = step(feed)
            with torch.inference_mode():
                logits, state = classifier.step(
                    torch.from_numpy(frames).double(), mask_state(state, torch.from_numpy(keep).double())
                )
            expected = [logits, logits.softmax(1), *(state[tensor.name] for tensor in contract.state)]
            for name, value, right in zip(contract.output_names, found, expected, strict=True):
                difference = float(np.abs(value - right.numpy()).max())
                # A comparison with NaN is false: keep it, so that the report fails.
                worst[name] = difference if not difference <= worst[name] else worst[name]
            memory = found[2:]
    return ValidationReport(steps, TOLERANCE[contract.precision], worst)


def _inputs(contract: Contract, batch: int, steps: int) -> Iterator[tuple[Array, Array]]:
    """Yields sparse event frames and `keep_memory`, the same ones for a batch size every time."""
    rng = np.random.default_rng(batch)
    for k in range(steps):
        active = rng.random((batch, *contract.frame_shape), np.float32) < 0.05
        frames = np.where(active, rng.random(active.shape, np.float32), np.float32(0))
        keep = np.array([float(k > 0 and (k + i) % _RESET_EVERY != 0) for i in range(batch)], np.float32)
        yield frames, keep
