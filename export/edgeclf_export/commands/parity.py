"""`edgeclf parity`: KPIs of an exported model beside the checkpoint's."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from edgeclf.data.dataset import Split
from edgeclf_export.parity import ParityCheck, ParityReport
from edgeclf_export.parity.page import write_parity_page
from edgeclf_export.parity.text import (
    KPI_HEADINGS,
    drift_text,
    findings,
    kpi_rows,
    mcnemar_text,
    parting_text,
    reasons_text,
    verdict,
)
from edgeclf_runtime.commands.option_groups import device_options as where_options
from edgeclf_runtime.console import check_can_write, json_option, progress, table, verbosity_options, write_json
from edgeclf_runtime.errors import CheckFailedError
from edgeclf_runtime.session import DeviceOptions


def _tolerances(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """Reads `NAME=VALUE`, any number of times; a label in the name may hold `=` itself."""
    found = {}
    for text in values:
        name, equals, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            equals = ""
        if not name or not equals:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE, such as precision=0.02.")
    return found


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--split", type=click.Choice(get_args(Split)), default="test", show_default=True)
@click.option("--tolerance", "tolerances", metavar="NAME=VALUE", multiple=True, callback=_tolerances,
              help="By how much a KPI may differ; NAME is a KPI, or precision, recall, auroc or t2p for all of a kind. "
                   "May be repeated; the rest is as MODEL's precision says.")  # fmt: skip
@click.option("--against", nargs=2, type=(click.Choice(["metavision"]), click.Path(path_type=Path)),
              metavar="metavision DIR",
              help="Hold MODEL against a Metavision TorchScript export (model_classifier.ptjit and its .json), and not "
                   "against CHECKPOINT, which still says how DATASET is read.")  # fmt: skip
@click.option("--drift/--no-drift", default=True, show_default=True,
              help="Compare the state too, frame by frame.")  # fmt: skip
@click.option("--trust-checkpoint", is_flag=True,
              help="Load a checkpoint that holds Python objects besides weights; it can run any code.")  # fmt: skip
@click.option("--report", type=click.Path(path_type=Path), metavar="DIR", help="Write parity.html there.")
@where_options("cpu")  # what is compared shall be the same on every machine
@json_option
@verbosity_options
def parity(
    checkpoint: Path,
    model: Path,
    dataset: Path,
    split: Split,
    tolerances: dict[str, float],
    against: tuple[str, Path] | None,
    drift: bool,
    trust_checkpoint: bool,
    report: Path | None,
    device_options: DeviceOptions,
    json_path: str | None,
) -> None:
    """Run CHECKPOINT in PyTorch and MODEL in the runtime over a split of DATASET and compare their KPIs.

    Exit code 1 where a KPI differs by more than its tolerance.

    Example: edgeclf parity runs/nmnist/best.ckpt exported/best.onnx nmnist
    """
    if report is not None:
        check_can_write(report / "parity.html")
    metavision = None if against is None else against[1]
    check = ParityCheck(
        checkpoint,
        model,
        dataset,
        split=split,
        device=device_options,
        tolerances=tolerances,
        drift=drift,
        trusted=trust_checkpoint,
        metavision=metavision,
    )
    result = check.run(progress)
    if json_path is not None:
        write_json(json_path, result.to_dict())
    if json_path != "-":
        click.echo(table(KPI_HEADINGS, kpi_rows(result)))
        for name, value in summary(result):
            click.echo(f"{name}: {value}")
    if report is not None:  # last, so that whatever befalls a picture, the rest is there
        other = [] if metavision is None else [("reference", str(metavision))]
        facts = [("checkpoint", str(checkpoint)), *other, ("exported", str(model)), ("data set", f"{dataset}, {split}")]
        write_parity_page(report / "parity.html", result, facts)
    if not result:
        right = f"{checkpoint} is in PyTorch" if metavision is None else f"{metavision} is"
        raise CheckFailedError(f"{model} is not the classifier that {right}: {reasons_text(result)}.")


def summary(result: ParityReport) -> list[tuple[str, str]]:
    """Returns what the comparison found besides KPIs, name and value, the verdict last."""
    return [
        *findings(result),
        ("first parting", parting_text(result)),
        ("drift of the state", drift_text(result)),
        ("McNemar's test", mcnemar_text(result)),
        ("parity", verdict(bool(result))),
    ]
