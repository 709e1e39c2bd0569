"""`edgeclf export`: a checkpoint to files that run elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from edgeclf_export.export import export_checkpoint
from edgeclf_export.formats import FORMATS
from edgeclf_runtime.console import json_option, progress, table, verbosity_options, write_json


def _list_formats(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        click.echo(table(("format", "file"), [(f"{f.name}: {f.summary}", f"NAME{f.suffix}") for f in FORMATS.values()]))
        context.exit()


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--format", "formats", type=click.Choice(list(FORMATS)), multiple=True, default=("onnx",),
              show_default=True, help="May be repeated.")  # fmt: skip
@click.option("--name", help="Name of the files; the checkpoint's unless given.")
@click.option("--list-formats", is_flag=True, expose_value=False, is_eager=True, callback=_list_formats,
              help="Show the formats and exit.")  # fmt: skip
@json_option
@verbosity_options
def export(checkpoint: Path, out: Path, formats: tuple[str, ...], name: str | None, json_path: str | None) -> None:
    """Export CHECKPOINT to OUT/NAME.onnx, OUT/NAME.ts; each file is run beside PyTorch before it is kept.

    Example: edgeclf export runs/nmnist/best.ckpt exported --format onnx --format torchscript
    """
    with progress(export_checkpoint(checkpoint, out, formats, name), "formats", length=len(formats)) as made:
        files = list(made)
    document = [
        {
            "path": str(file.path),
            "format": file.format,
            "steps": file.validation.steps,
            "tolerance": file.validation.tolerance,
            "max_difference": file.validation.max_difference,
        }
        for file in files
    ]
    if json_path is not None:
        write_json(json_path, {"files": document})
    if json_path != "-":
        rows = [
            (
                file.path,
                file.validation.steps,
                "{} {:.1e}".format(*file.validation.worst),
                f"{file.validation.tolerance:g}",
            )
            for file in files
        ]
        click.echo(table(("file", "chained steps", "largest difference from PyTorch", "let through"), rows))
