"""What a parity check found: KPIs beside each other, and where, when and how the two sides part company."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeclf.evaluation import RecordingLogits
from edgeclf.utils_metrics import compute_kpis
from edgeclf_runtime.precision import Precision

DriftVerdict = Literal["even", "grows", "apart"]

_NAMED = 3  # KPIs that `repr` of a report names
_LONGEST = 239  # characters of it; pytest cuts longer ones in the middle
_SHORT = 8  # characters to which a KPI's name may be cut there


@dataclass(frozen=True)
class KpiComparison:
    """One KPI on both sides; NaN (undefined on this split) equals NaN.

    Attributes:
        reference: The reference's.
        exported: The exported file's.
        tolerance: Largest difference that is let through.
    """

    reference: float
    exported: float
    tolerance: float

    @property
    def difference(self) -> float:
        """Exported minus reference; 0 where both are undefined."""
        if math.isnan(self.reference) and math.isnan(self.exported):
            return 0.0
        return self.exported - self.reference

    @property
    def difference_text(self) -> str:
        """The difference for people to read."""
        return f"{self.difference:+.1e}" if self.difference else "0"

    @property
    def change_text(self) -> str:
        """Both sides' values for people to read; the difference where those look the same."""
        before, after = f"{self.reference:.4g}", f"{self.exported:.4g}"
        return f"{before} → {after}" if before != after else f"{before} {self.difference_text}"

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance."""
        return abs(self.difference) <= self.tolerance

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of `parity --json`."""
        return asdict(self) | {"difference": self.difference, "passed": self.passed}


@dataclass(frozen=True)
class Parting:
    """A frame on which the two sides differ.

    Attributes:
        recording: The recording's name.
        frame: Which of its frames, from 0 on.
        t_us: The frame's end, in the recording's own time; None where nobody said.
        reference_label: What the reference names.
        exported_label: What the exported file names.
        reference: The reference's probabilities, by label.
        exported: The exported file's.
    """

    recording: str
    frame: int
    t_us: int | None
    reference_label: str
    exported_label: str
    reference: Mapping[str, float]
    exported: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of `parity --json`."""
        return vars(self) | {"reference": dict(self.reference), "exported": dict(self.exported)}


@dataclass(frozen=True)
class McNemar:
    """McNemar's test, exact and two-sided, of what one side alone names rightly: labelled frames, or recordings.

    A small p-value says that one side is right more often than chance would have it. The test takes its cases for
    independent, which recordings are, and consecutive frames of one recording are not.

    Attributes:
        only_reference_right: How many the reference alone names rightly.
        only_exported_right: How many the exported file alone does.
        p_value: How probable a split at least as uneven is where both are as good; 1 where there is none to split.
    """

    only_reference_right: int
    only_exported_right: int
    p_value: float


@dataclass(frozen=True)
class Drift:
    """How far the two sides' state is apart, frame by frame from a recording's start: does an error grow with time?

    Each frame's error is the Euclidean norm of the difference over that of the reference's state, all tensors together;
    infinite where a state holds what is no number. It is measured on a pass of its own, in which both sides go through
    a recording a frame at a time: the KPIs and the logits of the report are those of another pass.

    Attributes:
        median: Over the recordings that are so long, `[N]`, N the frames of the longest.
        largest: Over the same.
        recordings: How many are so long, `[N]`.
        early: The median of the first tenth of frames (at least 1), after the first.
        late: The median of the last tenth of frames that at least half of the recordings have.
        verdict: `apart` where the late error is infinite, or more than the file's precision explains; `grows` where it
            is over ten times that in the middle of a recording and no mere rounding; else `even`. See `drift_of`.
    """

    median: NDArray[np.float64]
    largest: NDArray[np.float64]
    recordings: NDArray[np.int64]
    early: float
    late: float
    verdict: DriftVerdict = "even"

    @property
    def grows(self) -> bool:
        """Whether the error goes on growing after a recording's start; see `verdict`."""
        return self.verdict == "grows"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields of `parity --json`."""
        return {
            "median": self.median.tolist(),
            "largest": self.largest.tolist(),
            "recordings": self.recordings.tolist(),
            "early": self.early,
            "late": self.late,
            "grows": self.grows,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Side:
    """One side of a parity check.

    Attributes:
        name: What people call it, e.g. `PyTorch` or `gestures.int8.onnx, cpu`.
        recordings: What it gave, a recording each, both sides in the same order.
        kpis: Its KPIs by name.
    """

    name: str
    recordings: Sequence[RecordingLogits]
    kpis: Mapping[str, float]

    @classmethod
    def of(cls, name: str, recordings: Sequence[RecordingLogits], labels: Sequence[str], delta_t: int | None) -> Side:
        """Returns a side with the KPIs of what it gave; see `compute_kpis`."""
        return cls(name, recordings, compute_kpis([recording.result() for recording in recordings], labels, delta_t))


@dataclass(frozen=True)
class ParityReport:
    """What the comparison found; true where everything passed.

    Attributes:
        reference: The reference.
        exported: The exported file.
        labels: Name of each output.
        delta_t: Duration of a frame in µs; None where frames have no fixed one.
        frames: Frames that both sides were run on.
        disagreements: Frames for which they name different classes.
        ties: Those of them where the reference itself is undecided: it gives both classes the same but for rounding.
        max_abs_logit_difference: Largest difference of a logit.
        kpis: The comparison of each KPI, by name.
        first_parting: The first frame of the first recording on which they name different classes; None where there is
            none.
        largest_parting: The frame on which a probability differs most.
        mcnemar: The test of labelled frames.
        drift: Of the state; None where it was not measured.
        precision: The exported file's, by which tolerances were chosen that nobody gave.
        no_drift: Why there is no drift, as a clause; empty where there is.
        recordings_mcnemar: The test of recordings, each by its majority vote, as `recording_accuracy` takes it.
        problems: Why it fails besides KPIs, a clause each.
    """

    reference: Side
    exported: Side
    labels: tuple[str, ...]
    delta_t: int | None
    frames: int
    disagreements: int
    ties: int
    max_abs_logit_difference: float
    kpis: Mapping[str, KpiComparison]
    first_parting: Parting | None
    largest_parting: Parting
    mcnemar: McNemar
    drift: Drift | None
    precision: Precision = "fp32"
    no_drift: str = ""
    recordings_mcnemar: McNemar = McNemar(0, 0, 1.0)
    problems: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.kpis) and not self.failed and not self.problems

    def __repr__(self) -> str:
        """Returns what a failed `assert` shall say: which KPIs failed, from what to what, and what else is wrong."""
        begin = f"<ParityReport {'passed' if self else 'FAILED'}: "
        end = f"same class {self.top1_agreement:.2%} of {self.frames} frames>"
        names = self.failed[:_NAMED]
        changes = [f" {self.kpis[name].change_text} (±{self.kpis[name].tolerance:.3g})" for name in names]
        more = [f"{len(self.failed) - _NAMED} more"] if len(self.failed) > _NAMED else []
        without_names = begin + "".join(f"{what}, " for what in (*self.problems, *changes, *more)) + end
        room = max(_SHORT, (_LONGEST - len(without_names)) // max(len(names), 1))
        named = [_cut(name, room) + change for name, change in zip(names, changes, strict=True)]
        said = ", ".join((*self.problems, *named, *more))
        return begin + (f"{said}; " if said else "") + end

    @property
    def failed(self) -> list[str]:
        """Names of the KPIs that differ beyond their tolerance."""
        return [name for name, kpi in self.kpis.items() if not kpi.passed]

    @property
    def top1_agreement(self) -> float:
        """Share of the frames for which both name the same class."""
        return 1 - self.disagreements / self.frames

    def to_dict(self) -> dict[str, Any]:
        """Returns the document of `parity --json`."""
        return {
            "passed": bool(self),
            "frames": self.frames,
            "top1_agreement": self.top1_agreement,
            "max_abs_logit_difference": self.max_abs_logit_difference,
            "kpis": {name: kpi.to_dict() for name, kpi in self.kpis.items()},
            "sides": {"reference": self.reference.name, "exported": self.exported.name},
            "tolerance": {"precision": self.precision},
            "problems": list(self.problems),
            "disagreements": self.disagreements,
            "ties": self.ties,
            "first_parting": None if self.first_parting is None else self.first_parting.to_dict(),
            "largest_parting": self.largest_parting.to_dict(),
            "mcnemar": asdict(self.mcnemar),
            "recordings_mcnemar": asdict(self.recordings_mcnemar),
            "drift": None if self.drift is None else self.drift.to_dict(),
            "no_drift": self.no_drift,
        }


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
