"""`edgeclf parity`: KPIs of an exported model beside PyTorch's."""

from __future__ import annotations

from pathlib import Path

import click

from edgeclf.data.dataset import Split
from edgeclf_export.parity import ParityCheck, ParityReport
from edgeclf_export.report import write_report
from edgeclf_runtime.console import json_option, progress, table, verbosity_options, write_json
from edgeclf_runtime.errors import CheckFailedError
from edgeclf_runtime.session import Device


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), default="cpu", show_default=True,
              help="Where the exported model runs.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path), metavar="DIR", help="Write parity.html there.")
@json_option
@verbosity_options
def parity(
    checkpoint: Path,
    model: Path,
    dataset: Path,
    split: Split,
    device: Device,
    report: Path | None,
    json_path: str | None,
) -> None:
    """Run CHECKPOINT in PyTorch and MODEL in the runtime over a split of DATASET and compare their KPIs.

    Exit code 1 where a KPI differs by more than its tolerance.

    Example: edgeclf parity runs/nmnist/best.ckpt exported/best.onnx nmnist
    """
    result = run_parity(ParityCheck(checkpoint, model, dataset, split, device))
    if json_path is not None:
        write_json(json_path, result.to_dict())
    if report is not None:
        facts = [
            ("checkpoint", str(checkpoint)),
            ("exported", str(model)),
            ("data set", f"{dataset}, {split}"),
        ]
        write_report(report / "parity.html", result, [*facts, *summary(result)])
    if json_path != "-":
        click.echo(kpi_table(result))
        for name, value in summary(result):
            click.echo(f"{name}: {value}")
    if not result:
        failed = ", ".join(name for name, kpi in result.kpis.items() if not kpi.passed)
        raise CheckFailedError(
            f"{model} is not the classifier that {checkpoint} is in PyTorch: {failed} differ beyond tolerance."
        )


def run_parity(check: ParityCheck) -> ParityReport:
    """Runs a check with a progress bar over its recordings."""
    with progress(check.exported_results(), "recordings", length=len(check)) as results:
        exported = list(results)
    return check.compare(exported)


def kpi_table(result: ParityReport) -> str:
    """Returns the KPIs of both sides as a table."""
    rows = [
        (
            name, f"{kpi.reference:.4f}", f"{kpi.exported:.4f}", kpi.difference_text, f"{kpi.tolerance:g}",
            "passed" if kpi.passed else "FAILED",
        )
        for name, kpi in result.kpis.items()
    ]  # fmt: skip
    return table(("KPI", "PyTorch", "exported", "difference", "tolerance", ""), rows)


def summary(result: ParityReport) -> list[tuple[str, str]]:
    """Returns what the comparison found besides KPIs, name and value, the verdict last."""
    return [
        ("frames", str(result.frames)),
        ("same class", f"{result.top1_agreement:.4%}"),
        ("largest difference of a logit", f"{result.max_abs_logit_difference:.2e}"),
        ("parity", "passed" if result else "FAILED"),
    ]
