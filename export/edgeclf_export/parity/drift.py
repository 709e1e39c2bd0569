"""How far the state of two classifiers that see the same recording comes apart, frame by frame.

This is a pass of its own: both go through a recording side by side, a frame at a time, while the KPIs and the logits of
a parity check are those of batches in PyTorch and of the runtime's bound memory. So a fault that only those have is not
seen in the drift, and the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from edgeclf.models import Classifier as TorchClassifier
from edgeclf_export.parity.report import Drift, DriftVerdict
from edgeclf_export.parity.tolerances import DEFAULTS
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.golden import Array, ChainedStep, Step
from edgeclf_runtime.precision import PRECISIONS, Precision

_GROWTH = 10  # times the error in the middle of a recording, over which an error late in it has grown
_SHORTEST = 20  # frames of a recording whose middle is not its start any more


class Lockstep:
    """The reference in eager PyTorch and an exported step, one frame after the other, each its own state fed back.

    Args:
        reference: The classifier in PyTorch, in evaluation mode.
        step: The loaded file.
        contract: What is inside it.
    """

    def __init__(self, reference: TorchClassifier, step: Step, contract: Contract) -> None:
        self._reference = reference
        self._exported = step
        self._contract = contract
        self._rows = contract.batch or 1
        self._errors: list[list[float]] = []

    @staticmethod
    def obstacle(reference: TorchClassifier, contract: Contract) -> str:
        """Returns why two states cannot be compared, as a clause; empty where both are the same tensors."""
        own = reference.state_spec(*contract.frame_shape[1:])
        if not own and not contract.state:
            return "the model has no state"
        if own != {tensor.name: tensor.shape for tensor in contract.state}:
            return "the two sides' states have other shapes"
        return ""

    def start(self) -> None:
        """Begins a recording: both states are zero."""
        self._state = self._reference.initial_state(1, *self._contract.frame_shape[1:])
        self._chained = ChainedStep(self._exported, self._contract, self._rows)
        self._errors.append([])

    def step(self, reference_frame: Array, exported_frame: Array) -> None:
        """Moves both on by a frame, `[C, H, W]` each, the one that its own side made."""
        with torch.inference_mode():
            _, self._state = self._reference.step(torch.from_numpy(reference_frame)[None], self._state)
        keep = np.full(self._rows, float(bool(self._errors[-1])), np.float32)
        outputs = self._chained(np.repeat(exported_frame[None], self._rows, axis=0), keep)
        names = [tensor.name for tensor in self._contract.state]
        self._errors[-1].append(
            relative_error([self._state[name][0].numpy() for name in names], [value[0] for value in outputs[2:]])
        )

    def result(self) -> Drift:
        """Returns the drift over the recordings until now; there must have been one."""
        return drift_of(self._errors, self._contract.precision)


def relative_error(right: Sequence[Array], found: Sequence[Array]) -> float:
    """Returns the Euclidean norm of the difference of two states as a share of the norm of the right one.

    0 where both are zero, as the state of an empty frame may be; infinite where only the right one is, or where one
    holds what is no finite number.
    """
    of_difference = of_right = 0.0
    for a, b in zip(right, found, strict=True):
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            difference = b.astype(np.float64) - a
        of_difference += float(np.square(difference).sum())
        of_right += float(np.square(a.astype(np.float64)).sum())
    if of_difference == 0:
        return 0.0
    share = np.sqrt(of_difference) / np.sqrt(of_right) if of_right else np.inf
    return float(share) if np.isfinite(share) else float(np.inf)


def drift_of(errors: Sequence[Sequence[float]], precision: Precision) -> Drift:
    """Returns what the errors of some recordings come to, frame by frame.

    The states are apart where the error late in a recording is larger than `PRECISIONS` lets that of an exported output
    be, as it is at once where no state is fed back. The error grows where late it is over ten times what it is in the
    middle, so that the first frames, in which a state fills up from zero, count for nothing. What is below rounding, as
    the KPIs' tolerances take it, and recordings of less than 20 frames say nothing of growth.

    Args:
        errors: Of each recording, a number a frame; one recording or more, a frame or more each.
        precision: The exported file's.
    """
    longest = max(map(len, errors))
    of_frame = [np.array([one[k] for one in errors if len(one) > k]) for k in range(longest)]
    recordings: NDArray[np.int64] = np.array(list(map(len, of_frame)), np.int64)
    median: NDArray[np.float64] = np.array([np.median(values) for values in of_frame])
    common = int((2 * recordings >= len(errors)).sum())  # frames that at least half of the recordings have
    tenth = max(1, common // 10)
    early, late = _median(median[1 : 1 + tenth] if common > 1 else median), _median(median[common - tenth : common])
    begin = (common - tenth) // 2
    middle = _median(median[begin : begin + tenth]) if common >= _SHORTEST else late
    return Drift(
        median=median,
        largest=np.array([values.max() for values in of_frame]),
        recordings=recordings,
        early=early,
        late=late,
        verdict=_verdict(middle, late, precision),
    )


def _verdict(middle: float, late: float, precision: Precision) -> DriftVerdict:
    if not late <= PRECISIONS[precision].relative:  # also where it is no number
        return "apart"
    return "grows" if late > max(_GROWTH * middle, DEFAULTS[precision].same_score) else "even"


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values))
