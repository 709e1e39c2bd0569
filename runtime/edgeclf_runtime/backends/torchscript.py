"""PyTorch's own files, TorchScript and torch.export, run by PyTorch where it is installed.

PyTorch is no dependency of the runtime: it is imported when such a file is opened, and nowhere else here.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeclf_runtime.backends.base import (
    Array,
    Backend,
    DeviceOptions,
    Placement,
    StreamMemory,
    last_line,
    settle_for_cpu,
)
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.contract_file import read_contract
from edgeclf_runtime.errors import EdgeclfError, InputFileError, MissingPackageError, UsageError
from edgeclf_runtime.machine.cores import usable_cores

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)


class TorchBackend(Backend):
    """A file that PyTorch has opened; see `Backend`.

    Args:
        step: Takes and gives tensors on the device by position, in the contract's order.
        contract: What the file says of itself.
        device: `cpu` or `cuda`.
        source: The file's name, for errors.
    """

    def __init__(self, step: Callable[..., Sequence[Tensor]], contract: Contract, device: str, source: str) -> None:
        self.contract = contract
        self.device = device
        self.placement = Placement(("PyTorch",))
        self._step: Callable[..., Sequence[Tensor]] | None = step
        self._source = source

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Runs the graph once; see `Backend.run`."""
        import torch

        # Copies: an output may be a view of an input.
        given = [torch.tensor(value, device=self.device) for value in inputs]
        return [value.cpu().numpy() for value in self.run_tensors(given)]

    def run_tensors(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Runs the graph on tensors that lie on the device; an output may be a view of an input."""
        import torch

        if self._step is None:
            raise UsageError(f"{self._source}: the model was closed; open it again.")
        try:
            with torch.inference_mode():
                return self._step(*inputs)
        except Exception as error:  # a TorchScript program raises anything
            raise EdgeclfError(
                f"PyTorch failed on a frame ({last_line(error)}); try --device cpu, or export the checkpoint again."
            ) from error

    def remember(self, streams: int) -> StreamMemory:
        """Returns the memory of so many streams, on the device; see `Backend.remember`."""
        return TorchMemory(self, streams)

    def close(self) -> None:
        """Releases the module; see `Backend.close`."""
        self._step = None


class TorchMemory(StreamMemory):
    """State in tensors on the device.

    Args:
        backend: Runs the graph.
        streams: Number of streams.
    """

    def __init__(self, backend: TorchBackend, streams: int) -> None:
        import torch

        self._backend = backend
        contract, device = backend.contract, backend.device
        self._edge_type, kind = getattr(torch, contract.edge_type), getattr(torch, contract.state_type)
        self._state = [torch.zeros(streams, *tensor.shape, dtype=kind, device=device) for tensor in contract.state]

    def step(self, frames: Array, streams: Sequence[int], keep: Sequence[bool]) -> tuple[Array, Array]:
        """Runs on one frame of each of some streams; see `StreamMemory.step`."""
        import torch

        device = self._backend.device
        self.clear([stream for stream, kept in zip(streams, keep, strict=True) if not kept])
        given = [torch.tensor(frames, device=device)]
        which = torch.tensor(list(streams), device=device)
        if self._state:
            given.append(torch.ones(len(frames), dtype=self._edge_type, device=device))
            given += [value[which] for value in self._state]  # a copy each, as outputs may be views of them
        logits, probabilities, *after = self._backend.run_tensors(given)
        with torch.inference_mode():
            for kept_value, value in zip(self._state, after, strict=True):
                kept_value[which] = value
        return logits.cpu().numpy(), probabilities.cpu().numpy()

    def clear(self, streams: Sequence[int]) -> None:
        """Makes streams start anew; see `StreamMemory.clear`."""
        if streams:
            for value in self._state:
                value[list(streams)] = 0


def open_file(path: Path, options: DeviceOptions) -> TorchBackend:
    """Opens a file of TorchScript or of torch.export; see `open_backend`."""
    contract = read_contract(path)
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError(
            f"{path}: this is a file of PyTorch's, which is not installed: pip install 'edgeclf[train]', or give the "
            ".onnx of the same checkpoint, which needs no PyTorch."
        ) from error
    device = _device(options)
    torch.set_num_threads(options.threads or usable_cores())
    if device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.tf32
    try:
        step = _exported_program(path, device) if path.suffix == ".pt2" else _script(path, device, contract)
    except Exception as error:  # PyTorch raises anything on a damaged file
        raise InputFileError(
            f"{path}: PyTorch cannot load it ({last_line(error)}); export the checkpoint again, or install the "
            "PyTorch that made it."
        ) from error
    return TorchBackend(step, contract, device, str(path))


def _device(options: DeviceOptions) -> str:
    """Returns `cpu` or `cuda`, as asked for.

    Raises:
        DeviceError: Where CUDA was asked for and is not there.
        UsageError: Where an option is not PyTorch's.
    """
    import torch

    if options.provider is not None or options.provider_options or options.bfloat16:
        raise UsageError("Execution providers, their options and bfloat16 are for other files than PyTorch's.")
    if options.device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        _log.info("Running on CUDA.")
        return "cuda"
    remedy = "install a PyTorch for CUDA and a driver that it can use"
    settle_for_cpu(options, "CUDA", "the installed PyTorch finds no CUDA", remedy)
    return "cpu"


def _script(path: Path, device: str, contract: Contract) -> Callable[..., Sequence[Tensor]]:
    """Loads TorchScript; of a file for Metavision's programs the step inside, which takes its state as an input."""
    module = load_script(path, device)
    if not hasattr(module, "reset_all"):
        loaded: Callable[..., Sequence[Tensor]] = module
        return loaded

    def step(frames: Tensor, *memory: Tensor) -> Sequence[Tensor]:
        keep, state = memory[: len(memory) - len(contract.state)], memory[len(memory) - len(contract.state) :]
        kept = [value * keep[0].reshape(-1, *[1] * (value.dim() - 1)) for value in state]
        logits, *after = module.step([frames, *kept])
        return [logits, logits.softmax(dim=1), *after]

    return step


def _exported_program(path: Path, device: str) -> Callable[..., Sequence[Tensor]]:
    import torch
    from torch.export.passes import move_to_device_pass

    program = torch.export.load(path)
    module: Callable[..., Sequence[Tensor]] = move_to_device_pass(program, device).module()
    return module


def load_script(path: Path, device: str) -> Any:
    """Loads TorchScript as PyTorch has it."""
    import torch

    with torchscript_wanted():
        return torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def torchscript_wanted() -> Iterator[None]:
    """Keeps PyTorch's notices that TorchScript is deprecated from the user, who asked for it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.\w+` is (deprecated|not supported).*")
        yield
