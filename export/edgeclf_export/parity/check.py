"""Runs both sides over a split of a data set and puts what they gave beside each other."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data.dataset import Split
from edgeclf.data_module import ClassificationDataModule
from edgeclf.evaluation import RecordingLogits
from edgeclf.utils_metrics import compute_kpis
from edgeclf_export.parity import statistics
from edgeclf_export.parity.drift import Lockstep
from edgeclf_export.parity.report import Drift, KpiComparison, ParityReport, Side
from edgeclf_export.parity.sides import (
    ExportedSide,
    Footing,
    MetavisionReference,
    PyTorchReference,
    Reference,
    Watch,
    unwatched,
)
from edgeclf_export.parity.tolerances import check_given, kpi_names
from edgeclf_export.parity.tolerances import tolerances as chosen_tolerances
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.session import Classifier, DeviceOptions

_log = logging.getLogger(__name__)

ON_CPU = DeviceOptions("cpu")


class ParityCheck:
    """Both sides, ready to run.

    Args:
        checkpoint: The checkpoint, run in PyTorch.
        model: The exported file.
        dataset: The data set folder.
        split: Which of its splits.
        device: Where the exported file runs.
        tolerances: By how much KPIs may differ, by name or by family (`precision`, `recall`, `auroc`, `t2p`); what is
            left out is as the file's precision says.
        drift: Whether to look at the state as well, which runs each side's step once more.
        trusted: Load the checkpoint whatever it holds; see `load_checkpoint`.
        metavision: The folder of a Metavision TorchScript export that is the reference in the checkpoint's place; how
            frames are read and labelled is still the checkpoint's.

    Raises:
        InputFileError: Where a file cannot be used.
        UsageError: Where a side is another classifier than the checkpoint, the data set does not fit, or there is no
            such KPI to have a tolerance.
        EdgeclfError: Where the exported file does not start on the device; see `Classifier.load`.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        model: str | Path,
        dataset: str | Path,
        split: Split = "test",
        device: DeviceOptions = ON_CPU,
        tolerances: Mapping[str, float] | None = None,
        drift: bool = True,
        trusted: bool = False,
        metavision: str | Path | None = None,
    ) -> None:
        loaded = load_checkpoint(checkpoint, trusted)
        self._hyper = loaded.hyperparameters
        footing = Footing.of(self._hyper)
        classifier = Classifier.load(model, options=device)
        if difference := Footing.of(classifier.contract).difference(footing):
            raise UsageError(
                f"{model}: this is another classifier than the checkpoint {checkpoint}: {difference}; export that "
                "checkpoint."
            )
        if classifier.contract.checkpoint_sha256 != loaded.sha256:
            _log.warning("%s was not exported from %s, but from another checkpoint.", model, checkpoint)
        self._exported = ExportedSide(classifier, Path(model))
        self._reference: Reference = (
            PyTorchReference(loaded.build_model())
            if metavision is None
            else MetavisionReference(Path(metavision), footing)
        )
        self._data = ClassificationDataModule(self._hyper.to_dict(), dataset).sequences(split)
        self._tolerances = dict(tolerances or {})
        check_given(self._tolerances, kpi_names(self._hyper.labels))
        self._drift = drift

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each output."""
        return self._hyper.labels

    def run(self, watch: Watch = unwatched) -> ParityReport:
        """Runs both sides over every frame and compares them.

        Args:
            watch: Shows how far each side has come, such as `edgeclf_runtime.console.progress`.

        Raises:
            EdgeclfError: Where a recording cannot be read, a side fails on its frames, or no frame has a label.
        """
        order = {str(recording.path): k for k, recording in enumerate(self._data.recordings)}
        reference = sorted(self._reference.run(self._data, watch), key=lambda recording: order[recording.path])
        lockstep = self._lockstep()
        exported = self._exported.run(self._data.recordings, watch, lockstep)
        return self._report(reference, exported, None if lockstep is None else lockstep.result())

    def _lockstep(self) -> Lockstep | None:
        eager, classifier = self._reference.eager, self._exported.classifier
        if not self._drift or eager is None or not Lockstep.fits(eager, classifier.contract):
            return None
        return Lockstep(eager, classifier.run, classifier.contract)

    def _report(
        self, reference: list[RecordingLogits], exported: list[RecordingLogits], drift: Drift | None
    ) -> ParityReport:
        labels, delta_t = self.labels, self._hyper.frame_duration
        kpis, found = (
            compute_kpis([recording.result() for recording in side], labels, delta_t) for side in (reference, exported)
        )
        precision = self._exported.classifier.contract.precision
        tolerances = chosen_tolerances(tuple(kpis), precision, reference, labels, delta_t, self._tolerances)
        disagreements, ties = statistics.disagreements_and_ties(reference, exported)
        return ParityReport(
            reference=Side(self._reference.name, reference, kpis),
            exported=Side(self._exported.name, exported, found),
            labels=labels,
            delta_t=delta_t,
            frames=sum(len(recording.labels) for recording in reference),
            disagreements=disagreements,
            ties=ties,
            max_abs_logit_difference=statistics.largest_difference(reference, exported),
            kpis={name: KpiComparison(value, found[name], tolerances[name]) for name, value in kpis.items()},
            first_parting=statistics.first_parting(reference, exported, labels),
            largest_parting=statistics.largest_parting(reference, exported, labels),
            mcnemar=statistics.mcnemar(reference, exported),
            drift=drift,
            precision=precision,
        )


def check_parity(
    checkpoint: str | Path,
    model: str | Path,
    dataset: str | Path,
    split: Split = "test",
    device: DeviceOptions = ON_CPU,
    tolerances: Mapping[str, float] | None = None,
    drift: bool = True,
) -> ParityReport:
    """Returns how an exported file compares with its checkpoint over a split: true where every KPI is within tolerance.

    Made for a test of one's own, which on failure says which KPIs differ, and by how much::

        from edgeclf_export.parity import check_parity

        def test_parity():
            assert check_parity("best.ckpt", "best.onnx", "dataset")

    Args:
        checkpoint: As `ParityCheck` takes it.
        model: As `ParityCheck` takes it.
        dataset: As `ParityCheck` takes it.
        split: As `ParityCheck` takes it.
        device: As `ParityCheck` takes it.
        tolerances: As `ParityCheck` takes them.
        drift: As `ParityCheck` takes it.

    Raises:
        EdgeclfError: See `ParityCheck` and its `run`.
    """
    return ParityCheck(checkpoint, model, dataset, split, device, tolerances, drift).run()
