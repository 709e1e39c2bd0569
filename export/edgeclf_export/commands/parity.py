"""`edgeclf parity`: KPIs of an exported model beside the checkpoint's."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from edgeclf.data.dataset import Split
from edgeclf_export.parity import ParityCheck, ParityReport
from edgeclf_export.parity.report import Drift, McNemar, Parting
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
        checkpoint, model, dataset, split, device_options, tolerances, drift, trust_checkpoint, metavision
    )
    result = check.run(progress)
    if json_path is not None:
        write_json(json_path, result.to_dict())
    if report is not None:
        from edgeclf_export.parity.page import write_parity_page

        other = [] if metavision is None else [("reference", str(metavision))]
        facts = [("checkpoint", str(checkpoint)), *other, ("exported", str(model)), ("data set", f"{dataset}, {split}")]
        write_parity_page(report / "parity.html", result, facts)
    if json_path != "-":
        click.echo(kpi_table(result))
        for name, value in summary(result):
            click.echo(f"{name}: {value}")
    if not result:
        right = f"{checkpoint} is in PyTorch" if metavision is None else f"{metavision} is"
        raise CheckFailedError(
            f"{model} is not the classifier that {right}: {', '.join(result.failed)} differ beyond tolerance."
        )


def kpi_table(result: ParityReport) -> str:
    """Returns the KPIs of both sides as a table."""
    rows = [
        (
            name, f"{kpi.reference:.4f}", f"{kpi.exported:.4f}", kpi.difference_text, f"{kpi.tolerance:g}",
            "passed" if kpi.passed else "FAILED",
        )
        for name, kpi in result.kpis.items()
    ]  # fmt: skip
    return table(("KPI", result.reference.name, "exported", "difference", "tolerance", ""), rows)


def summary(result: ParityReport) -> list[tuple[str, str]]:
    """Returns what the comparison found besides KPIs, name and value, the verdict last."""
    return [
        ("frames", str(result.frames)),
        ("same class", f"{result.top1_agreement:.4%}, all but {result.disagreements}"),
        ("ties among those", f"{result.ties}"),
        ("largest difference of a logit", f"{result.max_abs_logit_difference:.2e}"),
        ("first parting", _parting_in_words(result.first_parting)),
        ("drift of the state", _drift_in_words(result.drift)),
        ("McNemar's test", _mcnemar_in_words(result.mcnemar)),
        ("parity", "passed" if result else "FAILED"),
    ]


def _parting_in_words(parting: Parting | None) -> str:
    if parting is None:
        return "none; both name the same class in every frame"
    time = "" if parting.t_us is None else f" (until {parting.t_us} µs)"
    sides = [
        f"{label} ({probabilities[label]:.4f})"
        for label, probabilities in (
            (parting.reference_label, parting.reference),
            (parting.exported_label, parting.exported),
        )
    ]
    return f"{parting.recording}, frame {parting.frame}{time}: {sides[0]} in the reference, {sides[1]} exported"


def _drift_in_words(drift: Drift | None) -> str:
    if drift is None:
        return "not compared"
    grows = "grows" if drift.grows else "does not grow"
    return f"median {drift.early:.1e} early in a recording, {drift.late:.1e} late; it {grows}"


def _mcnemar_in_words(test: McNemar) -> str:
    reference, exported = test.only_reference_right, test.only_exported_right
    return f"p = {test.p_value:.3g} (right on one side alone: reference {reference}, exported {exported})"
