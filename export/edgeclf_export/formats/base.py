"""What an export format is."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Literal, cast

import torch

from edgeclf.models import Classifier
from edgeclf_runtime.backends import DeviceOptions, open_backend
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import MissingPackageError, UsageError
from edgeclf_runtime.golden import Array, Step
from edgeclf_runtime.precision import Precision

OPSET = 18
"""Chosen, not taken over from the installed torch: every runtime since ONNX Runtime 1.14 runs it."""

NEWEST_OPSET = 25
"""Up to this one the pinned exporter converts by itself; for later ones it falls back on another converter."""

Option = Literal["opset", "batch", "float32_edges", "sensor_size"]


@dataclass(frozen=True)
class ExportOptions:
    """What may be asked of a file besides its format and precision.

    Attributes:
        opset: ONNX operator set.
        batch: Number of streams of every step; None: any.
        float32_edges: Keep frames, `keep_memory`, logits and probabilities in float32 where the precision is fp16.
        sensor_size: Width and height of the sensor whose events go in, where the checkpoint does not say.
    """

    opset: int | None = None
    batch: int | None = None
    float32_edges: bool = False
    sensor_size: tuple[int, int] | None = None

    @property
    def given(self) -> list[Option]:
        """Names of those that were asked for."""
        return [cast("Option", f.name) for f in fields(self) if getattr(self, f.name) != f.default]


@dataclass(frozen=True)
class ExportJob:
    """One file that is to be written.

    Attributes:
        classifier: The trained classifier, in evaluation mode and float32; nobody may change it.
        contract: What the file will say of itself.
        calibration: Event frames of recordings, each `[T, C, H, W]`, to choose int8's ranges by; empty elsewhere.
        label_delta_t: Interval in µs at which the training's frames were labelled; None: every frame was.
        use_label_freq: Whether only frames at that interval counted in training.
    """

    classifier: Classifier
    contract: Contract
    calibration: Sequence[Array] = ()
    label_delta_t: int | None = None
    use_label_freq: bool = False


class ExportFormat(ABC):
    """A format that a classifier can be written in: one module, one entry of the registry.

    Attributes:
        name: What `--format` calls it.
        suffix: Of the file, or of the folder and the file in it.
        summary: One line for the list of formats.
        precisions: Those that it has.
        options: Names of the `ExportOptions` that it takes.
        packages: Importable names of what it needs besides what the `export` extra brings.
        extra: The extra of edgeclf that brings these.
    """

    name: ClassVar[str]
    suffix: ClassVar[str]
    summary: ClassVar[str]
    precisions: ClassVar[tuple[Precision, ...]] = ("fp32",)
    options: ClassVar[tuple[Option, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "export"

    def path(self, name: str, precision: Precision) -> Path:
        """Returns where the model stands in the output folder: `NAME.onnx`, or `NAME.int8.onnx`."""
        return Path(name + ("" if precision == "fp32" else f".{precision}") + self.suffix)

    def check(self, precision: Precision, options: ExportOptions) -> None:
        """Raises where the format cannot be written as asked for.

        Raises:
            UsageError: Where it lacks the precision or an option.
            MissingPackageError: Where a package that it needs is not installed.
        """
        if precision not in self.precisions:
            raise UsageError(f"The format {self.name} has no precision {precision}, only {', '.join(self.precisions)}.")
        if refused := [option for option in options.given if option not in self.options]:
            raise UsageError(
                f"The format {self.name} takes no --{refused[0].replace('_', '-')}; export it in a command of its own."
            )
        if options.opset is not None and not OPSET <= options.opset <= NEWEST_OPSET:
            raise UsageError(f"Opset {options.opset} cannot be written, only {OPSET} to {NEWEST_OPSET}.")
        if missing := [package for package in self.packages if importlib.util.find_spec(package) is None]:
            raise MissingPackageError(
                f"The format {self.name} needs {missing[0]}, which is not installed: pip install "
                f"'edgeclf[{self.extra}]'."
            )

    def contract(self, contract: Contract, options: ExportOptions) -> Contract:
        """Returns what a file of this format will say, from the contract of a step graph in its precision."""
        half = contract.precision == "fp16"
        return replace(
            contract,
            batch=options.batch,
            edge_type="float16" if half and not options.float32_edges else "float32",
            state_type="float16" if half else "float32",
        )

    @abstractmethod
    def write(self, job: ExportJob, path: Path) -> None:
        """Writes the model to `path`, whose folder is empty and its own; other files may go beside it."""

    def load(self, path: Path) -> tuple[Step, Contract]:
        """Loads a model that was written, as the runtime does on the CPU, and returns its step and its contract."""
        # The threads are the process's, which to open a file of PyTorch's would change.
        backend = open_backend(path, DeviceOptions("cpu", threads=torch.get_num_threads()))
        return backend.run, backend.contract


__all__ = ["OPSET", "Array", "ExportFormat", "ExportJob", "ExportOptions", "Option", "Step"]
