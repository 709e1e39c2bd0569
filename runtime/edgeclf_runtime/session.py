"""A classifier that runs: a model that some program has opened, and the memory of its streams."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.backends import Backend, Device, DeviceOptions, Placement, StreamMemory, open_backend
from edgeclf_runtime.backends.base import Array
from edgeclf_runtime.closing import Closing
from edgeclf_runtime.contract import EVENTS
from edgeclf_runtime.errors import ContractError, InputFileError, UsageError
from edgeclf_runtime.onnx_file import OnnxFile

_T = TypeVar("_T")


@dataclass(frozen=True)
class Predictions:
    """What a classifier says of one frame a stream.

    Attributes:
        logits: `[B, K]`, float32.
        probabilities: `[B, K]`, float32, each row summing to 1; with a rolling window their mean over the stream's last
            frames.
    """

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]

    @property
    def class_ids(self) -> NDArray[np.intp]:
        """The most probable class of each stream, `[B]`."""
        ids: NDArray[np.intp] = self.probabilities.argmax(axis=1)
        return ids


def open_model(
    path: str | Path, device: Device = "auto", threads: int | None = None, options: DeviceOptions | None = None
) -> Backend:
    """Opens any file made by `edgeclf export`, also one that takes events or leaves its memory to a server.

    Args:
        path: The file, or the folder that was exported for Triton or Metavision.
        device: As `Classifier.load` takes it.
        threads: As `Classifier.load` takes it.
        options: As `Classifier.load` takes them.

    Raises:
        EdgeclfError: See `open_backend`.
    """
    return open_backend(path, _options(device, threads, options))


def optimised_graph(path: str | Path, device: Device = "cpu") -> tuple[OnnxFile, OnnxFile]:
    """Returns what an ONNX file holds, and what ONNX Runtime makes of it before it runs it on this machine.

    All of its optimisations are on, as they are unless `DeviceOptions` say otherwise.

    Raises:
        InputFileError: Where it is no ONNX file.
        EdgeclfError: See `open_backend`.
    """
    from edgeclf_runtime.backends import onnx_runtime
    from edgeclf_runtime.contract_file import model_file, model_kind

    path = model_file(path)
    if model_kind(path) != "onnx":
        raise InputFileError(
            f"{path}: this is not an ONNX file, and the graph of no other is shown; give the .onnx that "
            "`edgeclf export --format onnx` writes of the same checkpoint."
        )
    return onnx_runtime.optimised_graph(path, DeviceOptions(device))


class Classifier(Closing):
    """An exported classifier with the memory of some streams; a context manager that releases it.

    Several threads may use it, such as one for each camera: their steps run one after the other.

    Attributes:
        contract: What the file says of itself.
        device: What it really runs on; see `Backend`.
        placement: What runs it, node by node.
        streams: Number of streams whose memory is kept.

    Args:
        model: An opened model, which is the classifier's from now on.
        streams: Number of streams whose memory is kept.
        rolling_window: Number of a stream's last frames over which its probabilities are averaged.
        source: The model's name, for errors.

    Raises:
        ContractError: Where the model is for programs without edgeclf.
        UsageError: Where the model was exported for fewer streams.
    """

    def __init__(self, model: Backend, streams: int = 1, rolling_window: int = 1, source: str = "the model") -> None:
        contract = model.contract
        if streams < 1:
            raise UsageError(f"A classifier needs at least one stream, not {streams}.")
        if rolling_window < 1:
            raise UsageError(f"A rolling window takes at least one frame, not {rolling_window}.")
        if not contract.streams_frames:
            wants = "events" if contract.takes == EVENTS else "a server that keeps its state"
            raise ContractError(
                f"{source}: this file is for programs without edgeclf: it takes {wants}; give the one that "
                "`edgeclf export --format onnx` writes."
            )
        if contract.batch is not None and streams > contract.batch:
            raise UsageError(
                f"The model was exported for {contract.batch} streams (--batch), and {streams} were asked for; export "
                "it for more, or without --batch."
            )
        self.contract = contract
        self.device = model.device
        self.placement = model.placement
        self.streams = streams
        self._model: Backend | None = model
        self._memory: StreamMemory | None = model.remember(streams)
        self._rolling = _RollingMean(streams, rolling_window, len(contract.labels)) if rolling_window > 1 else None
        self._one_at_a_time = threading.RLock()  # a backend's memory has one place for the outputs of all steps

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: Device = "auto",
        streams: int = 1,
        threads: int | None = None,
        options: DeviceOptions | None = None,
        rolling_window: int = 1,
        warm_up: int = 0,
    ) -> Classifier:
        """Loads a file made by `edgeclf export`.

        Args:
            path: The `.onnx` file; or a `.ts`, a `.pt2` or an `.xml`, where the program that runs it is installed.
            device: `cpu`; `cuda`, an error where CUDA does not start; `auto`: CUDA where it starts, else the CPU, and
                the log says which.
            streams: Number of streams whose memory is kept.
            threads: Threads of one step on the CPU; None: one for each core that this process may use.
            options: Everything about where it runs, and how, instead of `device` and `threads`.
            rolling_window: Number of a stream's last frames over which its probabilities are averaged, which steadies
                a model without memory.
            warm_up: Steps to run before the first frame; see `warm_up`.

        Raises:
            InputFileError: Where the file is not there, damaged, of another kind, or wants weights from outside of its
                folder.
            ContractError: Where it was not exported by edgeclf, or by one whose contract is not known here.
            DeviceError: Where the device that was asked for does not start.
            MissingPackageError: Where the program that runs such files is not installed.
            UsageError: Where the options do not go together, or the model was exported for fewer streams.
        """
        classifier = cls(open_model(path, device, threads, options), streams, rolling_window, str(path))
        classifier.warm_up(warm_up)
        return classifier

    def close(self) -> None:
        """Releases the model and the streams' memory."""
        with self._one_at_a_time:
            if self._model is not None:
                self._model.close()
            self._model = self._memory = None

    def step(
        self, frames: Array, keep: Sequence[float] | Array | None = None, streams: Sequence[int] | None = None
    ) -> Predictions:
        """Runs on one frame of each stream and keeps the memory for the next.

        Args:
            frames: `[B, C, H, W]`, one event frame a stream.
            keep: `[B]`: 0 where a stream starts anew with this frame, else 1; None: no stream does, but those that were
                `reset`.
            streams: Which streams the frames belong to, each at most once; None: all, in order.

        Raises:
            UsageError: Where the frames have not the shape that the model takes, or a stream is not there.
            EdgeclfError: Where the model fails on them, for example for want of memory.
        """
        which = list(range(self.streams)) if streams is None else list(streams)
        self._check(frames, which)
        kept = [True] * len(which) if keep is None else [bool(value) for value in keep]
        if len(kept) != len(which):
            raise UsageError(f"A step of {len(which)} streams takes as many values of keep, not {len(kept)}.")
        given = np.ascontiguousarray(frames, self.contract.edge_type)
        with self._one_at_a_time:
            logits, probabilities = self._opened(self._memory).step(given, which, kept)
            probabilities = probabilities.astype(np.float32, copy=False)
            if self._rolling is not None:
                self._rolling.clear([stream for stream, value in zip(which, kept, strict=True) if not value])
                probabilities = self._rolling.add(probabilities, which)
        return Predictions(logits.astype(np.float32, copy=False), probabilities)

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Runs the graph once, without the streams' memory; see `Backend.run`."""
        with self._one_at_a_time:
            return self._opened(self._model).run(inputs)

    def warm_up(self, steps: int = 1) -> None:
        """Runs the graph on zeros, so that the first frame does not wait for what is done once; no stream notices."""
        contract, rows = self.contract, self.contract.batch or self.streams
        inputs: list[Array] = [np.zeros((rows, *contract.frame_shape), contract.edge_type)]
        if contract.state:
            inputs.append(np.ones(rows, contract.edge_type))
            inputs += [np.zeros((rows, *tensor.shape), contract.state_type) for tensor in contract.state]
        for _ in range(steps):
            self.run(inputs)

    def reset(self, stream: int | None = None) -> None:
        """Makes a stream (all where None) start anew: its memory counts as zero for its next frame."""
        which = range(self.streams) if stream is None else [stream]
        self._check_streams(which)
        with self._one_at_a_time:
            self._opened(self._memory).clear(which)
            if self._rolling is not None:
                self._rolling.clear(which)

    def _check(self, frames: Array, which: Sequence[int]) -> None:
        """Raises a UsageError where a step cannot take these frames of these streams."""
        if len(set(which)) < len(which):
            raise UsageError(f"A step takes one frame of a stream, and the streams {which} name one twice.")
        self._check_streams(which)
        if frames.shape != (len(which), *self.contract.frame_shape):
            raise UsageError(
                f"The model takes frames of shape {(len(which), *self.contract.frame_shape)} (streams, channels, rows, "
                f"columns), and these have {frames.shape}."
            )

    def _check_streams(self, which: Sequence[int]) -> None:
        if missing := [stream for stream in which if not 0 <= stream < self.streams]:
            raise UsageError(f"There is no stream {missing[0]}; the classifier keeps {self.streams}, from 0 on.")

    @staticmethod
    def _opened(part: _T | None) -> _T:
        if part is None:
            raise UsageError("The classifier was closed at the end of its `with` block; load it again.")
        return part


class _RollingMean:
    """The last probabilities of some streams, and their mean.

    Args:
        streams: Number of streams.
        window: Number of frames over which it is taken.
        outputs: Number of classes.
    """

    def __init__(self, streams: int, window: int, outputs: int) -> None:
        self._window = window
        self._last = np.zeros((streams, window, outputs), np.float32)
        self._seen = np.zeros(streams, np.int64)

    def add(self, probabilities: NDArray[np.float32], streams: Sequence[int]) -> NDArray[np.float32]:
        """Takes the probabilities `[n, K]` of one frame of each of `n` streams; returns the means."""
        which = np.asarray(streams)
        self._last[which, self._seen[which] % self._window] = probabilities
        self._seen[which] += 1
        counts = np.minimum(self._seen[which], self._window)[:, None]
        mean: NDArray[np.float32] = self._last[which].sum(axis=1) / counts.astype(np.float32)
        return mean

    def clear(self, streams: Sequence[int]) -> None:
        """Forgets what streams have shown."""
        self._last[list(streams)] = 0
        self._seen[list(streams)] = 0


def _options(device: Device, threads: int | None, options: DeviceOptions | None) -> DeviceOptions:
    if options is None:
        return DeviceOptions(device, threads)
    if device != "auto" or threads is not None:
        raise UsageError("Give the device and the threads among the options, or without options.")
    return options


__all__ = [
    "Backend", "Classifier", "Device", "DeviceOptions", "Placement", "Predictions", "open_model",
    "optimised_graph",
]  # fmt: skip
