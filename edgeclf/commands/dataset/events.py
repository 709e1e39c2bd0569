"""`edgeclf dataset events`: recordings to tensor files."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from edgeclf.commands.dataset.options import FrameOptions, frame_options, raise_problems, workers_option
from edgeclf.data.conversion import FrameRecipe
from edgeclf.data.conversion.recording_jobs import MadeFile, RecordingJob, already_made, copy_labels, make_tensor_file
from edgeclf.data.conversion.workers import run_jobs
from edgeclf.data.labels import read_labels
from edgeclf_runtime.console import check_can_write, json_option, progress, say, verbosity_options, write_json
from edgeclf_runtime.errors import EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.events import open_recording
from edgeclf_runtime.files import remove_leftovers
from edgeclf_runtime.tensor_file import FRAME_MODES, FrameMode

Outcome = MadeFile | EdgeclfError


@click.command("events")
@click.argument("recording", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder for NAME.h5 of each recording.")
@frame_options(10_000)
@click.option("--mode", type=click.Choice(FRAME_MODES), default="delta_t", show_default=True,
              help="What ends a frame: its duration (--delta-t), or its number of events (--n-events).")  # fmt: skip
@click.option("--n-events", type=click.IntRange(min=1), help="Events of a frame, with --mode n_events.")
@click.option("--height-width", type=click.IntRange(min=1), nargs=2, metavar="HEIGHT WIDTH",
              help="Size of the frames; as the preprocessing makes them, unless given.")  # fmt: skip
@click.option("--sensor-size", type=click.IntRange(min=1), nargs=2, metavar="WIDTH HEIGHT",
              help="Size of the sensor, for recordings that do not say.")  # fmt: skip
@click.option("--start-ts", type=int, help="Where the first frame starts, in µs of the recording's own time.")
@click.option("--max-duration-ms", type=click.IntRange(min=1), help="Use only so much of each recording.")
@click.option("--box-labels", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="A label file for each recording, in their order; copied to NAME_bbox.npy.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Make all files anew, those that are there already too.")
@workers_option
@json_option
@verbosity_options
def events_command(
    recording: tuple[Path, ...],
    out: Path,
    frames: FrameOptions,
    mode: FrameMode,
    n_events: int | None,
    height_width: tuple[int, int] | None,
    sensor_size: tuple[int, int] | None,
    start_ts: int | None,
    max_duration_ms: int | None,
    box_labels: tuple[Path, ...],
    overwrite: bool,
    num_workers: int | None,
    json_path: str | None,
) -> None:
    """Turn each RECORDING (.raw, .dat) into a tensor file of event frames.

    A tensor file that was made the same way before is skipped, so that a run can be taken up again where it was
    interrupted. A recording that cannot be used does not stop the others.

    Example: edgeclf dataset events drive.raw --out frames --delta-t 20000 --height-width 120 160
    """
    recipe = frames.recipe(height_width, mode, n_events)
    max_duration = None if max_duration_ms is None else max_duration_ms * 1000
    _check_names(recording, box_labels)
    jobs = [
        RecordingJob(
            path, out / f"{path.stem}.h5", recipe, sensor_size, start_ts, max_duration,
            box_labels[i] if box_labels else None,
        )
        for i, path in enumerate(recording)
    ]  # fmt: skip
    known = _examine(jobs, overwrite)
    for path in remove_leftovers(target for job in jobs for target in (job.target, job.label_target) if target):
        say(f"{path}: removed, as the process that was writing it has ended")
    outcomes = _convert(jobs, known, num_workers)
    if json_path is not None:
        described = [_described(job, outcome) for job, outcome in zip(jobs, outcomes, strict=True)]
        write_json(json_path, {"recordings": described})
    made = [outcome for outcome in outcomes if isinstance(outcome, MadeFile)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, EdgeclfError)]
    raise_problems([problem for file in made for problem in file.problems], errors, len(made))


def _check_names(recording: Sequence[Path], box_labels: Sequence[Path]) -> None:
    """Raises where files do not belong together, or are no label files: before hours of conversion."""
    if box_labels and len(box_labels) != len(recording):
        raise UsageError(f"There are {len(recording)} recordings and {len(box_labels)} label files; give one for each.")
    twice = [stem for stem, count in Counter(path.stem for path in recording).items() if count > 1]
    if twice:
        raise UsageError(f"Two recordings are called {twice[0]} and would write the same {twice[0]}.h5; rename one.")
    for path in box_labels:
        read_labels(path)


def _examine(jobs: Sequence[RecordingJob], overwrite: bool) -> dict[Path, Outcome]:
    """Returns, by target, what is known before the work: files that are there, and recordings that cannot be opened.

    Raises:
        UsageError: Where a recording's frames cannot be made so, or would take the place of others.
    """
    known: dict[Path, Outcome] = {}
    for job in jobs:
        check_can_write(job.target)
        try:
            size = open_recording(job.path, job.sensor_size).sensor_size
            found = None if overwrite else already_made(job)
        except InputFileError as error:
            known[job.target] = error
            continue
        _check_recipe(job.recipe, job.path, size)
        if found is not None:
            known[job.target] = found
    return known


def _check_recipe(recipe: FrameRecipe, path: Path, sensor_size: tuple[int, int]) -> None:
    try:
        recipe.check(sensor_size)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _convert(jobs: Sequence[RecordingJob], known: Mapping[Path, Outcome], num_workers: int | None) -> list[Outcome]:
    """Does what is left to do, says of every file what became of it, and returns the outcome of each job."""
    for job in jobs:
        if isinstance(found := known.get(job.target), MadeFile):
            copy_labels(job)
            say(f"{job.target}: {found.frames} frames, made in the same way before; skipped")
    left = [job for job in jobs if job.target not in known]
    outcomes = dict(known)
    lines = []
    with progress(run_jobs(make_tensor_file, left, num_workers), "recordings", len(left)) as results:
        for job, outcome in zip(left, results, strict=True):
            outcomes[job.target] = outcome
            if isinstance(outcome, MadeFile):
                lines.append(f"{job.target}: {outcome.frames} frames")
                if not sys.stderr.isatty():  # else it would stand in the midst of the progress bar
                    say(lines.pop())
    for line in lines:
        say(line)
    return [outcomes[job.target] for job in jobs]


def _described(job: RecordingJob, outcome: Outcome) -> dict[str, Any]:
    """Returns an entry of the JSON document."""
    entry: dict[str, Any] = {"recording": str(job.path), "tensor_file": str(job.target)}
    if isinstance(outcome, EdgeclfError):
        return entry | {"status": "failed", "frames": 0, "labels": None, "problems": [str(outcome)]}
    labels = None if job.label_target is None else str(job.label_target)
    return entry | {
        "status": outcome.status,
        "frames": outcome.frames,
        "labels": labels,
        "problems": list(outcome.problems),
    }
