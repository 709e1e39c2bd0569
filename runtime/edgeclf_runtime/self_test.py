"""What a device tests a model by before it trusts it: golden vectors replayed, and what came of it shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeclf_runtime.comparison import Comparison
from edgeclf_runtime.console import table
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.golden import Step, read_golden, replay, require_passed


def self_test(step: Step, contract: Contract, model: str | Path, show: Callable[[Comparison], None]) -> Comparison:
    """Replays the golden vectors beside a model, and shows what was found before it complains of it.

    Args:
        step: Runs the model.
        contract: What it says of itself.
        model: Its file.
        show: Takes the comparison, also one that is not within the tolerance.

    Raises:
        InputFileError: Where the golden vectors are not there, or not those of the model.
        CheckFailedError: Where the model does not give what it should on this machine.
    """
    comparison = replay(step, contract, read_golden(model, contract))
    show(comparison)
    require_passed(comparison, model)
    return comparison


def difference_table(comparison: Comparison, what: str = "golden vectors") -> str:
    """Returns a comparison, of which `what` is the name, as text: an output's differences a row, and the verdict."""
    allowed = comparison.tolerance
    rows: list[tuple[str, ...]] = [
        (name, f"{d.max_absolute:.2g}", f"{d.mean_absolute:.2g}", f"{d.relative:.2g}")
        for name, d in comparison.outputs.items()
    ]
    rows.append(("tolerance", f"{allowed.max_absolute:g}", "", f"{allowed.relative:g}"))
    verdict = "passed" if comparison else "not passed"
    return (
        f"{table(('output', 'max abs', 'mean abs', 'relative'), rows)}\n"
        f"{what}: {verdict}, {comparison.steps} steps, the same class named for "
        f"{comparison.top1_agreement:.2%} of the frames"
    )
