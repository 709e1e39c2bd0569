"""`edgeclf export`: a checkpoint to files that run elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from edgeclf.data.dataset import Split
from edgeclf_export.accuracy import DataSet
from edgeclf_export.export import ExportedFile, ExportRequest, export_checkpoint
from edgeclf_export.formats import FORMATS, ExportOptions, formats_table
from edgeclf_runtime.console import json_option, progress, table, verbosity_options, write_json
from edgeclf_runtime.precision import PRECISIONS, Precision


def _list_formats(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        click.echo(table(*formats_table(), of_words=True))
        context.exit()


_SPLITS = click.Choice(get_args(Split))


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--format", "formats", type=click.Choice(list(FORMATS)), multiple=True, default=("onnx",),
              show_default=True, help="May be repeated.")  # fmt: skip
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

    Beside each model stand its golden vectors, which `edgeclf inspect --check` replays on a device.

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
    with progress(export_checkpoint(request), "files", length=len(request.files)) as made:
        files = list(made)
    if json_path is not None:
        write_json(json_path, {"files": [file.to_dict() for file in files]})
    if json_path != "-":
        click.echo(table(_HEADER, map(_row, files)))


_HEADER = ("file", "steps", "largest difference", "mean", "relative", "same class", "accuracy")


def _row(file: ExportedFile) -> tuple[object, ...]:
    found = file.validation
    name, worst = found.worst
    accuracy = ""
    if file.accuracy is not None:
        accuracy = f"{file.accuracy.before['accuracy']:.4f} -> {file.accuracy.after['accuracy']:.4f}"
    return (
        file.path,
        found.steps,
        f"{name} {worst.max_absolute:.1e}",
        f"{max(d.mean_absolute for d in found.outputs.values()):.1e}",
        f"{max(d.relative for d in found.outputs.values()):.1e}",
        f"{found.top1_agreement:.2%}",
        accuracy,
    )
