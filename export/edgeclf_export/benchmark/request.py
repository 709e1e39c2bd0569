"""What is to be measured: models, programs to run them beside each other, threads and streams."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

from edgeclf_export.benchmark.torch_candidates import (
    open_compiled,
    open_eager,
    open_metavision,
    open_torchscript,
    write_metavision,
    write_torchscript,
)
from edgeclf_runtime.backends import Device, DeviceOptions
from edgeclf_runtime.backends.providers import OPENVINO_PROVIDER
from edgeclf_runtime.benchmark.candidates import Contender
from edgeclf_runtime.benchmark.macs import multiply_adds
from edgeclf_runtime.benchmark.results import Setting
from edgeclf_runtime.benchmark.run import Plan
from edgeclf_runtime.benchmark.runtime_candidates import open_edgeclf, open_openvino, open_ort
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.contract_file import model_file, model_kind, read_contract
from edgeclf_runtime.errors import MissingPackageError, UsageError
from edgeclf_runtime.machine.providers import CPU_PROVIDER, CUDA_PROVIDER
from edgeclf_runtime.precision import Precision
from edgeclf_runtime.session import Classifier

_log = logging.getLogger(__name__)

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
        also_on: Where else they run in the same run: `cpu`, `cuda`, or an execution provider of ONNX Runtime by its
            name.
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
    also_on: Sequence[str] = ()
    threads: Sequence[int] = (1,)
    streams: Sequence[int] = (1,)
    plan: Plan = field(default_factory=Plan)
    baseline: str = RUNTIME
    recording_frames: int = 300
    with_limit: bool = True

    def __post_init__(self) -> None:
        sides = self.torch_sides
        if sides and self.checkpoint is None:
            raise UsageError(
                f"{', '.join(sides)} runs the checkpoint in PyTorch; name the one that the model was exported "
                "from with --checkpoint."
            )
        if self.checkpoint is not None and not sides:
            raise UsageError(
                f"Nothing runs the checkpoint {self.checkpoint}; ask for one of --against {', '.join(_OF_CHECKPOINT)}, "
                "or leave it out."
            )
        if self.baseline != RUNTIME and self.baseline not in self.against:
            raise UsageError(
                f"The baseline {self.baseline} is not measured; ask for it with --against {self.baseline}, or take "
                f"{', '.join([RUNTIME, *self.against])}."
            )

    @property
    def places(self) -> list[DeviceOptions]:
        """Where models run, one after the other; the options of a provider are for the first one alone."""
        return [
            self.options,
            *(
                replace(
                    self.options,
                    device=cast("Device", name) if name in get_args(Device) else "auto",
                    provider=None if name in get_args(Device) else name,
                    provider_options={},
                )
                for name in self.also_on
            ),
        ]

    @property
    def torch_sides(self) -> list[str]:
        """Those of `against` that run the checkpoint in PyTorch."""
        return [name for name in self.against if name in _OF_CHECKPOINT]


@dataclass(frozen=True)
class Model:
    """An exported file that is measured.

    Attributes:
        path: The file.
        name: What results call it: the file's name without its precision and suffix, so that the precisions of one
            model stand beside each other.
        contract: What the file says of itself.
        options: Where it runs; see `settled`.
    """

    path: Path
    name: str
    contract: Contract
    options: DeviceOptions = field(default_factory=DeviceOptions)

    @property
    def is_onnx(self) -> bool:
        """Whether it is a file that other programs than this runtime are measured with, too."""
        return model_kind(self.path) == "onnx"


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
        if not contract.streams_frames:
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


def settled(request: BenchRequest, model: Model, place: DeviceOptions) -> Model:
    """Returns a model with the device that this runtime takes for it, after opening it once, as it will be measured.

    So a file that cannot be run fails before the long run, and what was left open (`auto`, a fallback to the CPU) is
    decided once: all programs run on the same device.

    Raises:
        EdgeclfError: Where the runtime cannot run it so; see `Classifier.load`.
    """
    options = replace(place, threads=request.threads[0])
    in_bfloat16 = model_kind(model.path) == "openvino" or options.provider == OPENVINO_PROVIDER
    if options.bfloat16 and not in_bfloat16 and "openvino" in request.against:
        options = replace(options, bfloat16=False)  # it is for the other program
    with Classifier.load(model.path, options=options, streams=max(request.streams)) as opened:
        device = opened.device
    if options.provider is None and device == "cuda":
        options = replace(options, device="cuda")
    elif device == "cpu" and options.provider != CPU_PROVIDER:
        if options.device != "cpu":  # these were for the device that was not to be had
            options = replace(options, provider=None, provider_options={}, tf32=False)
        options = replace(options, device="cpu")
    return replace(model, options=options)


def contenders_of(request: BenchRequest, models: Sequence[Model], folder: Path) -> list[Contender]:
    """Returns what is measured of some models, for every number of threads and streams.

    Args:
        request: What was asked for.
        models: Its models, see `settled`; one that runs in several places stands there as often.
        folder: Where files may be written that contenders open.

    Raises:
        InputFileError: Where the checkpoint cannot be used.
        MissingPackageError: Where it is asked for, and PyTorch is not installed.
        UsageError: Where something that runs .onnx files was asked for, and there is none.
    """
    of_file = {name: opens for name, opens in _OF_MODEL.items() if name in request.against}
    if of_file and not any(model.is_onnx for model in models):
        raise UsageError(
            f"{', '.join(of_file)} is measured with .onnx files, and there is none among the models; name the one that "
            "`edgeclf export --format onnx` writes, too."
        )
    of_checkpoint = _torch_sides(request, folder)
    macs_of = {path: multiply_adds(path) for path in dict.fromkeys(model.path for model in models if model.is_onnx)}
    torch_devices: set[str] = set()
    found: list[Contender] = []
    for model in models:
        macs = macs_of.get(model.path)
        device = _of_torch(model.options)
        with_torch = model.path == models[0].path and device not in torch_devices
        torch_devices.add(device)
        ways = {RUNTIME: open_edgeclf, **of_file} if model.is_onnx else {f"{RUNTIME} {model.path.suffix}": open_edgeclf}
        for threads, streams in itertools.product(request.threads, request.streams):
            for name, opens in ways.items():
                options = replace(model.options, threads=threads)
                if name == "openvino":
                    options = replace(options, bfloat16=request.options.bfloat16)
                setting = Setting(
                    model.name, name, options.provider or options.device, _precision(model, name, options), threads,
                    streams,
                )  # fmt: skip
                found.append(Contender(setting, partial(opens, model.path, options, streams), macs))
            if with_torch:
                found += [
                    Contender(
                        Setting(model.name, name, device, "fp32", threads, streams),
                        partial(opens, device, threads, streams),
                        macs,
                    )
                    for name, opens in of_checkpoint.items()
                ]
    return found


def baseline_of(request: BenchRequest, contenders: Sequence[Contender]) -> str:
    """Returns the backend that ratios are against: what was asked for, or of this runtime whatever comes first."""
    backends = [one.setting.backend for one in contenders]
    if request.baseline in backends:
        return request.baseline
    return next((name for name in backends if is_runtime(name)), request.baseline)


def is_runtime(backend: str) -> bool:
    """Whether a backend is this runtime, with whatever file."""
    return backend.split(" ")[0] == RUNTIME


def check_checkpoint(request: BenchRequest, contract: Contract) -> None:
    """Raises where sides that run in PyTorch cannot; the log says where the model is of another checkpoint.

    Args:
        request: What was asked for; where it names no such side, nothing is done.
        contract: The first model's.

    Raises:
        InputFileError: Where the checkpoint cannot be used.
        MissingPackageError: Where PyTorch is not installed.
    """
    if request.checkpoint is None or not request.torch_sides:
        return
    with _needing_torch(request):
        from edgeclf.checkpoint import load_checkpoint

        loaded = load_checkpoint(request.checkpoint)
        loaded.build_model()
    if loaded.sha256 != contract.checkpoint_sha256:
        _log.warning("%s was not exported from %s, but from another checkpoint.", request.models[0], request.checkpoint)


def _torch_sides(request: BenchRequest, folder: Path) -> dict[str, Callable[..., Any]]:
    """Returns what opens the sides that run in PyTorch, which take a device, threads and streams yet."""
    checkpoint = request.checkpoint
    if checkpoint is None or not request.torch_sides:
        return {}
    with _needing_torch(request):
        return {
            name: partial(opens, _WRITTEN_BEFORE[name](checkpoint, folder) if name in _WRITTEN_BEFORE else checkpoint)
            for name, opens in _OF_CHECKPOINT.items()
            if name in request.torch_sides
        }


@contextlib.contextmanager
def _needing_torch(request: BenchRequest) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0].startswith("edgeclf"):
            raise
        raise MissingPackageError(
            f"--against {' --against '.join(request.torch_sides)} needs the package {error.name}, which is not "
            "installed: pip install 'edgeclf[export]'."
        ) from error


def _of_torch(options: DeviceOptions) -> str:
    """Returns the device of the sides that run in PyTorch: that of this runtime, where they have it."""
    return "cuda" if options.device == "cuda" or options.provider == CUDA_PROVIDER else "cpu"


def _precision(model: Model, backend: str, options: DeviceOptions) -> str:
    """Returns what a backend computes a model in."""
    by_openvino = backend == "openvino" or model_kind(model.path) == "openvino"
    if is_runtime(backend) and options.provider == OPENVINO_PROVIDER:
        by_openvino = True
    return "bf16" if options.bfloat16 and by_openvino else model.contract.precision


def _identity(model: Model) -> tuple[str, Precision, str]:
    return model.name, model.contract.precision, model_kind(model.path)


def _name(path: Path) -> str:
    name = path.stem
    for precision in get_args(Precision):
        name = name.removesuffix(f".{precision}")
    return name
