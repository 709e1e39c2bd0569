"""By how much each KPI of an exported file may differ from the reference's: defaults by precision, and what users give.

Where the numbers come from:

- fp32 computes what PyTorch does, to rounding. A rate may differ by 1e-3, a time by less than any frame's duration.
- fp16 and int8: a rate over all frames by what `edgeclf export` lets their accuracy fall unless told otherwise. A
  class's precision and recall are shares of a part of the frames, in which the same frames weigh more: twice (fp16) and
  five times (int8) as much. A time to prediction moves in steps of a frame: one (fp16) and two (int8). In int8, one
  gesture may be recognised that was not, or the other way round.
- An AUROC is the share of pairs of a frame that shows the class and one that does not in which the first has the larger
  probability. Pairs whose probabilities are the same but for rounding may come out in either order, which for a
  classifier that says the same of all frames is most of them; they are let through on top. What counts as rounding is
  1e-5 for a chain of float32, 2⁻¹⁰ for float16 (its 11 bits of mantissa), 2⁻⁷ for int8 (half of its steps are one of
  the two signs).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from edgeclf.evaluation import RecordingLogits
from edgeclf.utils_metrics import RecordingResult, calculate_time_to_prediction, compute_kpis
from edgeclf_export.accuracy import DataSet
from edgeclf_export.parity.statistics import SAME_SCORE
from edgeclf_runtime.contract import background_index
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.precision import Precision

FAMILIES = ("precision", "recall", "auroc", "t2p")
"""Names that `--tolerance` takes for the KPIs of all classes, and for the times to prediction (`t2p_…_ms`)."""


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
    kpis: Sequence[str],
    precision: Precision,
    reference: Sequence[RecordingLogits],
    labels: Sequence[str],
    delta_t: int | None,
    given: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Returns by how much each KPI may differ.

    Args:
        kpis: Names of the KPIs.
        precision: The exported file's.
        reference: What the reference gave.
        labels: Name of each output.
        delta_t: Duration of a frame in µs; None where frames have no fixed one.
        given: What the user wants instead, by KPI or by one of `FAMILIES`; the KPI goes before its family.

    Raises:
        UsageError: Where a name or a value in `given` cannot be.
    """
    check_given(given or {}, kpis)
    chosen = DEFAULTS[precision]
    gestures = _gestures(reference, labels, delta_t)
    close = _close_pairs(reference, labels, chosen.same_score)
    missed = chosen.gestures / gestures if gestures else 0.0
    result = {}
    for name in kpis:
        family = family_of(name)
        if family == "t2p":
            tolerance = max(1.0, chosen.frames * (delta_t or 0) / 1000)
        elif family == "auroc":
            tolerance = chosen.rate + close[name]
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


def _close_pairs(reference: Sequence[RecordingLogits], labels: Sequence[str], same: float) -> dict[str, float]:
    """Returns for each AUROC the share of its pairs of frames whose probabilities differ by no more than `same`."""
    right = torch.cat([recording.labels for recording in reference]).numpy()
    scores = torch.cat([recording.logits for recording in reference]).double().softmax(1).numpy()
    shares = {}
    for k, label in enumerate(labels):
        showing, others = scores[right == k, k], np.sort(scores[(right >= 0) & (right != k), k])
        close = np.searchsorted(others, showing + same) - np.searchsorted(others, showing - same)
        shares[f"auroc_{label}"] = float(close.sum()) / max(showing.size * others.size, 1)
    return shares
