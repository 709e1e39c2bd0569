"""Turning many recordings into tensor files so that the work can be interrupted and taken up again."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgeclf.data.conversion.frames import FrameRecipe, complete_arguments, convert_events
from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.events import open_recording
from edgeclf_runtime.files import written_whole
from edgeclf_runtime.tensor_file import TensorFile

_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class RecordingJob:
    """A recording to be turned into a tensor file.

    Attributes:
        path: The recording.
        target: The `.h5` to write.
        recipe: How frames are made.
        sensor_size: Width and height of the sensor, for recordings that do not say.
        start_ts: Start of frame 0 in µs.
        max_duration: How much of the recording to use, in µs.
        box_labels: A label file to be copied beside the tensor file.
    """

    path: Path
    target: Path
    recipe: FrameRecipe
    sensor_size: tuple[int, int] | None = None
    start_ts: int | None = None
    max_duration: int | None = None
    box_labels: Path | None = None

    @property
    def label_target(self) -> Path | None:
        """Where the label file goes."""
        if self.box_labels is None:
            return None
        ending = "labels.npz" if self.box_labels.suffix == ".npz" else "bbox.npy"
        return self.target.with_name(f"{self.target.stem}_{ending}")


@dataclass(frozen=True)
class MadeFile:
    """A tensor file that is there.

    Attributes:
        job: What it was made for.
        frames: Its frames.
        problems: What was wrong with the recording, a sentence each.
        status: Whether it was made now, or had been made the same way before.
    """

    job: RecordingJob
    frames: int
    problems: tuple[str, ...]
    status: Literal["written", "skipped"]


def request(job: RecordingJob) -> dict[str, Any]:
    """Returns what decides on a tensor file's content, as it is kept in the file: names and values of JSON's.

    The recording counts by its size in bytes and by a digest of how it begins and ends: one that was still being copied
    is another one afterwards, and so is another recording of the same size. All of it is not read, which would take as
    long as making the frames.

    Raises:
        InputFileError: Where the recording cannot be opened.
        UsageError: Where its sensor's size contradicts the one given.
    """
    recipe = job.recipe
    opened = open_recording(job.path, job.sensor_size)
    return {
        "recording_bytes": job.path.stat().st_size,
        "recording_digest": _digest_of_ends(job.path),
        "sensor_size": list(opened.sensor_size),
        "preprocess": recipe.preprocess,
        **complete_arguments(recipe.preprocess, recipe.preprocess_kwargs),
        "mode": recipe.mode,
        "delta_t": recipe.delta_t,
        "n_events": recipe.n_events,
        "frame_size": None if recipe.frame_size is None else list(recipe.frame_size),
        "start_ts": job.start_ts,
        "max_duration": job.max_duration,
        "store_as_uint8": recipe.store_as_uint8,
    }


def _digest_of_ends(path: Path) -> str:
    """Returns the BLAKE2 digest of a file's first and last MiB, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        digest.update(file.read(_MEBIBYTE))
        file.seek(max(path.stat().st_size - _MEBIBYTE, file.tell()))
        digest.update(file.read(_MEBIBYTE))
    return digest.hexdigest()


def already_made(job: RecordingJob) -> MadeFile | None:
    """Returns the tensor file of a job where it has been made before in just this way; None where there is none.

    Raises:
        InputFileError: Where the recording cannot be opened.
        UsageError: Where there is a file of that name that was made otherwise.
    """
    wanted = request(job)
    if not job.target.exists():
        return None
    advice = "give --overwrite to make it anew, or another --out"
    try:
        with TensorFile(job.target) as file:
            frames, provenance = len(file), file.provenance()
    except InputFileError as error:
        raise UsageError(f"{job.target}: there is a file of this name that is no tensor file; {advice}.") from error
    has = provenance.get("request")
    if not isinstance(has, Mapping):
        raise UsageError(f"{job.target}: this tensor file does not say what it was made of; {advice}.")
    if has != wanted:
        # Which arguments there are depends on the preprocessing, whose name then differs as well.
        differences = [
            f"{name} {has[name]}, not {value}" for name, value in wanted.items() if has.get(name, value) != value
        ]
        raise UsageError(
            f"{job.target}: this tensor file was made otherwise than you ask for "
            f"({'; '.join(differences) or 'with other arguments'}); {advice}."
        )
    return MadeFile(job, frames, tuple(map(str, provenance.get("problems", ()))), "skipped")


def make_tensor_file(job: RecordingJob) -> MadeFile:
    """Writes the tensor file of a recording, and copies its label file.

    Raises:
        InputFileError: Where the recording cannot be opened, or holds no events there.
        UsageError: Where frames cannot be made so.
    """
    wanted, opened = request(job), open_recording(job.path, job.sensor_size)
    frames = convert_events(
        opened,
        opened.sensor_size,
        job.target,
        job.recipe,
        job.start_ts,
        job.max_duration,
        # After the last frame, when all problems of the recording are known.
        lambda: {"request": wanted, "problems": opened.problems},
    )
    copy_labels(job)
    return MadeFile(job, frames, tuple(opened.problems), "written")


def copy_labels(job: RecordingJob) -> None:
    """Copies a job's label file, if it has one, beside its tensor file."""
    if job.box_labels is not None and job.label_target is not None:
        with written_whole(job.label_target) as temporary:
            shutil.copyfile(job.box_labels, temporary)
