"""A classifier that runs: an ONNX Runtime session and the memory of its streams."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.contract import FRAMES, KEEP_MEMORY, Contract
from edgeclf_runtime.errors import ContractError, DeviceError, InputFileError, MissingPackageError, UsageError

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
        return self.probabilities.argmax(axis=1)


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
        contract = Contract.from_metadata(session.get_modelmeta().custom_metadata_map, str(path))
        _check_graph(session, contract, str(path))
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
        """
        which = list(range(self.streams)) if streams is None else list(streams)
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
        logits, probabilities, *after = self._session.run(self.contract.output_names, feed)
        for kept, value in zip(self._state, after, strict=True):
            kept[which] = value
        self._keep[which] = 1.0
        return Predictions(logits, probabilities)

    def reset(self, stream: int | None = None) -> None:
        """Makes a stream (all where None) start anew: its memory counts as zero for its next frame."""
        self._keep[slice(None) if stream is None else stream] = 0.0


def _check_graph(session: Any, contract: Contract, source: str) -> None:
    inputs = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]
    if sorted(inputs) != sorted(contract.input_names) or sorted(outputs) != sorted(contract.output_names):
        raise ContractError(
            f"{source}: the graph's inputs and outputs are not those of its contract; export the checkpoint again."
        )


def _open_session(path: Path, device: Device, threads: int | None) -> tuple[Any, str]:
    """Returns an ONNX Runtime session and the device that it really runs on."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(
            "ONNX Runtime is not installed: pip install 'edgeclf[cpu]', or 'edgeclf[gpu]' on a machine with CUDA."
        ) from error
    if not path.is_file():
        raise InputFileError(f"{path}: there is no such model file.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; what it warns of is said here in a sentence
    if threads is not None:
        options.intra_op_num_threads = threads

    def start(providers: list[str]) -> Any:
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's own classes have no public base
            if path.suffix == ".ts":
                raise InputFileError(
                    f"{path}: this is a TorchScript file, and the runtime runs ONNX: give the .onnx that "
                    "`edgeclf export --format onnx` writes beside it."
                ) from error
            raise InputFileError(
                f"{path}: ONNX Runtime cannot load it, so it is damaged or not an ONNX model ({_first_line(error)})."
            ) from error

    if device == "cpu":
        return start(["CPUExecutionProvider"]), "cpu"
    # Neither the list of available providers nor the session's creation tells the truth: both name CUDA, or run on the
    # CPU in silence, where CUDA cannot start. Only the session's own list does.
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        session = start(["CUDAExecutionProvider", "CPUExecutionProvider"])
        if "CUDAExecutionProvider" in session.get_providers():
            _log.info("running on CUDA")
            return session, "cuda"
        why = "its CUDA provider does not start (driver, CUDA or cuDNN libraries missing or of another version)"
    else:
        session = None
        why = "the installed ONNX Runtime is the CPU build; pip uninstall onnxruntime, then pip install 'edgeclf[gpu]'"
    if device == "cuda":
        raise DeviceError(f"CUDA was asked for and is not to be had: {why}; or run with --device cpu.")
    _log.info("running on the CPU: %s", why)
    return session or start(["CPUExecutionProvider"]), "cpu"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
