"""`edgeclf dataset nmnist`: N-MNIST's own folders to Metavision's layout."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import click

from edgeclf.commands.dataset.options import FrameOptions, frame_options, raise_problems, workers_option
from edgeclf.data.conversion.nmnist import DIGITS, SIDE, Fit, convert_nmnist, find_nmnist, fit_events
from edgeclf.data.conversion.workers import run_jobs
from edgeclf.data.dataset import check_no_others
from edgeclf.data.labels import write_label_map
from edgeclf_runtime.console import check_can_write, json_option, progress, say, verbosity_options, write_json
from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.events import Events
from edgeclf_runtime.files import remove_leftovers


@click.command("nmnist")
@click.argument("src", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@frame_options(20_000)
@click.option("--val-fraction", type=click.FloatRange(0, 1, max_open=True), default=0.1, show_default=True,
              help="Share of Train/ that becomes the validation split.")  # fmt: skip
@click.option("--test-fraction", type=click.FloatRange(0, 1, max_open=True), default=0.1, show_default=True,
              help="Share of Train/ that becomes the test split where there is no Test/.")  # fmt: skip
@click.option("--height-width", type=click.IntRange(min=1), nargs=2, metavar="HEIGHT WIDTH",
              default=(SIDE, SIDE), show_default=True, help="Size of the frames.")  # fmt: skip
@click.option("--fit", type=click.Choice(["pad", "scale"]), default="pad", show_default=True,
              help="How 34×34 pixels become frames of another size.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the assignment to splits.")
@workers_option
@json_option
@verbosity_options
def nmnist_command(
    src: Path,
    out: Path,
    frames: FrameOptions,
    val_fraction: float,
    test_fraction: float,
    height_width: tuple[int, int],
    fit: Fit,
    seed: int,
    num_workers: int | None,
    json_path: str | None,
) -> None:
    """Turn N-MNIST's folders in SRC (Train/, Test/ or one of them) into Metavision's layout in OUT.

    A recording that cannot be used does not stop the others.

    Example: edgeclf dataset nmnist N-MNIST nmnist --delta-t 20000
    """
    recipe = frames.recipe(height_width)
    _, sensor_size = fit_events(Events.empty(), *height_width, fit)
    recipe.check(sensor_size)
    files = find_nmnist(src, val_fraction, test_fraction, seed)
    targets = [recording.tensor_file(out) for recording in files]
    check_no_others(out, set(targets))
    check_can_write(targets[0])
    remove_leftovers(kind for path in targets for kind in (path, path.with_name(f"{path.stem}_bbox.npy")))
    height, width = height_width
    convert = partial(convert_nmnist, out=out, recipe=recipe, height=height, width=width, fit=fit)
    with progress(run_jobs(convert, files, num_workers), "recordings", len(files)) as results:
        outcomes = list(results)
    write_label_map(out, DIGITS)
    made = [recording for recording, outcome in zip(files, outcomes, strict=True) if isinstance(outcome, int)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, EdgeclfError)]
    counts = Counter(recording.split for recording in made)
    splits = {split: counts[split] for split in ("train", "val", "test")}
    say(f"{out}: " + ", ".join(f"{count} recordings for {split}" for split, count in splits.items()))
    if json_path is not None:
        total = sum(outcome for outcome in outcomes if isinstance(outcome, int))
        problems = [str(error) for error in errors]
        write_json(json_path, {"out": str(out), "recordings": splits, "frames": total, "problems": problems})
    raise_problems([], errors, len(made))
