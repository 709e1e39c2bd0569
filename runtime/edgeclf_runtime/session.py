"""A classifier that runs: an ONNX Runtime session and the memory of its streams."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.contract import FRAMES, KEEP_MEMORY, LOGITS, PROBABILITIES, Contract
from edgeclf_runtime.errors import (
    ContractError,
    DeviceError,
    EdgeclfError,
    InputFileError,
    MissingPackageError,
    UsageError,
)

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
        self.contract = contract
        self.device = device
        self.streams = streams
        self._session = session
        self._state = [np.zeros((streams, *tensor.shape), np.float32) for tensor in contract.state]
        self._keep = np.zeros(streams, np.float32)

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
            InputFileError: Where the file is not there, or not an ONNX file.
            ContractError: Where it was not exported by edgeclf, or by one whose contract is not known here.
            DeviceError: Where `cuda` was asked for and does not start.
            MissingPackageError: Where ONNX Runtime is not installed.
        """
        session, used = _open_session(Path(path), device, threads)
        try:
            contract = Contract.from_metadata(session.get_modelmeta().custom_metadata_map, str(path))
            _check_graph(session, contract, str(path))
        except UnicodeDecodeError as error:
            raise ContractError(
                f"{path}: the file is damaged ({error.reason}); export the checkpoint again."
            ) from error
        return cls(session, contract, used, streams)

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

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
        feed = {FRAMES: np.ascontiguousarray(frames, np.float32)}
        if self.contract.state:
            feed[KEEP_MEMORY] = self._keep[which]
            for tensor, value in zip(self.contract.state, self._state, strict=True):
                feed[tensor.input_name] = value[which]
        try:
            logits, probabilities, *after = self._session.run(self.contract.output_names, feed)
        except Exception as error:  # onnxruntime's own classes have no public base
            raise EdgeclfError(
                f"ONNX Runtime failed on a frame ({_first_line(error)}); try --device cpu, or export the "
                "checkpoint again."
            ) from error
        for kept, value in zip(self._state, after, strict=True):
            kept[which] = value
        self._keep[which] = 1.0
        return Predictions(logits, probabilities)

    def reset(self, stream: int | None = None) -> None:
        """Makes a stream (all where None) start anew: its memory counts as zero for its next frame."""
        which = slice(None) if stream is None else stream
        self._keep[which] = 0.0
        for value in self._state:
            value[which] = 0.0  # what is not finite would outlive the graph's multiplication by keep_memory


def _check_graph(session: Any, contract: Contract, source: str) -> None:
    """Raises a ContractError where the graph's inputs and outputs are not those of the contract, by name and shape."""
    outputs = (len(contract.labels),)
    shapes = {FRAMES: contract.frame_shape, KEEP_MEMORY: (), LOGITS: outputs, PROBABILITIES: outputs}
    shapes |= {name: s.shape for s in contract.state for name in (s.input_name, s.output_name)}
    for values, names in (
        (session.get_inputs(), contract.input_names),
        (session.get_outputs(), contract.output_names),
    ):
        if sorted(value.name for value in values) != sorted(names) or not all(
            _may_have_shape(value.shape, shapes[value.name]) for value in values
        ):
            raise ContractError(
                f"{source}: the graph's inputs and outputs are not those of its contract; export the checkpoint again."
            )


def _may_have_shape(stated: Sequence[int | str | None], wanted: Sequence[int]) -> bool:
    """Whether a value of the graph may have the shape `[batch, *wanted]`; what is no number there can be any."""
    if len(stated) != len(wanted) + 1 or isinstance(stated[0], int):
        return False
    return all(not isinstance(size, int) or size == other for size, other in zip(stated[1:], wanted, strict=True))


def _open_session(path: Path, device: Device, threads: int | None) -> tuple[Any, str]:
    """Returns an ONNX Runtime session and the device that it really runs on."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(
            "ONNX Runtime is not installed: pip install 'edgeclf[cpu]', or 'edgeclf[gpu]' on a machine with CUDA."
        ) from error
    if path.is_dir():
        raise InputFileError(f"{path}: this is a folder, not a model; give the .onnx file in it.")
    if not path.is_file():
        raise InputFileError(f"{path}: there is no such model file.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; what it warns of is said here in a sentence
    if threads is not None:
        options.intra_op_num_threads = threads

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


def _not_a_model(path: Path, error: Exception) -> InputFileError:
    if path.suffix == ".ts":
        return InputFileError(
            f"{path}: this is a TorchScript file, and the runtime runs ONNX: give the .onnx that "
            "`edgeclf export --format onnx` writes beside it."
        )
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":  # a zip archive, as PyTorch writes
            return InputFileError(
                f"{path}: this is a file of PyTorch's, such as a checkpoint, and the runtime runs ONNX: give the .onnx "
                "that `edgeclf export` makes of the checkpoint."
            )
    return InputFileError(
        f"{path}: ONNX Runtime cannot load it, so it is damaged or not an ONNX model ({_first_line(error)}); export "
        "the checkpoint again."
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
