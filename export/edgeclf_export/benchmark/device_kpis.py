"""KPIs of a runtime classifier over a data set, computed without torch, as a device has none.

They are those of `edgeclf.utils_metrics.compute_kpis` of the same names, and equal them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeclf.data.dataset import LabelledRecording, Split, recordings
from edgeclf_export.recordings import run_frames
from edgeclf_runtime.console import progress
from edgeclf_runtime.contract import Contract, background_index
from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.golden import Array
from edgeclf_runtime.session import Classifier

Labels = NDArray[np.int64]


def split_kpis(
    classifier: Classifier, dataset: Path, split: Split = "test", label: str = "recordings"
) -> dict[str, float]:
    """Returns the KPIs of a classifier over a split, with a progress bar over its recordings.

    Every frame counts that the data set labels. An exported file does not say that only frames at an interval of
    labelling counted in training (`use_label_freq`), as its checkpoint does.

    Args:
        classifier: Runs each recording on its stream 0, from cleared memory; a rolling window counts for nothing.
        dataset: The data set folder.
        split: Which of its splits.
        label: What the progress bar is called.

    Returns:
        See `rates`.

    Raises:
        InputFileError: Where files are missing or are not what they should be.
        UsageError: Where they are not made for this model.
        EdgeclfError: Where no frame is labelled.
    """
    found = recordings_for(classifier.contract, dataset, split)
    with progress(found, label, length=len(found)) as shown:
        return rates([(predictions_of(classifier, one), one.labels) for one in shown], classifier.contract.labels)


def recordings_for(contract: Contract, dataset: Path, split: Split = "test") -> list[LabelledRecording]:
    """Returns the recordings of a split, labelled with the outputs of an exported model; see `recordings`."""
    return recordings(
        dataset, split, contract.labels, contract.delta_t, contract.preprocess, contract.preprocess_kwargs
    )


def predictions_of(classifier: Classifier, recording: LabelledRecording) -> Labels:
    """Returns the output that a classifier chooses for each frame of a recording, `[N]`, from cleared memory."""

    def run(frame: Array) -> Array:
        logits: Array = classifier.step(frame[None], streams=[0]).logits[0]
        return logits

    classifier.reset(0)
    chosen: Labels = run_frames(recording, classifier.contract, run).argmax(axis=1)
    return chosen


def rates(results: Sequence[tuple[Labels, Labels]], labels: Sequence[str]) -> dict[str, float]:
    """Returns the rates that `edgeclf.utils_metrics.compute_kpis` finds, with its definitions to the letter.

    Args:
        results: For each recording the outputs chosen and the right ones, `[N]` each; frames labelled -1 are left out.
        labels: Names of the outputs.

    Returns:
        `accuracy`, `recording_accuracy` and `mean_recording_accuracy`.

    Raises:
        EdgeclfError: Where no frame is labelled.
    """
    counted = [(chosen[right >= 0], right[right >= 0]) for chosen, right in results if (right >= 0).any()]
    if not counted:
        raise EdgeclfError(
            "No KPI can be computed without a labelled frame; check that the data set's split holds recordings with "
            "labels."
        )
    background = background_index(labels)
    hits = [chosen == right for chosen, right in counted]
    return {
        "accuracy": float(np.concatenate(hits).mean()),
        "recording_accuracy": float(np.mean([_majority_is_right(*one, background) for one in counted])),
        "mean_recording_accuracy": float(np.mean([hit.mean() for hit in hits])),
    }


def _majority_is_right(chosen: Labels, right: Labels, background: int | None) -> bool:
    """Whether the output chosen most often is the most frequent label, over the frames that are not background.

    Over all frames where there are none but background; of equally frequent ones the first is taken.
    """
    shown = right != background
    if shown.any():
        chosen, right = chosen[shown], right[shown]
    return bool(np.bincount(chosen).argmax() == np.bincount(right).argmax())
