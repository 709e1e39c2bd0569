"""A classifier that runs: an ONNX Runtime session and the memory of its streams."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.contract import EVENTS, FRAMES, KEEP_MEMORY, LOGITS, PROBABILITIES, Contract
from edgeclf_runtime.errors import (
    ContractError,
    DeviceError,
    EdgeclfError,
    InputFileError,
    MissingPackageError,
    UsageError,
)
from edgeclf_runtime.onnx_file import OnnxFile, check_external_data, read_onnx

Device = Literal["cpu", "cuda", "auto"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of one frame a stream.

    Attributes:
        logits: `[B, K]`, float32.
        probabilities: `[B, K]`, float32, each row summing to 1.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    @property
    def class_ids(self) -> NDArray[np.intp]:
        """The most probable class of each stream, `[B]`."""
        ids: NDArray[np.intp] = self.probabilities.argmax(axis=1)
        return ids


@dataclass(frozen=True)
class Model:
    """An exported file that ONNX Runtime has opened; nothing is remembered from one run to the next.

    Attributes:
        session: The ONNX Runtime session.
        contract: What the file says of itself.
        device: Where it runs, `cpu` or `cuda`.
    """

    session: Any
    contract: Contract
    device: str

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Runs the graph once: the contract's inputs in order, to its outputs in order.

        Raises:
            EdgeclfError: Where ONNX Runtime fails on them, for example for want of memory.
        """
        feed = {
            name: np.ascontiguousarray(value) for name, value in zip(self.contract.input_names, inputs, strict=True)
        }
        try:
            outputs: list[NDArray[Any]] = self.session.run(self.contract.output_names, feed)
        except Exception as error:  # onnxruntime's own classes have no public base
            raise EdgeclfError(
                f"ONNX Runtime failed on a frame ({_first_line(error)}); try --device cpu, or export the "
                "checkpoint again."
            ) from error
        return outputs


def open_model(path: str | Path, device: Device = "auto", threads: int | None = None) -> Model:
    """Opens any ONNX file made by `edgeclf export`, also one that takes events or leaves its memory to a server.

    Args:
        path: The `.onnx` file.
        device: As `Classifier.load` takes it.
        threads: As `Classifier.load` takes it.

    Raises:
        InputFileError: Where the file is not there, not an ONNX file, or wants weights from outside of its folder.
        ContractError: Where it was not exported by edgeclf, or by one whose contract is not known here.
        DeviceError: Where `cuda` was asked for and does not start.
        MissingPackageError: Where ONNX Runtime is not installed.
    """
    path = Path(path)
    contract = Contract.from_metadata(_safe(path).metadata, str(path))
    session, used = _open_session(path, device, threads)
    return Model(session, contract, used)


def optimised_graph(path: str | Path, device: Device = "cpu") -> tuple[OnnxFile, OnnxFile]:
    """Returns what a file holds, and what ONNX Runtime makes of it before it runs it on this machine.

    All of its optimisations are on, as in every session that the runtime opens.

    Raises:
        EdgeclfError: See `open_model`.
    """
    path = Path(path)
    before = _safe(path)
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        _open_session(path, device, None, optimised)
        return before, read_onnx(optimised)


class Classifier:
    """An exported classifier with the memory of some streams; a context manager.

    Attributes:
        contract: What the file says of itself.
        device: Where it runs, `cpu` or `cuda`.

    Args:
        session: An ONNX Runtime session of an exported file.
        contract: The file's contract.
        device: Where the session runs.
        streams: Number of streams whose memory is kept.
    """

    def __init__(self, session: Any, contract: Contract, device: str, streams: int = 1) -> None:
        if streams < 1:
            raise UsageError(f"A classifier needs at least one stream, not {streams}.")
        if contract.batch is not None and streams > contract.batch:
            raise UsageError(
                f"The model was exported for {contract.batch} streams (--batch), and {streams} were asked for; export "
                "it for more, or without --batch."
            )
        self.contract = contract
        self.device = device
        self.streams = streams
        self._model: Model | None = Model(session, contract, device)
        self._state = [np.zeros((streams, *tensor.shape), contract.state_type) for tensor in contract.state]
        self._keep = np.zeros(streams, contract.edge_type)

    @classmethod
    def load(
        cls, path: str | Path, device: Device = "auto", streams: int = 1, threads: int | None = None
    ) -> Classifier:
        """Loads a file made by `edgeclf export`.

        Args:
            path: The `.onnx` file.
            device: `cpu`; `cuda`, an error where CUDA does not start; `auto`: CUDA where it starts, else the CPU, and
                the log says which.
            streams: Number of streams whose memory is kept.
            threads: Threads of one step on the CPU; None: ONNX Runtime's choice.

        Raises:
            InputFileError: Where the file is not there, not an ONNX file, or wants weights from outside of its folder.
            ContractError: Where it was not exported by edgeclf, or by one whose contract is not known here.
            DeviceError: Where `cuda` was asked for and does not start.
            MissingPackageError: Where ONNX Runtime is not installed.
        """
        model = open_model(path, device, threads)
        _check_graph(model.session, model.contract, str(path))
        return cls(model.session, model.contract, model.device, streams)

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._model = None

    def step(self, frames: NDArray[np.float32], streams: Sequence[int] | None = None) -> Predictions:
        """Runs on one frame of each stream and keeps the memory for the next.

        Args:
            frames: `[B, C, H, W]`, float32, one event frame a stream.
            streams: Which streams the frames belong to, each at most once; None: all, in order.

        Raises:
            UsageError: Where the frames have not the shape that the model takes.
            EdgeclfError: Where ONNX Runtime fails on them, for example for want of memory.
        """
        which = list(range(self.streams)) if streams is None else list(streams)
        if len(set(which)) < len(which):
            raise UsageError(f"A step takes one frame of a stream, and the streams {which} name one twice.")
        if frames.shape != (len(which), *self.contract.frame_shape):
            raise UsageError(
                f"The model takes frames of shape {(len(which), *self.contract.frame_shape)} (streams, channels, rows, "
                f"columns), and these have {frames.shape}."
            )
        given = [frames.astype(self.contract.edge_type, copy=False)]
        if self.contract.state:
            given += [self._keep[which], *(value[which] for value in self._state)]
        logits, probabilities, *after = (value[: len(which)] for value in self.run(_filled_up(given, self.contract)))
        for kept, value in zip(self._state, after, strict=True):
            kept[which] = value
        self._keep[which] = 1.0
        return Predictions(logits.astype(np.float32, copy=False), probabilities.astype(np.float32, copy=False))

    def run(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Runs the graph once, without the streams' memory; see `Model.run`."""
        if self._model is None:
            raise UsageError("The classifier was closed at the end of its `with` block; load it again.")
        return self._model.run(inputs)

    def reset(self, stream: int | None = None) -> None:
        """Makes a stream (all where None) start anew: its memory counts as zero for its next frame."""
        which = slice(None) if stream is None else stream
        self._keep[which] = 0.0
        for value in self._state:
            value[which] = 0.0  # what is not finite would outlive the graph's multiplication by keep_memory


def _check_graph(session: Any, contract: Contract, source: str) -> None:
    """Raises a ContractError where the graph's inputs and outputs are not those of the contract, by name and shape."""
    if contract.takes == EVENTS or (contract.state and not contract.keep_memory):
        wants = "events" if contract.takes == EVENTS else "a server that keeps its state"
        raise ContractError(
            f"{source}: this file is for programs without edgeclf: it takes {wants}; give the one that "
            "`edgeclf export --format onnx` writes."
        )
    outputs = (len(contract.labels),)
    shapes = {FRAMES: contract.frame_shape, KEEP_MEMORY: (), LOGITS: outputs, PROBABILITIES: outputs}
    shapes |= {name: s.shape for s in contract.state for name in (s.input_name, s.output_name)}
    for values, names in (
        (session.get_inputs(), contract.input_names),
        (session.get_outputs(), contract.output_names),
    ):
        if sorted(value.name for value in values) != sorted(names) or not all(
            _may_have_shape(value.shape, shapes[value.name], contract.batch) for value in values
        ):
            raise ContractError(
                f"{source}: the graph's inputs and outputs are not those of its contract; export the checkpoint again."
            )


def _filled_up(inputs: Sequence[NDArray[Any]], contract: Contract) -> list[NDArray[Any]]:
    """Returns the inputs with rows of zeros up to the number of streams that the model wants of every step."""
    missing = 0 if contract.batch is None else contract.batch - len(inputs[0])
    return [np.pad(value, [(0, missing)] + [(0, 0)] * (value.ndim - 1)) for value in inputs] if missing else [*inputs]


def _may_have_shape(stated: Sequence[int | str | None], wanted: Sequence[int], batch: int | None) -> bool:
    """Whether a value of the graph may have the shape `[batch, *wanted]`; what is no number there can be any."""
    if len(stated) != len(wanted) + 1 or (stated[0] if isinstance(stated[0], int) else None) != batch:
        return False
    return all(not isinstance(size, int) or size == other for size, other in zip(stated[1:], wanted, strict=True))


def _safe(path: Path) -> OnnxFile:
    """Returns what an ONNX file holds, after checking that opening it reads no file outside of its folder."""
    _refuse_other_formats(path)
    found = read_onnx(path)
    check_external_data(found)
    return found


def _open_session(path: Path, device: Device, threads: int | None, optimised: Path | None = None) -> tuple[Any, str]:
    """Returns an ONNX Runtime session and the device that it really runs on; writes the graph that runs where asked."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(
            "ONNX Runtime is not installed: pip install 'edgeclf[cpu]', or 'edgeclf[gpu]' on a machine with CUDA."
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; what it warns of is said here in a sentence
    if threads is not None:
        options.intra_op_num_threads = threads
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)

    def start(providers: list[str]) -> Any:
        # Its own fallback to the CPU prints to standard output, where results go.
        return onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)

    # Neither the list of available providers nor the session's creation tells the truth: both name CUDA, or run on the
    # CPU in silence, where CUDA cannot start. Only the session's own list does.
    is_cpu_build = "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
    session = None
    if device != "cpu" and not is_cpu_build:
        with contextlib.suppress(Exception):  # where it is the file that is at fault, the CPU says so below
            session = start(["CUDAExecutionProvider", "CPUExecutionProvider"])
        if session is not None and "CUDAExecutionProvider" in session.get_providers():
            _log.info("Running on CUDA.")
            return session, "cuda"
    try:
        session = session or start(["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no public base
        raise _not_a_model(path, error) from error
    if device == "cpu":
        return session, "cpu"
    if is_cpu_build:
        why = "the installed ONNX Runtime is its CPU build"
        mend = "pip uninstall onnxruntime, then pip install 'edgeclf[gpu]'"
    else:
        why = "the CUDA provider of the installed ONNX Runtime does not start"
        mend = "install a driver, CUDA and cuDNN of the versions that it needs"
    if device == "cuda":
        raise DeviceError(f"CUDA was asked for and is not to be had: {why}; {mend}, or run with --device cpu.")
    _log.info("Running on the CPU: %s.", why)
    return session, "cpu"


_OTHER_FORMATS = {".ts": "TorchScript", ".ptjit": "TorchScript", ".pt2": "torch.export", ".xml": "OpenVINO"}


def _refuse_other_formats(path: Path) -> None:
    """Raises where a file is one that other programs run."""
    if not path.is_file():
        return
    if path.suffix in _OTHER_FORMATS:
        raise InputFileError(
            f"{path}: this is a {_OTHER_FORMATS[path.suffix]} file, and the runtime runs ONNX: give the .onnx that "
            "`edgeclf export --format onnx` writes of the same checkpoint."
        )
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":  # a zip archive, as PyTorch writes
            raise InputFileError(
                f"{path}: this is a file of PyTorch's, such as a checkpoint, and the runtime runs ONNX: give the .onnx "
                "that `edgeclf export` makes of the checkpoint."
            )


def _not_a_model(path: Path, error: Exception) -> InputFileError:
    return InputFileError(
        f"{path}: ONNX Runtime cannot load it, so it is damaged or not an ONNX model ({_first_line(error)}); export "
        "the checkpoint again."
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
