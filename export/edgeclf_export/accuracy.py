"""What a precision costs: KPIs of an exported file beside those of the checkpoint, over a split of a data set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edgeclf.checkpoint import Checkpoint
from edgeclf.data.dataset import LabelledRecording, Split
from edgeclf.data_module import ClassificationDataModule
from edgeclf.evaluation import RecordingLogits, evaluate
from edgeclf.utils_metrics import compute_kpis
from edgeclf_export.recordings import run_recording, stretches
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.golden import Array, Step


@dataclass(frozen=True)
class DataSet:
    """The data that an export is proved on.

    Attributes:
        path: The data set's folder.
        split: Split whose KPIs are compared.
        calibration_split: Split whose frames int8's ranges are chosen by.
        max_accuracy_drop: By how much the accuracy of its frames may fall.
    """

    path: Path
    split: Split = "test"
    calibration_split: Split = "train"
    max_accuracy_drop: float = 0.01


@dataclass(frozen=True)
class AccuracyCheck:
    """KPIs before and after; true where the accuracy did not fall too far. A NaN accuracy fails.

    Attributes:
        before: The checkpoint's KPIs in PyTorch, by name.
        after: The exported file's.
        max_drop: By how much the accuracy may fall.
    """

    before: dict[str, float]
    after: dict[str, float]
    max_drop: float

    @property
    def drop(self) -> float:
        """By how much the accuracy fell."""
        return self.before["accuracy"] - self.after["accuracy"]

    def __bool__(self) -> bool:
        return self.drop <= self.max_drop

    def to_dict(self) -> dict[str, Any]:
        """Returns what a JSON document says of it."""
        return asdict(self) | {"drop": self.drop, "passed": bool(self)}


class ProvingGround:
    """A data set, ready to prove files of one checkpoint on.

    Args:
        checkpoint: The checkpoint.
        data: The data set.

    Raises:
        InputFileError: Where files are missing or are not what they should be.
        UsageError: Where they are not made for this model.
    """

    def __init__(self, checkpoint: Checkpoint, data: DataSet) -> None:
        self._checkpoint = checkpoint
        self._data = data
        self._module = ClassificationDataModule(checkpoint.hyperparameters.to_dict(), data.path)

    def validation(self, contract: Contract) -> list[Array]:
        """Returns event frames of the split that the KPIs are of."""
        return stretches(self._recordings, contract)

    def calibration(self, contract: Contract) -> list[Array]:
        """Returns event frames to choose int8's ranges by."""
        return stretches(self._module.split(self._data.calibration_split), contract)

    def check(self, step: Step, contract: Contract) -> AccuracyCheck:
        """Runs a file over the whole split and compares its KPIs with the checkpoint's."""
        after = [run_recording(step, contract, recording) for recording in self._recordings]
        return AccuracyCheck(self._before, self._kpis(after), self._data.max_accuracy_drop)

    @cached_property
    def _before(self) -> dict[str, float]:
        return self._kpis(evaluate(self._checkpoint.build_model(), self._module.sequences(self._data.split)))

    @property
    def _recordings(self) -> list[LabelledRecording]:
        return self._module.split(self._data.split)

    def _kpis(self, results: list[RecordingLogits]) -> dict[str, float]:
        hyper = self._checkpoint.hyperparameters
        return compute_kpis([recording.result() for recording in results], hyper.labels, hyper.frame_duration)
