"""`edgeclf test`: KPIs of a checkpoint on a data set."""

from __future__ import annotations

from pathlib import Path

import click

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data.dataset import Split
from edgeclf.data_module import ClassificationDataModule
from edgeclf.evaluation import evaluate
from edgeclf.utils_metrics import compute_kpis
from edgeclf_runtime.console import json_option, progress, table, verbosity_options, write_json


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@json_option
@verbosity_options
def test(checkpoint: Path, dataset: Path, split: Split, json_path: str | None) -> None:
    """Show the KPIs of CHECKPOINT in PyTorch on DATASET.

    Example: edgeclf test runs/nmnist/best.ckpt nmnist
    """
    loaded = load_checkpoint(checkpoint)
    hyper = loaded.hyperparameters
    data = ClassificationDataModule(hyper.to_dict(), dataset)
    with progress(data.sequences(split), "batches") as batches:
        recordings = evaluate(loaded.build_model(), batches)
    kpis = compute_kpis([recording.result() for recording in recordings], hyper.labels, hyper.delta_t)
    if json_path is not None:
        write_json(json_path, {"kpis": kpis})
    if json_path != "-":
        click.echo(table(("KPI", "value"), [(name, f"{value:.4f}") for name, value in kpis.items()]))
