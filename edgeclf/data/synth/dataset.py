"""The synthetic gesture data set as files: RAW recordings and Metavision's layout beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeclf.data.conversion import FrameRecipe, convert_events
from edgeclf.data.conversion.workers import run_jobs
from edgeclf.data.dataset import Split, check_no_others
from edgeclf.data.labels import LabelEvents, write_box_labels, write_label_map
from edgeclf.data.raw_writer import write_recording
from edgeclf.data.synth.recording import GESTURES, GestureRecording, simulate_recording
from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.files import remove_leftovers

SENSOR_SIZE = (320, 320)
"""Width and height of a GenX320."""


@dataclass(frozen=True)
class SplitSizes:
    """Number of recordings in each split."""

    train: int
    val: int
    test: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.train + self.val + self.test


@dataclass(frozen=True)
class _Job:
    out: Path
    split: Split
    name: str
    seed: np.random.SeedSequence
    recipe: FrameRecipe

    @property
    def tensor_file(self) -> Path:
        return self.out / self.split / f"{self.name}.h5"

    @property
    def raw_file(self) -> Path:
        return self.out / "raw" / self.split / f"{self.name}.raw"

    @property
    def label_file(self) -> Path:
        return self.tensor_file.with_name(f"{self.name}_bbox.npy")


def synthesise(out: Path, sizes: SplitSizes, recipe: FrameRecipe, seed: int, workers: int) -> Iterator[str]:
    """Makes the data set, several recordings at a time; yields each recording's name when its files are there.

    Args:
        out: The data set folder: `raw/<split>/NAME.raw`, `<split>/NAME.h5`, `<split>/NAME_bbox.npy`.
        sizes: Recordings of each split.
        recipe: How frames are made.
        seed: The same seed makes the same files, whatever the number of workers.
        workers: Processes.

    Raises:
        UsageError: Where frames cannot be made so, or the folder holds another data set.
        EdgeclfError: Where some could not be written, after all the others.
    """
    recipe.check(SENSOR_SIZE)
    counts: dict[Split, int] = {"train": sizes.train, "val": sizes.val, "test": sizes.test}
    splits = [split for split, count in counts.items() for _ in range(count)]
    seeds = np.random.SeedSequence(seed).spawn(len(splits))
    jobs = [
        _Job(out, split, f"gestures_{i:04d}", child, recipe)
        for i, (split, child) in enumerate(zip(splits, seeds, strict=True))
    ]
    check_no_others(out, {job.tensor_file for job in jobs})
    write_label_map(out, GESTURES)
    remove_leftovers(path for job in jobs for path in (job.raw_file, job.tensor_file, job.label_file))
    errors = []
    for made in run_jobs(_make, jobs, workers):
        if isinstance(made, EdgeclfError):
            errors.append(made)
        else:
            yield made
    if errors:
        raise EdgeclfError("\n".join(dict.fromkeys(map(str, errors))))


def _make(job: _Job) -> str:
    recording = simulate_recording(job.seed)
    write_recording(job.raw_file, [recording.events], SENSOR_SIZE)
    frames = convert_events(
        [recording.events], SENSOR_SIZE, job.tensor_file, job.recipe, start_ts=0, max_duration=recording.duration_us
    )
    labels = labels_of(recording, frames, job.recipe.delta_t)
    write_box_labels(job.label_file, labels, job.recipe.frame_size or SENSOR_SIZE)
    return job.name


def labels_of(recording: GestureRecording, frames: int, delta_t: int) -> LabelEvents:
    """Returns a label at the start of every frame in the middle of which a gesture is shown."""
    starts = np.arange(frames, dtype=np.int64) * delta_t
    middles = starts + delta_t // 2
    parts = [
        (starts[shown], np.full(int(shown.sum()), segment.class_id, np.int64))
        for segment in recording.segments
        for shown in [(middles >= segment.start_us) & (middles < segment.end_us)]
    ]
    if not parts:
        return LabelEvents(np.empty(0, np.int64), np.empty(0, np.int64))
    return LabelEvents(np.concatenate([t for t, _ in parts]), np.concatenate([c for _, c in parts]))
