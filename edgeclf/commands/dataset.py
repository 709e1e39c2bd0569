"""`edgeclf dataset`: make data sets in Metavision's layout."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgeclf.data.conversion import FrameRecipe, convert_events
from edgeclf.data.dataset import check_no_others
from edgeclf.data.labels import read_labels, write_label_map
from edgeclf.data.nmnist import DIGITS, SIDE, Fit, convert_nmnist, find_nmnist
from edgeclf.data.synth.dataset import SplitSizes, synthesise
from edgeclf_runtime.console import progress, say, verbosity_options
from edgeclf_runtime.errors import DamagedInputError, UsageError
from edgeclf_runtime.events import open_recording
from edgeclf_runtime.files import written_whole


def _frame_options(delta_t: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds the options that say how frames are made."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option("--store-as-uint8", is_flag=True, help="Store values 0 to 1 as 0 to 255 (histo only)."),
            click.option("--max-incr-per-pixel", type=click.FloatRange(min=0, min_open=True), default=5.0,
                         show_default=True, help="Events that saturate a pixel, at the sensor's resolution."),
            click.option("--delta-t", type=click.IntRange(min=1), default=delta_t, show_default=True,
                         help="Duration of an event frame in µs."),
            click.option("--preprocess", type=click.Choice(["histo", "diff"]), default="histo", show_default=True,
                         help="How events become a frame."),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


@click.group()
def dataset() -> None:
    """Make data sets in Metavision's layout.

    Example: edgeclf dataset synth gestures --seed 1
    """


@dataset.command()
@click.argument("recording", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The folder for NAME.h5 of each recording.")
@_frame_options(10_000)
@click.option("--height-width", type=click.IntRange(min=1), nargs=2, metavar="HEIGHT WIDTH",
              help="Size of the frames; the sensor's, unless given.")  # fmt: skip
@click.option("--sensor-size", type=click.IntRange(min=1), nargs=2, metavar="WIDTH HEIGHT",
              help="Size of the sensor, for recordings that do not say.")  # fmt: skip
@click.option("--start-ts", type=int, help="Where the first frame starts, in µs of the recording's own time.")
@click.option("--max-duration-ms", type=click.IntRange(min=1), help="Use only so much of each recording.")
@click.option("--box-labels", multiple=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="A label file for each recording, in their order; copied to NAME_bbox.npy.")  # fmt: skip
@verbosity_options
def events(
    recording: tuple[Path, ...],
    out: Path,
    preprocess: str,
    delta_t: int,
    max_incr_per_pixel: float,
    store_as_uint8: bool,
    height_width: tuple[int, int] | None,
    sensor_size: tuple[int, int] | None,
    start_ts: int | None,
    max_duration_ms: int | None,
    box_labels: tuple[Path, ...],
) -> None:
    """Turn each RECORDING (.raw, .dat) into a tensor file of event frames.

    Example: edgeclf dataset events drive.raw --out frames --delta-t 20000 --height-width 120 160
    """
    if box_labels and len(box_labels) != len(recording):
        raise UsageError(f"There are {len(recording)} recordings and {len(box_labels)} label files; give one for each.")
    twice = [stem for stem, count in Counter(path.stem for path in recording).items() if count > 1]
    if twice:
        raise UsageError(f"Two recordings are called {twice[0]} and would write the same {twice[0]}.h5; rename one.")
    for path in box_labels:
        read_labels(path)  # says so where it is something else, before hours of conversion
    recipe = FrameRecipe(preprocess, {"max_incr_per_pixel": max_incr_per_pixel}, delta_t, height_width, store_as_uint8)
    max_duration = None if max_duration_ms is None else max_duration_ms * 1000
    problems = []
    with progress(list(recording), "recordings") as paths:
        for i, path in enumerate(paths):
            opened = open_recording(path, sensor_size)
            target = out / f"{path.stem}.h5"
            frames = convert_events(opened, opened.sensor_size, target, recipe, start_ts, max_duration)
            if box_labels:
                ending = "labels.npz" if box_labels[i].suffix == ".npz" else "bbox.npy"
                with written_whole(target.with_name(f"{path.stem}_{ending}")) as temporary:
                    shutil.copyfile(box_labels[i], temporary)
            say(f"{target}: {frames} frames")
            problems += opened.problems
    if problems:
        raise DamagedInputError(" ".join(problems))


@dataset.command()
@click.argument("src", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@_frame_options(20_000)
@click.option("--val-fraction", type=click.FloatRange(0, 1, max_open=True), default=0.1, show_default=True,
              help="Share of Train/ that becomes the validation split.")  # fmt: skip
@click.option("--test-fraction", type=click.FloatRange(0, 1, max_open=True), default=0.1, show_default=True,
              help="Share of Train/ that becomes the test split where there is no Test/.")  # fmt: skip
@click.option("--height-width", type=click.IntRange(min=1), nargs=2, metavar="HEIGHT WIDTH",
              default=(SIDE, SIDE), show_default=True, help="Size of the frames.")  # fmt: skip
@click.option("--fit", type=click.Choice(["pad", "scale"]), default="pad", show_default=True,
              help="How 34×34 pixels become frames of another size.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the assignment to splits.")
@verbosity_options
def nmnist(
    src: Path,
    out: Path,
    preprocess: str,
    delta_t: int,
    max_incr_per_pixel: float,
    store_as_uint8: bool,
    val_fraction: float,
    test_fraction: float,
    height_width: tuple[int, int],
    fit: Fit,
    seed: int,
) -> None:
    """Turn N-MNIST's folders in SRC (Train/, Test/ or one of them) into Metavision's layout in OUT.

    Example: edgeclf dataset nmnist N-MNIST nmnist --delta-t 20000
    """
    recipe = FrameRecipe(preprocess, {"max_incr_per_pixel": max_incr_per_pixel}, delta_t, None, store_as_uint8)
    files = find_nmnist(src, val_fraction, test_fraction, seed)
    check_no_others(out, {recording.tensor_file(out) for recording in files})
    with progress(files, "recordings") as found:
        for recording in found:
            convert_nmnist(recording, out, recipe, *height_width, fit)
    write_label_map(out, DIGITS)
    counts = Counter(recording.split for recording in files)
    say(f"{out}: " + ", ".join(f"{counts[split]} recordings for {split}" for split in ("train", "val", "test")))


@dataset.command()
@click.argument("out", type=click.Path(path_type=Path))
@_frame_options(20_000)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="The same seed makes the same files.")  # fmt: skip
@click.option("--recordings", type=click.IntRange(min=0), nargs=3, metavar="TRAIN VAL TEST", default=(96, 16, 24),
              show_default=True, help="Recordings of each split, three gestures each.")  # fmt: skip
@click.option("--height-width", type=click.IntRange(min=1), nargs=2, metavar="HEIGHT WIDTH", default=(64, 64),
              show_default=True, help="Size of the frames, made of 320×320 pixels.")  # fmt: skip
@click.option("--num-workers", type=click.IntRange(min=1), help="Processes; as many as cores unless given.")
@verbosity_options
def synth(
    out: Path,
    preprocess: str,
    delta_t: int,
    max_incr_per_pixel: float,
    store_as_uint8: bool,
    seed: int,
    recordings: tuple[int, int, int],
    height_width: tuple[int, int],
    num_workers: int | None,
) -> None:
    """Simulate hands that show rock, paper or scissors: EVT3 recordings in OUT/raw and Metavision's layout beside them.

    Example: edgeclf dataset synth gestures --seed 1
    """
    recipe = FrameRecipe(preprocess, {"max_incr_per_pixel": max_incr_per_pixel}, delta_t, height_width, store_as_uint8)
    sizes = SplitSizes(*recordings)
    made = synthesise(out, sizes, recipe, seed, num_workers or os.cpu_count() or 1)
    with progress(made, "recordings", length=sizes.total) as results:
        for _ in results:
            pass
    say(f"{out}: {sizes.train} recordings for train, {sizes.val} for val, {sizes.test} for test")
