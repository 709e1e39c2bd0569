"""The recordings that a classifier got most wrong: which they are, and a page of pictures to leaf through them."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from math import isinf, isnan
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from edgeclf.data.frame_store import FrameStore
from edgeclf.figures import finished
from edgeclf.hyperparameters import HyperParameters
from edgeclf.utils_metrics.recording_page import PageEntry, pictures_of, write_page
from edgeclf.utils_metrics.recording_picture import RecordingVectors, draw_recording
from edgeclf_runtime.errors import EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.tensor_file import TensorFile

Sequences: TypeAlias = "Tensor | Sequence[Tensor]"
"""The predictions or labels of one recording: int64 `[N]`, or a list of such pieces, one after another."""

_PICTURE = re.compile(r"\d{2,}\.png")


class WorstRecording(NamedTuple):
    """One of the recordings that a classifier got most wrong.

    Attributes:
        path: Its file.
        accuracy: Share of its labelled frames whose prediction is right.
        frames: Number of these.
        latencies_ms: Time to prediction of each of its gestures; infinite for one that was never recognised.
        picture: The picture of it.
    """

    path: Path
    accuracy: float
    frames: int
    latencies_ms: tuple[float, ...]
    picture: Path


def evaluate_preds_seq(
    preds_seq: Sequence[Sequences],
    labels_seq: Sequence[Sequences],
    res_per_recording: Mapping[str, RecordingVectors | Sequence[Any]],
    hparams: Mapping[str, Any] | Namespace,
    latency_seq: Sequence[float | Sequence[float]],
    *,
    worst: int = 10,
    out: str | Path = "worst",
    open_frames: Callable[[Path], FrameStore] = TensorFile,
) -> list[WorstRecording]:
    """Draws the recordings that a classifier got most wrong, and writes `index.html`, a page to leaf through them.

    The worst recording is the one with the lowest share of right predictions in `preds_seq`; of equal ones the one with
    more gestures that were never recognised, then the one with the longest time to prediction, then the one that comes
    first. A recording without a labelled frame is left out.

    A picture shows event frames evenly over the recording's time and, below them, the labels and the predictions of
    every frame. The page and its pictures, `01.png` and so on, lie in one folder and need nothing else. They take the
    place of those of an earlier run, and pictures that only the earlier page showed are removed.

    Args:
        preds_seq: Predictions of each recording, in the order of `res_per_recording`: int64 `[N]`, or a nested list of
            its sequences, one piece after another.
        labels_seq: Labels of each recording in the same shapes, -1 where a frame is left out.
        res_per_recording: What is drawn: the path of each recording's HDF5 tensor file to three vectors with an entry
            for each frame of the file, in this order: time stamps (the end of the frame's time slice in µs, in the
            recording's own time), predictions, and labels. See `RecordingVectors`.
        hparams: The model's hyper-parameters (see `HyperParameters`), for the names of its outputs.
        latency_seq: Time to prediction in ms of each recording, or of each of its gestures; infinite for one that was
            never recognised. `TimeToPrediction.latency_seq` is of this shape.
        worst: How many recordings, at most.
        out: The folder for the page and the pictures; made where it is missing.
        open_frames: What opens a recording's event frames, where they are in no HDF5 tensor file.

    Returns:
        The recordings, the worst one first.

    Raises:
        InputFileError: Where a recording's file is missing or holds another number of frames.
        UsageError: Where `worst` is no number of recordings, or nothing can be written to `out`.
        EdgeclfError: Where the arguments do not fit together, or no frame is labelled.
    """
    if worst < 1:
        raise UsageError(f"{worst} of the worst recordings cannot be drawn; give a number of at least 1.")
    values = vars(hparams) if isinstance(hparams, Namespace) else hparams
    labels = HyperParameters.from_mapping(values).labels
    given = {Path(p): RecordingVectors.of(p, vectors, len(labels)) for p, vectors in res_per_recording.items()}
    _check_counts(len(given), preds_seq, labels_seq, latency_seq)
    ranked = _ranked(list(given), preds_seq, labels_seq, latency_seq, Path(out))[:worst]
    for recording in ranked:  # before the first picture is drawn
        if not recording.path.is_file():
            raise InputFileError(
                f"{recording.path}: this recording, one of those to be drawn, is not there any more; put the "
                "file back, or evaluate a data set that has it."
            )
    entries = []
    for rank, recording in enumerate(ranked, 1):
        with closing(open_frames(recording.path)) as frames:
            figure = draw_recording(recording.path, frames, given[recording.path], labels)
        finished(figure, recording.picture)
        entries.append(PageEntry(f"{rank}. {recording.path.stem}", recording.picture.name, _facts(recording)))
    _replace_page(Path(out) / "index.html", entries)
    return ranked


def _replace_page(page: Path, entries: Sequence[PageEntry]) -> None:
    """Writes the page, and removes those pictures of the page in its place that the new one does not show."""
    shown = {entry.picture for entry in entries}
    stale = [name for name in pictures_of(page) if _PICTURE.fullmatch(name) and name not in shown]
    write_page(page, "The worst recordings", entries)
    for name in stale:
        page.with_name(name).unlink(missing_ok=True)


def _check_counts(recordings: int, *sequences: Sequence[Any]) -> None:
    for what, given in zip(("preds_seq", "labels_seq", "latency_seq"), sequences, strict=True):
        if len(given) != recordings:
            raise EdgeclfError(
                f"{what} has {len(given)} entries and res_per_recording {recordings} recordings; give one for each, "
                "in the same order."
            )


def _ranked(
    paths: Sequence[Path],
    preds_seq: Sequence[Sequences],
    labels_seq: Sequence[Sequences],
    latency_seq: Sequence[float | Sequence[float]],
    out: Path,
) -> list[WorstRecording]:
    """Returns all recordings that have a labelled frame, the worst one first."""
    found = []
    for path, preds, rights, latency in zip(paths, preds_seq, labels_seq, latency_seq, strict=True):
        predictions, labels = _in_one_piece(preds), _in_one_piece(rights)
        if predictions.shape != labels.shape:
            raise EdgeclfError(
                f"{path}: there are {len(predictions)} predictions in preds_seq and {len(labels)} labels in "
                "labels_seq; give as many."
            )
        counted = labels >= 0
        if counted.any():
            accuracy = float((predictions == labels)[counted].double().mean())
            latencies = tuple(map(float, latency)) if isinstance(latency, (Sequence, Tensor)) else (float(latency),)
            found.append(WorstRecording(path, accuracy, int(counted.sum()), latencies, out))
    if not found:
        raise EdgeclfError(
            "None of these recordings has a labelled frame, so none is the worst; check that the data set's split "
            "holds recordings with labels."
        )
    found.sort(key=_rank)  # a stable sort: equal ones stay in order
    return [recording._replace(picture=out / f"{rank:02}.png") for rank, recording in enumerate(found, 1)]


def _rank(recording: WorstRecording) -> tuple[float, int, float]:
    never = sum(map(isinf, recording.latencies_ms))
    longest = max((ms for ms in recording.latencies_ms if ms < float("inf")), default=0.0)  # NaN is not below
    return recording.accuracy, -never, -longest


def _in_one_piece(sequences: Sequences) -> Tensor:
    if isinstance(sequences, Tensor):
        return sequences.cpu().flatten()
    return torch.cat([piece.cpu().flatten() for piece in sequences]) if len(sequences) else torch.empty(0)


def _facts(recording: WorstRecording) -> str:
    """Returns what the page says of a recording."""
    times = ", ".join(
        "never" if isinf(ms) else "not known" if isnan(ms) else f"{ms:.4g} ms" for ms in recording.latencies_ms
    )
    right = f"{recording.accuracy:.1%} of {recording.frames} labelled frames right"
    return f"{right}; time to prediction: {times}" if times else f"{right}; no gesture"
