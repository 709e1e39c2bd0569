"""Exporting a checkpoint: write, load again, validate; a file that fails does not stay."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.formats import FORMATS
from edgeclf_export.step_graph import StepGraph, contract_of
from edgeclf_export.validation import BATCHES, STEPS, ValidationReport, validate
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import CheckFailedError, UsageError
from edgeclf_runtime.files import written_whole

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written and passed its validation."""

    path: Path
    format: str
    contract: Contract
    validation: ValidationReport


def export_checkpoint(
    checkpoint: Path, out: Path, formats: Sequence[str], name: str | None = None
) -> Iterator[ExportedFile]:
    """Exports a checkpoint to some formats; yields each file when it has passed.

    Args:
        checkpoint: The checkpoint.
        out: The folder for `NAME.onnx`, `NAME.ts`, …
        formats: Names out of `FORMATS`.
        name: `NAME`; the checkpoint's, unless given.

    Raises:
        InputFileError: Where the checkpoint cannot be used.
        CheckFailedError: Where a file does not compute what PyTorch does; it is not left behind.
    """
    if unknown := [format_ for format_ in formats if format_ not in FORMATS]:
        raise UsageError(f"There is no format {unknown[0]!r}; there are {', '.join(FORMATS)}.")
    loaded = load_checkpoint(checkpoint)
    classifier = loaded.build_model()
    contract = contract_of(loaded, classifier)
    graph = StepGraph(classifier, contract)
    for format_ in (FORMATS[key] for key in dict.fromkeys(formats)):
        path = out / f"{name or checkpoint.stem}{format_.suffix}"
        with written_whole(path) as temporary:
            _log.info("%s: writing, then running it beside PyTorch for %d steps", path, STEPS * len(BATCHES))
            written = format_.write(graph, contract, temporary)
            step, inside = format_.load(temporary)
            if inside != written:
                raise CheckFailedError(f"{path}: the contract did not come through into the file; it was not kept.")
            report = validate(step, inside, classifier)
            if not report:
                output, difference = report.worst
                raise CheckFailedError(
                    f"{path}: the {format_.name} file does not compute what PyTorch does: {output} differs by up to "
                    f"{difference:.2g}, where {report.tolerance:g} is let through; it was not kept. Please report this "
                    "with the versions that `edgeclf --version` and `pip list` show."
                )
        yield ExportedFile(path, format_.name, inside, report)
