"""By how much each KPI of an exported file may differ from the reference's: defaults by precision, and what users give.

Where the numbers come from:

- fp32 computes what PyTorch does, to rounding. A rate may differ by 1e-3, a time by less than any frame's duration.
- fp16 and int8: a rate over all frames by what `edgeclf export` lets their accuracy fall unless told otherwise. A
  class's precision and recall are shares of a part of the frames, in which the same frames weigh more: twice (fp16) and
  five times (int8) as much. A time to prediction moves in steps of a frame: one (fp16) and two (int8). In int8, one
  gesture may be recognised that was not, or the other way round.
- An AUROC is the share of pairs of a frame that shows the class and one that does not in which the first has the larger
  probability. Two frames whose probabilities are the same but for rounding may come out in either order. Where an AUROC
  differs by more than a rate may, the share of such pairs is let through on top: those whose order really differs
  between the sides, and whose probabilities are as good as the same on both. What counts as rounding is 1e-5 for a
  chain of float32, 2⁻¹⁰ for float16 (its 11 bits of mantissa), 2⁻⁷ for int8 (half of its steps are one of the two
  signs). A confident classifier gives most frames a probability that is as good as 0, and so might pass whatever it
  makes of them: no more than a share of 0.05 is let through.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from edgeclf.evaluation import RecordingLogits
from edgeclf.utils_metrics import RecordingResult, calculate_time_to_prediction, compute_kpis
from edgeclf_export.accuracy import DataSet
from edgeclf_export.parity.report import Side
from edgeclf_export.parity.statistics import SAME_SCORE
from edgeclf_runtime.contract import background_index
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.precision import Precision

FAMILIES = ("precision", "recall", "auroc", "t2p")
"""Names that `--tolerance` takes for the KPIs of all classes, and for the times to prediction (`t2p_…_ms`)."""

MOST_FLIPPED = 0.05
"""Share of an AUROC's pairs that may be in another order by rounding."""

_PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Defaults:
    """What is let through in a precision.

    Attributes:
        rate: Difference of a KPI between 0 and 1 that is of all frames or all gestures.
        of_class: Difference of a class's precision and recall.
        frames: Difference of a time, in frames; 0: 1 ms.
        gestures: Difference of a number of gestures.
        same_score: Probabilities that differ by less are told apart by rounding alone.
    """

    rate: float
    of_class: float
    frames: int
    gestures: int
    same_score: float


DEFAULTS: Mapping[Precision, Defaults] = {
    "fp32": Defaults(1e-3, 1e-3, frames=0, gestures=0, same_score=SAME_SCORE),
    "fp16": Defaults(DataSet.max_accuracy_drop, 2 * DataSet.max_accuracy_drop, frames=1, gestures=0, same_score=2**-10),
    "int8": Defaults(DataSet.max_accuracy_drop, 5 * DataSet.max_accuracy_drop, frames=2, gestures=1, same_score=2**-7),
}


def tolerances(
    reference: Side,
    exported: Side,
    labels: Sequence[str],
    delta_t: int | None,
    precision: Precision,
    given: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Returns by how much each KPI may differ, by name.

    Args:
        reference: The reference.
        exported: The exported file, on the same recordings in the same order.
        labels: Name of each output.
        delta_t: Duration of a frame in µs; None where frames have no fixed one.
        precision: The exported file's.
        given: What the user wants instead, by KPI or by one of `FAMILIES`; the KPI goes before its family.

    Raises:
        UsageError: Where a name or a value in `given` cannot be.
    """
    kpis = tuple(reference.kpis)
    check_given(given or {}, kpis)
    chosen = DEFAULTS[precision]
    gestures = _gestures(reference.recordings, labels, delta_t)
    missed = chosen.gestures / gestures if gestures else 0.0
    result = {}
    for name in kpis:
        family = family_of(name)
        if family == "t2p":
            tolerance = max(1.0, chosen.frames * (delta_t or 0) / 1000)
        elif family == "auroc":
            tolerance = chosen.rate
            if abs(exported.kpis[name] - reference.kpis[name]) > tolerance:
                output = labels.index(name.removeprefix("auroc_"))
                tolerance += flipped_by_rounding(reference.recordings, exported.recordings, output, chosen.same_score)
        elif family is not None:
            tolerance = chosen.of_class
        elif name == "t2p_never_recognised":
            tolerance = float(chosen.gestures)
        else:
            tolerance = max(chosen.rate, missed if name == "t2p_never_recognised_rate" else 0.0)
        result[name] = tolerance
    wanted = given or {}
    return {name: wanted.get(name, wanted.get(family_of(name) or name, value)) for name, value in result.items()}


def family_of(kpi: str) -> str | None:
    """Returns which of `FAMILIES` a KPI belongs to.

    Example:
        >>> family_of("precision_rock"), family_of("t2p_std_ms"), family_of("accuracy")
        ('precision', 't2p', None)
    """
    family, _, rest = kpi.partition("_")
    if family not in FAMILIES or not rest or (family == "t2p" and not kpi.endswith("_ms")):
        return None
    return family


def kpi_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of a classifier's KPIs, whatever it is run on."""
    one, even = torch.zeros(1, dtype=torch.int64), torch.full((1, len(labels)), 1 / len(labels))
    return tuple(compute_kpis([RecordingResult("", one, one, even)], labels, None))


def check_given(given: Mapping[str, float], kpis: Sequence[str]) -> None:
    """Raises a UsageError where a tolerance is for no KPI, or is no number of at least 0."""
    for name, value in given.items():
        if name not in kpis and name not in FAMILIES:
            raise UsageError(
                f"There is no KPI {name!r} to give a tolerance; there are {', '.join(kpis)}, and {', '.join(FAMILIES)} "
                "for all of a kind."
            )
        if math.isnan(value) or value < 0:
            raise UsageError(f"The tolerance of {name} is {value:g}, and must be a number of at least 0.")


def _gestures(reference: Sequence[RecordingLogits], labels: Sequence[str], delta_t: int | None) -> int:
    predictions = [recording.logits.argmax(1) for recording in reference]
    right = [recording.labels for recording in reference]
    return calculate_time_to_prediction(predictions, right, delta_t, background_index(labels)).gestures


def flipped_by_rounding(
    reference: Sequence[RecordingLogits], exported: Sequence[RecordingLogits], output: int, same: float
) -> float:
    """Returns the share of an AUROC's pairs that are in another order on the other side by rounding alone.

    A pair with the same probability twice is half in order, so one that is in order on the other side counts half.

    Args:
        reference: What the reference gave.
        exported: What the exported file gave for the same recordings, in the same order.
        output: Whose AUROC.
        same: Probabilities that differ by no more are told apart by rounding alone; on both sides.

    Returns:
        At most `MOST_FLIPPED`.
    """
    right = torch.cat([recording.labels for recording in reference]).numpy()
    scores = np.stack([_scores(side, output) for side in (reference, exported)])
    showing, others = scores[:, right == output], scores[:, (right >= 0) & (right != output)]
    pairs: int = showing.shape[1] * others.shape[1]
    at_once = max(1, _PAIRS_AT_ONCE // max(others.shape[1], 1))
    flipped = 0.0
    for begin in range(0, showing.shape[1], at_once):
        ahead = showing[:, begin : begin + at_once, None] - others[:, None]
        order = np.sign(ahead[:, (np.abs(ahead) <= same).all(axis=0)])
        flipped += float(np.abs(order[0] - order[1]).sum()) / 2
        if flipped >= MOST_FLIPPED * pairs:  # what is left cannot change it
            return MOST_FLIPPED
    return flipped / pairs if pairs else 0.0


def _scores(recordings: Sequence[RecordingLogits], output: int) -> NDArray[np.float64]:
    """Returns the probabilities of an output as AUROC takes them: float32's ties are ties, none is over 1."""
    probabilities = torch.cat([recording.logits.softmax(1)[:, output] for recording in recordings])
    scores: NDArray[np.float64] = probabilities.clamp(0, 1).double().numpy()
    return scores
