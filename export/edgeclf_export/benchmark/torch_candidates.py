"""Candidates that PyTorch runs: a checkpoint as it is, compiled, and as TorchScript with its memory outside or inside.

Importing this module imports no torch: what opens a candidate does, in the process that measures it. All compute in
float32. Batch normalisation is folded into convolutions where edgeclf's own export does so, that is in TorchScript
with memory inside, too, which makes it faster than what Metavision's own scripts export.

The path for CUDA is the same but for where tensors lie; a step ends when its probabilities are in the host's memory.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeclf_runtime.backends.base import Array, last_line
from edgeclf_runtime.backends.torchscript import load_script
from edgeclf_runtime.benchmark.candidates import Candidate
from edgeclf_runtime.contract_file import model_file, read_contract
from edgeclf_runtime.errors import DeviceError, EdgeclfError

if TYPE_CHECKING:
    from torch import Tensor

    from edgeclf.models import Classifier, State
    from edgeclf_export.formats.base import ExportFormat

_EXPORTED_SUFFIXES = (".ts", ".ptjit")
"""Of what is exported already; all other files are taken for checkpoints, which end in whatever people like."""

_Step = Callable[["Tensor", Any], "tuple[Tensor, Any]"]
"""Maps frames `[B, C, H, W]` and the memory to probabilities `[B, K]` and the next memory, on the device."""


class TorchCandidate(Candidate):
    """A classifier that PyTorch runs, and its memory; see `Candidate`. As in PyTorch programs, frames are not copied.

    Args:
        step: Runs a frame.
        clear: Returns the memory of streams that start anew.
        device: `cpu` or `cuda`.
    """

    def __init__(self, step: _Step, clear: Callable[[], Any], device: str) -> None:
        import torch

        self.device = device
        self._from_numpy = torch.from_numpy
        self._inference = torch.inference_mode
        self._step: _Step | None = step
        self._clear = clear
        self._memory: Any = None
        self.reset()

    def step(self, frames: Array) -> Array:
        """Runs on one frame of each stream; see `Candidate.step`.

        Raises:
            EdgeclfError: Where PyTorch fails, for example for want of a compiler, or after `close`.
        """
        if self._step is None:
            raise EdgeclfError("The candidate was closed; open it again.")
        try:
            with self._inference():
                given = self._from_numpy(frames if frames.flags.writeable else frames.copy()).to(self.device)
                probabilities, self._memory = self._step(given, self._memory)
                found: Array = probabilities.cpu().numpy()
        except Exception as error:  # PyTorch and its compiler raise anything
            cause = getattr(error, "inner_exception", error)  # what the compiler failed of, without how to report it
            raise EdgeclfError(f"PyTorch failed on a frame: {last_line(cause)}.") from error
        return found

    def reset(self) -> None:
        """Makes all streams start anew; see `Candidate.reset`."""
        # In inference mode, as what a step gives is made in it: for a compiled step tensors of other kinds are others.
        with self._inference():
            self._memory = self._clear()

    def close(self) -> None:
        """Releases the model and the memory; see `Closing`."""
        self._step = self._memory = None
        self._clear = lambda: None


def open_eager(checkpoint: Path, device: str, threads: int, streams: int) -> TorchCandidate:
    """Opens a checkpoint as PyTorch runs it by itself, operator by operator.

    Args:
        checkpoint: The checkpoint.
        device: `cpu`; `cuda`; `auto` is the CPU.
        threads: Threads of a step on the CPU.
        streams: Streams of a step.

    Raises:
        InputFileError: Where the file is no checkpoint.
        DeviceError: Where PyTorch has not the device.
    """
    device = _prepare(device, threads)
    return _of_classifier(checkpoint, device, streams, lambda step: step)


def open_compiled(checkpoint: Path, device: str, threads: int, streams: int) -> TorchCandidate:
    """Opens a checkpoint as `torch.compile` makes it, in its default mode, whole; arguments as for `open_eager`.

    It is compiled at the first step, which shows how long that takes, less what PyTorch finds in its cache of earlier
    processes' work. It may be compiled again within the next two, where what a step gives lies otherwise in memory than
    zeros do, and not after that: a warm-up of three steps is enough, and `reset` wants none.

    Raises:
        InputFileError: Where the file is no checkpoint.
        DeviceError: Where PyTorch has not the device.
    """
    import torch

    device = _prepare(device, threads)
    return _of_classifier(checkpoint, device, streams, lambda step: torch.compile(step, fullgraph=True))


def open_torchscript(source: Path, device: str, threads: int, streams: int) -> TorchCandidate:
    """Opens TorchScript with its memory outside, as `edgeclf export --format torchscript` writes it.

    Args:
        source: The `.ts` file; or a checkpoint, which is exported first, and that counts as loading.
        device: As for `open_eager`.
        threads: As for `open_eager`.
        streams: As for `open_eager`.

    Raises:
        InputFileError: Where the file cannot be used.
        DeviceError: Where PyTorch has not the device.
    """
    import torch

    device = _prepare(device, threads)
    with _exported(source, write_torchscript) as path:
        contract = read_contract(path)
        module = load_script(path, device)
    keep = [torch.ones(streams, device=device)] if contract.state else []

    def step(frames: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        _, probabilities, *after = module(frames, *keep, *state)
        return probabilities, after

    def clear() -> list[Tensor]:
        return [torch.zeros(streams, *tensor.shape, device=device) for tensor in contract.state]

    return TorchCandidate(step, clear, device)


def open_metavision(source: Path, device: str, threads: int, streams: int) -> TorchCandidate:
    """Opens TorchScript that keeps its memory itself, as programs written for Metavision run it, by `get_probas`.

    Args:
        source: The `.ptjit` file, or the folder with `model_classifier.ptjit`; or a checkpoint, which is exported
            first, and that counts as loading.
        device: As for `open_eager`.
        threads: As for `open_eager`.
        streams: Has no effect: the memory is of as many streams as frames come.

    Raises:
        InputFileError: Where the file cannot be used.
        DeviceError: Where PyTorch has not the device.
    """
    del streams
    device = _prepare(device, threads)
    with _exported(source, write_metavision) as path:
        module = load_script(path, device)

    def step(frames: Tensor, memory: None) -> tuple[Tensor, None]:
        return module.get_probas(frames[None])[0], memory

    return TorchCandidate(step, module.reset_all, device)


def write_torchscript(checkpoint: Path, folder: Path) -> Path:
    """Writes what `open_torchscript` opens, so that a measuring process does not have to, and returns its path.

    Raises:
        InputFileError: Where the file is no checkpoint.
        UsageError: Where such a classifier cannot be exported.
    """
    from edgeclf_export.formats.torchscript import TorchScriptFormat

    return _write(TorchScriptFormat(), checkpoint, folder)


def write_metavision(checkpoint: Path, folder: Path) -> Path:
    """Writes what `open_metavision` opens, so that a measuring process does not have to, and returns its path.

    Raises:
        InputFileError: Where the file is no checkpoint.
        UsageError: Where such a classifier cannot be exported.
    """
    from edgeclf_export.formats.metavision import MetavisionFormat

    return _write(MetavisionFormat(), checkpoint, folder)


def _prepare(device: str, threads: int) -> str:
    """Sets the process's PyTorch up for a candidate and returns the device's name.

    Raises:
        DeviceError: Where PyTorch has not the device.
    """
    import torch

    torch.set_num_threads(threads)
    with contextlib.suppress(RuntimeError):  # it can be said once a process, before anything has run
        torch.set_num_interop_threads(1)
    if device != "cuda":
        return "cpu"
    if not torch.cuda.is_available():
        raise DeviceError("The installed PyTorch finds no CUDA; measure with --device cpu, or install one for CUDA.")
    # In float32, as the runtime does unless asked otherwise.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return "cuda"


def _of_classifier(
    checkpoint: Path, device: str, streams: int, made: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> TorchCandidate:
    """Returns a candidate that runs a checkpoint's classifier by its `step`, of which `made` makes something."""
    from edgeclf.checkpoint import load_checkpoint

    loaded = load_checkpoint(checkpoint)
    model: Classifier = loaded.build_model().eval().to(device)
    height, width = loaded.hyperparameters.height, loaded.hyperparameters.width

    def step(frames: Tensor, state: State) -> tuple[Tensor, State]:
        logits, after = model.step(frames, state)
        return logits.softmax(dim=1), after

    return TorchCandidate(made(step), lambda: model.initial_state(streams, height, width), device)


@contextlib.contextmanager
def _exported(source: Path, write: Callable[[Path, Path], Path]) -> Iterator[Path]:
    """Gives the exported file that `source` is, or one that `write` makes of it where it is a checkpoint."""
    if source.is_dir() or source.suffix in _EXPORTED_SUFFIXES:
        yield model_file(source)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield write(source, Path(folder))


def _write(form: ExportFormat, checkpoint: Path, folder: Path) -> Path:
    from edgeclf.checkpoint import load_checkpoint
    from edgeclf_export.formats.base import ExportJob
    from edgeclf_export.step_graph import contract_of

    loaded = load_checkpoint(checkpoint)
    classifier = loaded.build_model()
    path = folder / form.path(checkpoint.stem, "fp32")
    path.parent.mkdir(parents=True, exist_ok=True)
    form.write(ExportJob(classifier, contract_of(loaded, classifier)), path)
    return path
