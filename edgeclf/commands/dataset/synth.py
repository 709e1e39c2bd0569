"""`edgeclf dataset synth`: the synthetic gesture data set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from edgeclf.commands.dataset.options import FrameOptions, frame_options, workers_option
from edgeclf.data.synth.dataset import SENSOR_SIZE, SplitSizes, synthesise
from edgeclf_runtime.console import json_option, progress, say, verbosity_options, write_json
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.machine.cores import usable_processors


@click.command("synth")
@click.argument("out", type=click.Path(path_type=Path))
@frame_options(20_000)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="The same seed makes the same files.")  # fmt: skip
@click.option("--recordings", type=click.IntRange(min=0), nargs=3, metavar="TRAIN VAL TEST", default=(96, 16, 24),
              show_default=True, help="Recordings of each split, three gestures each.")  # fmt: skip
@click.option("--height-width", type=click.IntRange(min=1), nargs=2, metavar="HEIGHT WIDTH", default=(64, 64),
              show_default=True, help="Size of the frames, made of 320×320 pixels.")  # fmt: skip
@workers_option
@json_option
@verbosity_options
def synth_command(
    out: Path,
    frames: FrameOptions,
    seed: int,
    recordings: tuple[int, int, int],
    height_width: tuple[int, int],
    num_workers: int | None,
    json_path: str | None,
) -> None:
    """Simulate hands that show rock, paper or scissors: EVT3 recordings in OUT/raw and Metavision's layout beside them.

    Example: edgeclf dataset synth gestures --seed 1
    """
    sizes = SplitSizes(*recordings)
    if not sizes.total:
        raise UsageError("A data set needs recordings; give --recordings at least one number that is not 0.")
    recipe = frames.recipe(height_width)
    recipe.check(SENSOR_SIZE)
    made = synthesise(out, sizes, recipe, seed, num_workers or usable_processors())
    with progress(made, "recordings", length=sizes.total) as results:
        names = list(results)
    say(f"{out}: {sizes.train} recordings for train, {sizes.val} for val, {sizes.test} for test")
    if json_path is not None:
        write_json(json_path, {"out": str(out), "seed": seed, "recordings": asdict(sizes), "names": names})
