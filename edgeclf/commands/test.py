"""`edgeclf test`: KPIs of a checkpoint on a data set, and their plots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data.dataset import LabelledRecording, Split
from edgeclf.data_module import ClassificationDataModule
from edgeclf.evaluation import RecordingLogits, evaluate
from edgeclf.hyperparameters import HyperParameters
from edgeclf.utils_metrics import (
    RecordingKpis,
    calculate_time_to_prediction,
    compute_kpis,
    compute_recording_kpis,
    evaluate_preds_seq,
    plot_cm,
    plot_precision_recall_curve,
    plot_reliability,
    plot_roc,
)
from edgeclf_runtime.console import check_can_write, json_option, progress, say, table, verbosity_options, write_json
from edgeclf_runtime.contract import background_index
from edgeclf_runtime.errors import UsageError


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option("--plots", type=click.Path(path_type=Path), metavar="DIR",
              help="Write confusion, precision and recall, ROC, reliability and time to prediction there as pictures, "
              "and a page of the worst recordings, worst/index.html.")  # fmt: skip
@click.option("--worst", type=click.IntRange(min=1), default=10, show_default=True,
              help="How many recordings that page shows.")  # fmt: skip
@click.option(
    "--recordings", "per_recording", is_flag=True, help="Show a line for each recording, too; --json always has them."
)
@json_option
@verbosity_options
def test(
    checkpoint: Path,
    dataset: Path,
    split: Split,
    plots: Path | None,
    worst: int,
    per_recording: bool,
    json_path: str | None,
) -> None:
    """Show the KPIs of CHECKPOINT in PyTorch on DATASET.

    Example: edgeclf test runs/nmnist/best.ckpt nmnist --plots figures
    """
    if plots is not None:
        check_can_write(plots / "worst" / "index.html")
    if json_path is not None and checkpoint.is_file() and Path(json_path).is_file() and checkpoint.samefile(json_path):
        raise UsageError(f"{json_path}: this would overwrite the checkpoint; give --json another place to write to.")
    loaded = load_checkpoint(checkpoint)
    hyper = loaded.hyperparameters
    sequences = ClassificationDataModule(hyper.to_dict(), dataset).sequences(split)
    with progress(sequences, "batches") as batches:
        found = evaluate(loaded.build_model(), batches)
    results = [recording.result() for recording in found]
    kpis = compute_kpis(results, hyper.labels, hyper.frame_duration)
    recordings = compute_recording_kpis(results, hyper.labels, hyper.frame_duration)
    if json_path is not None:
        write_json(json_path, {"kpis": kpis, "recordings": [recording.to_dict() for recording in recordings]})
    if json_path != "-":
        click.echo(table(("KPI", "value"), [(name, f"{value:.4f}") for name, value in kpis.items()]))
        if per_recording:
            click.echo("\n" + _recording_table(recordings))
    if plots is not None:
        with progress(_plots(plots, found, sequences.recordings, hyper, worst), "plots") as steps:
            for step in steps:
                step()
        say(f"{plots}: the plots are there, and the worst recordings in {plots / 'worst' / 'index.html'}")


def _plots(
    folder: Path,
    found: Sequence[RecordingLogits],
    recordings: Sequence[LabelledRecording],
    hyper: HyperParameters,
    worst: int,
) -> list[Callable[[], object]]:
    """Returns what makes the plots, one after another."""
    results = [recording.result() for recording in found]
    right_of_each = [result.labels for result in results]
    predictions_of_each = [result.predictions for result in results]
    right, predictions = torch.cat(right_of_each), torch.cat(predictions_of_each)
    probabilities = torch.cat([result.probabilities for result in results])
    labels = hyper.labels
    times = calculate_time_to_prediction(
        predictions_of_each, right_of_each, hyper.frame_duration, background_index(labels)
    )
    files = {str(recording.path): recording for recording in recordings}
    vectors = {
        recording.path: (files[recording.path].ends_us, result.predictions, result.labels)
        for recording, result in zip(found, results, strict=True)
    }
    return [
        lambda: plot_cm(predictions, right, labels, path=folder / "confusion.png"),
        lambda: plot_precision_recall_curve(probabilities, right, labels, path=folder / "precision_recall.png"),
        lambda: plot_roc(probabilities, right, labels, path=folder / "roc.png"),
        lambda: plot_reliability(probabilities, right, labels, path=folder / "reliability.png"),
        lambda: times.plot(folder / "time_to_prediction.png"),
        lambda: evaluate_preds_seq(
            predictions_of_each,
            right_of_each,
            vectors,
            hyper.to_dict(),
            times.latency_seq,
            worst=worst,
            out=folder / "worst",
            open_frames=lambda path: files[str(path)].open(),
        ),
    ]


def _recording_table(recordings: Sequence[RecordingKpis]) -> str:
    """Returns the KPIs of each recording as a table."""
    rows = [
        (
            recording.name, recording.frames, f"{recording.accuracy:.4f}", recording.label or "-",
            recording.prediction or "-", recording.gestures, recording.never_recognised,
            f"{recording.t2p_median_ms:.1f}",
        )
        for recording in recordings
    ]  # fmt: skip
    header = ("recording", "frames", "accuracy", "label", "majority", "gestures", "never recognised", "t2p_median_ms")
    return table(header, rows)
