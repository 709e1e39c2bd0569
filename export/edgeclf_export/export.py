"""Exporting a checkpoint: write, load again, prove; a file that fails does not stay."""

from __future__ import annotations

import hashlib
import logging
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from edgeclf.checkpoint import Checkpoint, load_checkpoint
from edgeclf_export.accuracy import AccuracyCheck, DataSet, ProvingGround
from edgeclf_export.formats import FORMATS, Array, ExportFormat, ExportJob, ExportOptions, Step
from edgeclf_export.step_graph import contract_of
from edgeclf_export.validation import golden_vectors, validate
from edgeclf_runtime.comparison import Comparison
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import CheckFailedError, EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.files import written_together
from edgeclf_runtime.golden import golden_bytes, golden_path
from edgeclf_runtime.precision import Precision

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportRequest:
    """What is to be exported, to where, and how it is to be proved.

    Attributes:
        checkpoint: The checkpoint.
        out: The folder for `NAME.onnx`, `NAME.int8.onnx`, `NAME.ts`, and so on.
        formats: Names out of `FORMATS`.
        precisions: Every format is written in each of them.
        name: `NAME`; the checkpoint's, unless given.
        options: What else is asked of the files.
        data: The data set to prove them on; needed for every precision but fp32.
        trusted: Load the checkpoint whatever it holds; see `load_checkpoint`.
    """

    checkpoint: Path
    out: Path
    formats: Sequence[str] = ("onnx",)
    precisions: Sequence[Precision] = ("fp32",)
    name: str | None = None
    options: ExportOptions = field(default_factory=ExportOptions)
    data: DataSet | None = None
    trusted: bool = False

    @property
    def name_of_files(self) -> str:
        """`NAME`."""
        return self.name or self.checkpoint.stem

    @property
    def files(self) -> list[tuple[ExportFormat, Precision]]:
        """The files to write, each once: format and precision."""
        return [(FORMATS[name], p) for name in dict.fromkeys(self.formats) for p in dict.fromkeys(self.precisions)]

    def check(self) -> None:
        """Raises a UsageError (or MissingPackageError) where something in it cannot work, before anything is done."""
        if unknown := [name for name in self.formats if name not in FORMATS]:
            raise UsageError(f"There is no format {unknown[0]!r}; there are {', '.join(FORMATS)}.")
        if self.name is not None and (Path(self.name).name != self.name or self.name in ("", ".", "..")):
            raise UsageError(f"{self.name!r} is no file's name; --name takes one without folders, and OUT says where.")
        if not self.name_of_files.isprintable():
            raise UsageError(f"{self.name_of_files!r} is no file's name that can be printed; give another --name.")
        if self.options.float32_edges and "fp16" not in self.precisions:
            raise UsageError("--float32-edges is about fp16: give --precision fp16 too, or leave it out.")
        for format_, precision in self.files:
            format_.check(precision, self.options)
            if precision != "fp32" and self.data is None:
                raise UsageError(
                    f"An export in {precision} is proved by the KPIs of a data set: give --dataset, the one that the "
                    "checkpoint was trained on."
                )

    def command(self, format_: ExportFormat, precision: Precision) -> str:
        """Returns the command that makes one of the files, without folders, so that it is the same everywhere."""
        words = ["edgeclf", "export", self.checkpoint.name, "OUT", "--format", format_.name, "--precision", precision]
        words += ["--name", self.name_of_files]
        for option in self.options.given:
            value = getattr(self.options, option)
            words += [f"--{option.replace('_', '-')}", *([] if value is True else map(str, _listed(value)))]
        if self.data is not None:
            words += ["--dataset", self.data.path.resolve().name, "--split", self.data.split]
            words += ["--calibration-split", self.data.calibration_split] if precision == "int8" else []
        if self.trusted:
            words.append("--trust-checkpoint")
        return shlex.join(words)


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written and passed its proofs.

    Attributes:
        path: The model.
        format: Name of its format.
        contract: What is inside it.
        validation: Chained steps beside PyTorch.
        accuracy: KPIs before and after; None where no data set decided.
    """

    path: Path
    format: str
    contract: Contract
    validation: Comparison
    accuracy: AccuracyCheck | None

    def to_dict(self) -> dict[str, Any]:
        """Returns what a JSON document says of it."""
        return {
            "path": str(self.path),
            "format": self.format,
            "precision": self.contract.precision,
            "validation": self.validation.to_dict(),
            "accuracy": None if self.accuracy is None else self.accuracy.to_dict(),
        }


def export_checkpoint(request: ExportRequest) -> Iterator[ExportedFile]:
    """Exports a checkpoint; yields each file when it has passed.

    Raises:
        InputFileError: Where the checkpoint or the data set cannot be used.
        UsageError: Where what is asked for cannot be had.
        MissingPackageError: Where a package that a format needs is not installed.
        CheckFailedError: Where a file does not compute what PyTorch does, or its accuracy is too low; it is not left
            behind, and what was exported before is.
    """
    request.check()
    checkpoint = load_checkpoint(request.checkpoint, request.trusted)
    if not all(bool(torch.isfinite(value).all()) for value in checkpoint.weights.values()):
        raise InputFileError(
            f"{request.checkpoint}: some of its weights are not finite numbers, as after a training that diverged; "
            "export another checkpoint."
        )
    exporter = _Exporter(request, checkpoint)
    contracts = [exporter.contract(format_, precision) for format_, precision in request.files]
    for (format_, _), contract in zip(request.files, contracts, strict=True):
        yield exporter.export(format_, contract)


class _Exporter:
    """One checkpoint, and what all its files share."""

    def __init__(self, request: ExportRequest, checkpoint: Checkpoint) -> None:
        self._request = request
        self._hyperparameters = checkpoint.hyperparameters
        self._classifier = checkpoint.build_model()
        self._contract = contract_of(checkpoint, self._classifier)
        self._ground = None if request.data is None else ProvingGround(checkpoint, request.data)
        self._frames: list[Array] = [] if self._ground is None else self._ground.validation(self._contract)

    @cached_property
    def _calibration(self) -> list[Array]:
        """Frames for int8, the same for every format, so that they are read once."""
        return [] if self._ground is None else self._ground.calibration(self._contract)

    def contract(self, format_: ExportFormat, precision: Precision) -> Contract:
        """Returns what a file will say, its golden vectors' digest left out; raises where it cannot be made."""
        contract = format_.contract(replace(self._contract, precision=precision), self._request.options)
        return replace(contract, command=self._request.command(format_, precision))

    def export(self, format_: ExportFormat, contract: Contract) -> ExportedFile:
        """Writes one file, loads it as it was written, proves it, and only then puts it in its place."""
        golden = golden_bytes(golden_vectors(contract, self._classifier, self._frames))
        contract = replace(contract, golden_sha256=hashlib.sha256(golden).hexdigest())
        precision, name = contract.precision, self._request.name_of_files
        place = format_.path(name, precision)
        target = self._request.out / place
        with written_together(self._request.out, name, last=place) as folder:
            written = folder / place
            written.parent.mkdir(parents=True, exist_ok=True)
            begin = time.perf_counter()
            step, inside = self._written(format_, contract, written, target)
            golden_path(written).write_bytes(golden)
            middle = time.perf_counter()
            if inside != contract:
                raise CheckFailedError(f"{target}: the contract did not come through into the file; it was not kept.")
            validation = validate(step, inside, self._classifier, self._frames)
            if not validation:
                raise CheckFailedError(
                    f"{target}: the {format_.name} file does not compute what PyTorch does: "
                    f"{'; '.join(validation.problems)}; it was not kept. {_REMEDY[precision]}"
                )
            accuracy = self._accuracy(step, inside, target)
            _log.info("%s: written in %.1f s, proved in %.1f s", target, middle - begin, time.perf_counter() - middle)
        return ExportedFile(target, format_.name, inside, validation, accuracy)

    def _written(self, format_: ExportFormat, contract: Contract, path: Path, target: Path) -> tuple[Step, Contract]:
        """Writes a file and loads it again."""
        hyper = self._hyperparameters
        calibration = self._calibration if contract.precision == "int8" else []
        job = ExportJob(self._classifier, contract, calibration, hyper.label_delta_t, hyper.use_label_freq)
        try:
            format_.write(job, path)
            return format_.load(path)
        except EdgeclfError:
            raise
        except Exception as error:  # exporters and runtimes raise anything, their own classes and others
            first = str(error).strip().splitlines() or [""]
            raise EdgeclfError(
                f"{target}: it cannot be written as {format_.name} ({type(error).__name__}: {first[0]}); install the "
                "versions of torch, onnx, onnxscript and onnxruntime that constraints.txt names."
            ) from error

    def _accuracy(self, step: Step, contract: Contract, target: Path) -> AccuracyCheck | None:
        if self._ground is None or contract.precision == "fp32":
            return None
        accuracy = self._ground.check(step, contract)
        if not accuracy:
            raise CheckFailedError(
                f"{target}: its accuracy is {accuracy.after['accuracy']:.4f}, and the checkpoint's "
                f"{accuracy.before['accuracy']:.4f}; it may fall by {accuracy.max_drop:g} (--max-accuracy-drop). "
                "It was not kept."
            )
        return accuracy


_REMEDY = {
    "fp32": "Please report this with the versions that `edgeclf --version` and `pip list` show.",
    "fp16": "This classifier's values do not fit float16; export it in fp32.",
    "int8": "Calibrate on recordings like those that it will see (--dataset, --calibration-split), or export in fp16.",
}


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, tuple) else (value,)
