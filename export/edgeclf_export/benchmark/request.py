"""What is to be measured: models, programs to run them beside each other, threads and streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from edgeclf_export.benchmark.torch_candidates import (
    open_compiled,
    open_eager,
    open_metavision,
    open_torchscript,
    write_metavision,
    write_torchscript,
)
from edgeclf_runtime.backends import DeviceOptions
from edgeclf_runtime.benchmark.candidates import Contender, Open
from edgeclf_runtime.benchmark.macs import multiply_adds
from edgeclf_runtime.benchmark.results import Setting
from edgeclf_runtime.benchmark.run import Plan
from edgeclf_runtime.benchmark.runtime_candidates import open_edgeclf, open_openvino, open_ort
from edgeclf_runtime.contract import EVENTS, Contract
from edgeclf_runtime.contract_file import model_file, model_kind, read_contract
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.precision import Precision

RUNTIME = "edgeclf"
"""What results call this runtime; with the suffix of the file where it is no ONNX."""

Against = Literal["ort", "openvino", "eager", "torchscript", "compile", "metavision"]

_OF_MODEL: dict[str, Callable[..., Any]] = {
    "ort": open_ort,
    "openvino": open_openvino,
}
"""Programs that run the exported file."""

_OF_CHECKPOINT: dict[str, Callable[..., Any]] = {
    "eager": open_eager,
    "torchscript": open_torchscript,
    "compile": open_compiled,
    "metavision": open_metavision,
}
"""Programs that run the checkpoint that it was exported from, in PyTorch."""

_WRITTEN_BEFORE: dict[str, Callable[[Path, Path], Path]] = {
    "torchscript": write_torchscript,
    "metavision": write_metavision,
}
"""Those that open a file made of the checkpoint, so that what is measured of them begins with it."""


@dataclass(frozen=True)
class BenchRequest:
    """What `edgeclf bench` was asked for.

    Attributes:
        models: Exported files.
        against: What else is measured beside the runtime.
        checkpoint: The checkpoint that the first model was exported from; the PyTorch sides run it.
        options: Where models run; its `threads` counts for nothing.
        threads: Threads of a step on the CPU, each of them measured.
        streams: Streams of a step, each of them measured.
        recording: Where the event frames come from.
        plan: How much is measured.
        baseline: Name of the backend that ratios are against.
        recording_frames: Frames of the recording that are streamed for the budget of a frame; 0: none.
        with_limit: Whether the best rate of the machine is measured, too.
    """

    models: Sequence[Path]
    recording: Path
    against: Sequence[Against] = ()
    checkpoint: Path | None = None
    options: DeviceOptions = field(default_factory=DeviceOptions)
    threads: Sequence[int] = (1,)
    streams: Sequence[int] = (1,)
    plan: Plan = field(default_factory=Plan)
    baseline: str = RUNTIME
    recording_frames: int = 300
    with_limit: bool = True

    def __post_init__(self) -> None:
        torch_sides = [name for name in self.against if name in _OF_CHECKPOINT]
        if torch_sides and self.checkpoint is None:
            raise UsageError(
                f"{', '.join(torch_sides)} runs the checkpoint in PyTorch; name the one that the model was exported "
                "from with --checkpoint."
            )
        if self.baseline != RUNTIME and self.baseline not in self.against:
            raise UsageError(
                f"The baseline {self.baseline} is not measured; ask for it with --against {self.baseline}, or take "
                f"{', '.join([RUNTIME, *self.against])}."
            )


@dataclass(frozen=True)
class Model:
    """An exported file that is measured.

    Attributes:
        path: The file.
        name: What results call it: the file's name without its precision and suffix, so that the precisions of one
            model stand beside each other.
        contract: What the file says of itself.
    """

    path: Path
    name: str
    contract: Contract


def models_of(paths: Sequence[Path]) -> list[Model]:
    """Returns the models that files hold.

    Raises:
        InputFileError: Where a file is not there, or damaged.
        ContractError: Where it was not exported by edgeclf.
        UsageError: Where one takes no frames, or two cannot be told apart.
    """
    found: list[Model] = []
    for given in paths:
        path = model_file(given)
        contract = read_contract(path)
        if contract.takes == EVENTS or (contract.state and not contract.keep_memory):
            raise UsageError(
                f"{given}: this file is for programs without edgeclf; measure the one that `edgeclf export --format "
                "onnx` writes."
            )
        found.append(Model(path, _name(path), contract))
    for model in found:
        same = [other for other in found if _identity(other) == _identity(model)]
        if len(same) > 1:
            raise UsageError(
                f"{same[0].path} and {same[1].path} would have the same name and precision in the results "
                f"({model.name}, {model.contract.precision}); rename one."
            )
    return found


def contenders_of(request: BenchRequest, models: Sequence[Model], folder: Path) -> list[Contender]:
    """Returns what is measured of some models, for every number of threads and streams.

    Args:
        request: What was asked for.
        models: Its models.
        folder: Where files may be written that contenders open.
    """
    found: list[Contender] = []
    checkpoint = request.checkpoint
    of_checkpoint = {} if checkpoint is None else {
        name: partial(opens, _WRITTEN_BEFORE[name](checkpoint, folder) if name in _WRITTEN_BEFORE else checkpoint)
        for name, opens in _OF_CHECKPOINT.items()
        if name in request.against
    }  # fmt: skip
    for number, model in enumerate(models):
        is_onnx = model_kind(model.path) == "onnx"
        macs = multiply_adds(model.path) if is_onnx else None
        ways = {RUNTIME if is_onnx else f"{RUNTIME} {model.path.suffix}": open_edgeclf}
        if is_onnx:
            ways |= {name: opens for name, opens in _OF_MODEL.items() if name in request.against}
        for threads in request.threads:
            options = replace(request.options, threads=threads)
            for streams in request.streams:
                setting = Setting(
                    model.name, RUNTIME, options.provider or options.device, model.contract.precision, threads, streams
                )
                opened: dict[str, Open] = {
                    name: partial(opens, model.path, options, streams) for name, opens in ways.items()
                }
                if number == 0:
                    device = "cuda" if options.device == "cuda" else "cpu"
                    opened |= {name: partial(opens, device, threads, streams) for name, opens in of_checkpoint.items()}
                for name, opens in opened.items():
                    own = replace(setting, backend=name)
                    if name in _OF_CHECKPOINT:
                        own = replace(own, precision="fp32")
                    found.append(Contender(own, opens, macs))
    return found


def _identity(model: Model) -> tuple[str, Precision, str]:
    return model.name, model.contract.precision, model_kind(model.path)


def _name(path: Path) -> str:
    name = path.stem
    for precision in get_args(Precision):
        name = name.removesuffix(f".{precision}")
    return name
