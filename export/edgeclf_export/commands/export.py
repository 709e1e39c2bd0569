"""`edgeclf export`: a checkpoint to files that run elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click

from edgeclf.data.dataset import Split
from edgeclf_export.accuracy import DataSet
from edgeclf_export.export import ExportedFile, ExportRequest, export_checkpoint
from edgeclf_export.formats import FORMATS, ExportOptions, formats_table
from edgeclf_runtime.console import json_option, progress, table, verbosity_options, write_json
from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.precision import PRECISIONS, Precision
from edgeclf_runtime.self_test import difference_table


def _list_formats(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        click.echo(table(*formats_table(), of_words=True))
        context.exit()


_SUMMARIES = "; ".join(f"{known.name}: {known.summary}" for known in FORMATS.values())
_SPLITS = click.Choice(get_args(Split))


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--format", "formats", type=click.Choice(list(FORMATS)), multiple=True, default=("onnx",),
              show_default=True, help=f"May be repeated. {_SUMMARIES}.")  # fmt: skip
@click.option("--precision", "precisions", type=click.Choice(list(PRECISIONS)), multiple=True, default=("fp32",),
              show_default=True, help="May be repeated; all but fp32 need --dataset.")  # fmt: skip
@click.option("--name", help="Name of the files; the checkpoint's unless given.")
@click.option("--dataset", type=click.Path(path_type=Path), metavar="DIR",
              help="The checkpoint's data set: its frames prove every file, and its KPIs fp16 and int8.")  # fmt: skip
@click.option("--split", type=_SPLITS, default="test", show_default=True, help="Split of --dataset to prove files on.")
@click.option("--calibration-split", type=_SPLITS, default="train", show_default=True,
              help="Split of --dataset whose frames choose int8's ranges.")  # fmt: skip
@click.option("--max-accuracy-drop", type=click.FloatRange(min=0), default=0.01, show_default=True,
              help="By how much the accuracy of an fp16 or int8 file may fall.")  # fmt: skip
@click.option("--batch", type=click.IntRange(min=1), help="Fix the number of streams of a step; any unless given.")
@click.option("--opset", type=click.IntRange(min=18), help="ONNX operator set; 18 unless given.")
@click.option("--float32-edges", is_flag=True,
              help="In fp16, keep frames, keep_memory, logits and probabilities in float32.")  # fmt: skip
@click.option("--sensor-size", type=click.IntRange(min=1), nargs=2, metavar="WIDTH HEIGHT",
              help="Sensor of the events that onnx-events takes, where the checkpoint does not say.")  # fmt: skip
@click.option("--trust-checkpoint", is_flag=True,
              help="Load a checkpoint that holds Python objects besides weights; it can run any code.")  # fmt: skip
@click.option("--list-formats", is_flag=True, expose_value=False, is_eager=True, callback=_list_formats,
              help="Show the formats and exit.")  # fmt: skip
@json_option
@verbosity_options
def export(
    checkpoint: Path,
    out: Path,
    formats: tuple[str, ...],
    precisions: tuple[Precision, ...],
    name: str | None,
    dataset: Path | None,
    split: Split,
    calibration_split: Split,
    max_accuracy_drop: float,
    batch: int | None,
    opset: int | None,
    float32_edges: bool,
    sensor_size: tuple[int, int] | None,
    trust_checkpoint: bool,
    json_path: str | None,
) -> None:
    """Export CHECKPOINT to OUT/NAME.onnx and other formats; each file is run beside PyTorch before it is kept.

    Beside each model stand its golden vectors; `edgeclf inspect --check` replays those of an .onnx on a device.

    Example: edgeclf export runs/nmnist/best.ckpt exported --precision fp32 --precision int8 --dataset nmnist
    """
    request = ExportRequest(
        checkpoint,
        out,
        formats,
        precisions,
        name,
        ExportOptions(opset, batch, float32_edges, sensor_size),
        None if dataset is None else DataSet(dataset, split, calibration_split, max_accuracy_drop),
        trust_checkpoint,
    )
    request.check()
    made: list[ExportedFile] = []
    failure: EdgeclfError | None = None
    with progress(_until_failure(request), "files", length=len(request.files)) as files:
        for file in files:
            if isinstance(file, EdgeclfError):
                failure = file  # what was made until then is shown first
            else:
                made.append(file)
    if json_path is not None:
        write_json(json_path, {"files": [file.to_dict() for file in made]})
    if json_path != "-" and made:
        click.echo("\n\n".join(map(_described, made)))
    if failure is not None:
        raise failure


def _until_failure(request: ExportRequest) -> Iterator[ExportedFile | EdgeclfError]:
    """Yields the files that are made, and at last what kept the next from being made, where something did."""
    try:
        yield from export_checkpoint(request)
    except EdgeclfError as error:
        yield error


def _described(file: ExportedFile) -> str:
    """Returns what was found of a file: differences an output, and KPIs where these decided."""
    lines = [str(file.path), difference_table(file.validation, "beside PyTorch")]
    if file.accuracy is not None:
        before, after = file.accuracy.before["accuracy"], file.accuracy.after["accuracy"]
        lines.append(f"accuracy: {before:.4f} in PyTorch, {after:.4f} here (may fall by {file.accuracy.max_drop:g})")
    return "\n".join(lines)
