"""Runs both sides over a split of a data set and puts what they gave beside each other."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data.dataset import Split
from edgeclf.data_module import ClassificationDataModule
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
    log_probabilities,
    unwatched,
)
from edgeclf_export.parity.tolerances import check_given, kpi_names
from edgeclf_export.parity.tolerances import tolerances as chosen_tolerances
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.precision import Precision
from edgeclf_runtime.session import Classifier, Device, DeviceOptions

_log = logging.getLogger(__name__)


def compare(
    reference: Side,
    exported: Side,
    labels: Sequence[str],
    delta_t: int | None,
    precision: Precision = "fp32",
    tolerances: Mapping[str, float] | None = None,
    drift: Drift | None = None,
    no_drift: str = "",
) -> ParityReport:
    """Returns how what two sides gave compares.

    Args:
        reference: The reference.
        exported: The exported file, on the same recordings in the same order.
        labels: Name of each output.
        delta_t: Duration of a frame in µs; None where frames have no fixed one.
        precision: The exported file's.
        tolerances: As `ParityCheck` takes them.
        drift: Of the state.
        no_drift: Why there is none, as a clause.

    Raises:
        UsageError: Where there is no such KPI to have a tolerance.
    """
    given, found = reference.recordings, exported.recordings
    most = chosen_tolerances(reference, exported, labels, delta_t, precision, tolerances)
    disagreements, ties = statistics.disagreements_and_ties(given, found)
    return ParityReport(
        reference=reference,
        exported=exported,
        labels=tuple(labels),
        delta_t=delta_t,
        frames=sum(len(recording.labels) for recording in given),
        disagreements=disagreements,
        ties=ties,
        max_abs_logit_difference=statistics.largest_difference(given, found),
        kpis={name: KpiComparison(value, exported.kpis[name], most[name]) for name, value in reference.kpis.items()},
        first_parting=statistics.first_parting(given, found, labels),
        largest_parting=statistics.largest_parting(given, found, labels),
        mcnemar=statistics.mcnemar(given, found),
        drift=drift,
        precision=precision,
        no_drift=no_drift,
        recordings_mcnemar=statistics.recordings_mcnemar(given, found, labels),
        problems=statistics.problems(given, found),
    )


class ParityCheck:
    """Both sides, ready to run once.

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
        UsageError: Where a side is another classifier than the checkpoint, the data set does not fit or has no label in
            the split, or there is no such KPI to have a tolerance.
        EdgeclfError: Where the exported file does not start on the device; see `Classifier.load`.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        model: str | Path,
        dataset: str | Path,
        *,
        split: Split = "test",
        device: Device | DeviceOptions = "cpu",
        tolerances: Mapping[str, float] | None = None,
        drift: bool = True,
        trusted: bool = False,
        metavision: str | Path | None = None,
    ) -> None:
        loaded = load_checkpoint(checkpoint, trusted)
        self._hyper = loaded.hyperparameters
        footing = Footing.of(self._hyper)
        options = device if isinstance(device, DeviceOptions) else DeviceOptions(device)
        classifier = Classifier.load(model, options=options)
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
        if not any((recording.labels >= 0).any() for recording in self._data.recordings):
            raise UsageError(
                f"{Path(dataset) / split}: no frame of its recordings has a label, so there is no KPI to compare; give "
                "another split, or a data set with labels."
            )
        self._tolerances = dict(tolerances or {})
        check_given(self._tolerances, kpi_names(self._hyper.labels))
        self._drift = drift

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each output."""
        return self._hyper.labels

    def run(self, watch: Watch = unwatched) -> ParityReport:
        """Runs both sides over every frame and compares them; the exported file is closed then, whatever happened.

        Args:
            watch: Shows how far each side has come, such as `edgeclf_runtime.console.progress`.

        Raises:
            EdgeclfError: Where a recording cannot be read, or a side fails on its frames.
        """
        no_drift = self._no_drift()
        with self._exported.classifier as classifier:
            order = {str(recording.path): k for k, recording in enumerate(self._data.recordings)}
            reference = sorted(self._reference.run(self._data, watch), key=lambda recording: order[recording.path])
            lockstep = None
            if self._reference.eager is not None and not no_drift:
                lockstep = Lockstep(self._reference.eager, classifier.run, classifier.contract)
            exported = self._exported.run(self._data.recordings, watch, lockstep)
        if self._reference.gives_probabilities:
            reference, exported = log_probabilities(reference), log_probabilities(exported)
        labels, delta_t = self.labels, self._hyper.frame_duration
        return compare(
            Side.of(self._reference.name, reference, labels, delta_t),
            Side.of(self._exported.name, exported, labels, delta_t),
            labels,
            delta_t,
            classifier.contract.precision,
            self._tolerances,
            None if lockstep is None else lockstep.result(),
            no_drift,
        )

    def _no_drift(self) -> str:
        """Returns why the states are not compared, as a clause; empty where they are."""
        if not self._drift:
            return "it was not asked for"
        if self._reference.eager is None:
            return "Metavision's export keeps its state to itself"
        return Lockstep.obstacle(self._reference.eager, self._exported.classifier.contract)


def check_parity(
    checkpoint: str | Path,
    model: str | Path,
    dataset: str | Path,
    *,
    split: Split = "test",
    device: Device | DeviceOptions = "cpu",
    tolerances: Mapping[str, float] | None = None,
    drift: bool = True,
    trusted: bool = False,
    metavision: str | Path | None = None,
) -> ParityReport:
    """Returns how an exported file compares with its checkpoint over a split: true where every KPI is within tolerance.

    Made for a test of one's own, which on failure says which KPIs differ, and by how much::

        from edgeclf_export.parity import check_parity

        def test_parity():
            assert check_parity("best.ckpt", "best.onnx", "dataset")

    Args:
        checkpoint: As `ParityCheck` takes it, and so are the others.
        model: The exported file.
        dataset: The data set folder.
        split: Which of its splits.
        device: Where the exported file runs.
        tolerances: By how much KPIs may differ.
        drift: Whether to look at the state as well.
        trusted: Load the checkpoint whatever it holds.
        metavision: The folder of a Metavision export to compare with.

    Raises:
        EdgeclfError: See `ParityCheck` and its `run`.
    """
    check = ParityCheck(
        checkpoint,
        model,
        dataset,
        split=split,
        device=device,
        tolerances=tolerances,
        drift=drift,
        trusted=trusted,
        metavision=metavision,
    )
    return check.run()
