"""The two sides of a parity check: the exported file, and its reference, PyTorch or a Metavision export."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgeclf.data.dataset import LabelledRecording
from edgeclf.data.sequential import RecordingDataset
from edgeclf.evaluation import RecordingLogits, evaluate
from edgeclf.hyperparameters import HyperParameters
from edgeclf.models import Classifier as TorchClassifier
from edgeclf_export.formats.metavision import INFO_NAME
from edgeclf_export.parity.drift import Lockstep
from edgeclf_export.recordings import recording_logits, run_frames
from edgeclf_runtime.backends.base import last_line
from edgeclf_runtime.backends.torchscript import load_script
from edgeclf_runtime.contract import BACKGROUND, Contract
from edgeclf_runtime.errors import EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.golden import Array
from edgeclf_runtime.preprocessing import area_resize, effective_arguments
from edgeclf_runtime.session import Classifier

_log = logging.getLogger(__name__)

T = TypeVar("T")

_CHUNK = 16  # frames that a Metavision classifier is given at once
_SUM_TO_1 = 1e-2  # by how much probabilities may miss it, which in float16 each are rounded


class Watch(Protocol):
    """Shows how far something has come; `edgeclf_runtime.console.progress` is one."""

    def __call__(
        self, items: Iterable[T], label: str, length: int | None = None
    ) -> AbstractContextManager[Iterable[T]]:
        """Returns a context that gives the items again."""


def unwatched(items: Iterable[T], label: str, length: int | None = None) -> AbstractContextManager[Iterable[T]]:
    """Shows nothing; a `Watch`."""
    del label, length
    return nullcontext(items)


@dataclass(frozen=True)
class Footing:
    """What two classifiers must have in common to be compared on a data set.

    Attributes:
        labels: Name of each output.
        delta_t: Duration of a frame in µs.
        frame_size: Rows and columns of a frame.
        preprocess: Name of the preprocessing.
        preprocess_kwargs: Its arguments.
    """

    labels: tuple[str, ...]
    delta_t: int
    frame_size: tuple[int, int]
    preprocess: str
    preprocess_kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, described: Contract | HyperParameters) -> Footing:
        """Returns that of a contract, or of a checkpoint's hyper-parameters."""
        size = described.frame_shape[1:] if isinstance(described, Contract) else (described.height, described.width)
        return cls(described.labels, described.delta_t, size, described.preprocess, described.preprocess_kwargs)

    def difference(self, other: Footing) -> str | None:
        """Returns the first thing in which another one differs, as a clause; None where there is none."""
        pairs: list[tuple[str, Any, Any]] = [
            ("outputs are", ", ".join(self.labels), ", ".join(other.labels)),
            ("frames (height × width) are", _size(self.frame_size), _size(other.frame_size)),
            ("frames last, in µs,", self.delta_t, other.delta_t),
            ("preprocessing is", self.preprocess, other.preprocess),
        ]
        if self.preprocess == other.preprocess:
            own, others = (effective_arguments(side.preprocess, side.preprocess_kwargs) for side in (self, other))
            pairs += [(f"preprocessing's {name} is", value, others.get(name)) for name, value in own.items()]
        for what, has, wants in pairs:
            if has != wants:
                return f"its {what} {has}, the checkpoint's {wants}"
        return None


class Reference(ABC):
    """What an exported file is held against.

    Attributes:
        name: What people call it.
        eager: The classifier in PyTorch, whose state can be looked at; None where it keeps that to itself.
        gives_probabilities: Whether it gives probabilities alone, so that its logits are their logarithms; known once
            it has run.
    """

    name: str
    eager: TorchClassifier | None = None
    gives_probabilities = False

    @abstractmethod
    def run(self, data: RecordingDataset, watch: Watch) -> list[RecordingLogits]:
        """Returns what it gives for every frame of every recording, in any order."""


class PyTorchReference(Reference):
    """A checkpoint's classifier, run as training's validation runs it.

    Args:
        classifier: In evaluation mode.
    """

    def __init__(self, classifier: TorchClassifier) -> None:
        self.name = "PyTorch"
        self.eager = classifier

    def run(self, data: RecordingDataset, watch: Watch) -> list[RecordingLogits]:
        """Returns what it gives for every frame; see `Reference.run`."""
        assert self.eager is not None
        with watch(data, self.name, len(data)) as batches:
            return evaluate(self.eager, batches)


class MetavisionReference(Reference):
    """A classifier that was exported as TorchScript for Metavision's programs, by whomever; it keeps its own memory.

    It is given frames `[T, 1, C, H, W]`, and clears its memory by `reset_all` or, where it lacks that, by `reset` with
    a mask of 0; one that has neither is loaded anew for every recording. What it gives are logits `[T, 1, K]`, or
    probabilities, where those of all frames of all recordings are such; their logarithms stand for logits then.

    Args:
        folder: The folder with its two files.
        footing: What the checkpoint's classifier stands on.

    Raises:
        InputFileError: Where a file is missing, or is not what it should be.
        UsageError: Where the classifier is not for the same frames and labels.
    """

    def __init__(self, folder: Path, footing: Footing) -> None:
        self._path, info_path = (
            _only(folder, "*.ptjit", "model_classifier.ptjit"),
            _only(folder, "info*.json", INFO_NAME),
        )
        if difference := _described_by(info_path, footing).difference(footing):
            raise UsageError(f"{info_path}: this Metavision export is another classifier: {difference}.")
        self._outputs = len(footing.labels)
        self._module = self._loaded()
        self.name = f"Metavision, {folder.resolve().name}"

    def run(self, data: RecordingDataset, watch: Watch) -> list[RecordingLogits]:
        """Returns what it gives for every frame; see `Reference.run`."""
        with watch(data.recordings, self.name, len(data.recordings)) as recordings:
            given = [self._run(recording, data.frame_shape) for recording in recordings]
        self.gives_probabilities = all(_are_probabilities(recording.logits) for recording in given)
        if not self.gives_probabilities:
            return given
        _log.info("%s gives probabilities; their logarithms are compared.", self._path)
        return [replace(recording, logits=recording.logits.log()) for recording in given]

    def _run(self, recording: LabelledRecording, frame_shape: tuple[int, int, int]) -> RecordingLogits:
        frames, parts = reference_frames(recording, frame_shape[1:]), []
        try:
            self._clear()
            with torch.inference_mode():
                while chunk := _next(frames, _CHUNK):
                    parts.append(self._module(torch.from_numpy(np.stack(chunk))[:, None]).float().cpu())
        except EdgeclfError:
            raise
        except Exception as error:  # a TorchScript program raises anything
            raise EdgeclfError(
                f"{self._path}: it fails on the frames of {recording.path} ({last_line(error)}); give a classifier "
                "that was exported for frames [T, B, C, H, W]."
            ) from error
        given = torch.cat(parts)
        if given.shape != (len(recording), 1, self._outputs):
            raise UsageError(
                f"{self._path}: it gives {list(given.shape)} for {len(recording)} frames of one stream, and "
                f"{[len(recording), 1, self._outputs]} (frames, streams, outputs) fit its labels."
            )
        return recording_logits(recording, given[:, 0].numpy())

    def _clear(self) -> None:
        """Makes the classifier start anew."""
        if hasattr(self._module, "reset_all"):
            self._module.reset_all()
        elif hasattr(self._module, "reset"):
            self._module.reset(torch.zeros(1, 1, 1, 1))
        else:
            self._module = self._loaded()

    def _loaded(self) -> Any:
        try:
            return load_script(self._path, "cpu").eval()
        except Exception as error:  # PyTorch raises anything on a damaged file
            raise InputFileError(
                f"{self._path}: PyTorch cannot load it ({last_line(error)}); export the classifier again."
            ) from error


class ExportedSide:
    """An exported file that is run by the runtime, frame by frame, as on a device.

    Attributes:
        classifier: The file.
        name: What people call it.

    Args:
        classifier: The file.
        path: Where it is.
    """

    def __init__(self, classifier: Classifier, path: Path) -> None:
        self.classifier = classifier
        self.name = f"{path.resolve().name}, {classifier.device}"

    def run(
        self, recordings: Sequence[LabelledRecording], watch: Watch, lockstep: Lockstep | None = None
    ) -> list[RecordingLogits]:
        """Returns what it gives for every frame of every recording, in order.

        Args:
            recordings: What to run on; they are opened by the file's own contract.
            watch: Shows how far it has come.
            lockstep: Is moved on with it, where there is one.
        """
        with watch(recordings, self.name, len(recordings)) as items:
            return [self._run(recording, lockstep) for recording in items]

    def _run(self, recording: LabelledRecording, lockstep: Lockstep | None) -> RecordingLogits:
        classifier = self.classifier
        # A tensor file's frames are the same for both sides, so they are read once.
        own = None if recording.dat is None else reference_frames(recording, classifier.contract.frame_shape[1:])

        def run(frame: Array) -> Array:
            if lockstep is not None:
                lockstep.step(frame if own is None else next(own), frame)
            logits: Array = classifier.step(frame[None]).logits[0]
            return logits

        classifier.reset()
        if lockstep is not None:
            lockstep.start()
        return recording_logits(recording, run_frames(recording, classifier.contract, run))


def log_probabilities(recordings: Sequence[RecordingLogits]) -> list[RecordingLogits]:
    """Returns recordings with the logarithms of their probabilities for logits, none below that of float32's least.

    So they can be compared with those of a classifier that gives probabilities alone, which has lost by how much all
    its logits were larger, and how improbable that is which is as good as impossible.
    """
    least = torch.tensor(torch.finfo(torch.float32).tiny).log()
    return [replace(one, logits=one.logits.log_softmax(1).maximum(least)) for one in recordings]


def reference_frames(recording: LabelledRecording, size: tuple[int, int]) -> Iterator[NDArray[np.float32]]:
    """Yields the frames of a recording as training reads them, `[C, H, W]` each.

    Args:
        recording: A recording of a data set.
        size: Rows and columns that the classifier takes.
    """
    store = recording.open()
    try:
        for start in range(0, len(recording), _CHUNK):
            frames = area_resize(store.read(start, start + _CHUNK), *size)
            yield from np.ascontiguousarray(frames, np.float32)
    finally:
        store.close()


def _next(frames: Iterator[T], count: int) -> list[T]:
    return [frame for _, frame in zip(range(count), frames, strict=False)]


def _are_probabilities(given: Tensor) -> bool:
    """Whether all rows `[N, K]` are from 0 on and sum to 1."""
    return bool((given >= 0).all()) and bool(((given.sum(1) - 1).abs() < _SUM_TO_1).all())


def _size(size: Sequence[int]) -> str:
    return "×".join(map(str, size))


def _only(folder: Path, pattern: str, usual: str) -> Path:
    """Returns the file of the usual name in a folder, else the only one of a pattern."""
    if not folder.is_dir():
        raise InputFileError(f"{folder}: this is no folder; give the one that holds a Metavision export's two files.")
    found = [folder / usual] if (folder / usual).is_file() else sorted(folder.glob(pattern))
    if len(found) != 1:
        raise InputFileError(
            f"{folder}: {len(found) or 'none'} of its files {'is' if len(found) < 2 else 'are'} called {pattern}; a "
            f"Metavision export has one, usually {usual}."
        )
    return found[0]


def _described_by(path: Path, footing: Footing) -> Footing:
    """Reads what a Metavision export says of itself; what older ones leave out is as in `footing`."""
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        label_map = info["label_map"]
        if isinstance(label_map, dict):
            label_map = [label_map[key] for key in sorted(label_map, key=int)]
        labels = tuple(map(str, label_map))
        if BACKGROUND not in labels and footing.labels[0] == BACKGROUND:
            labels = (BACKGROUND, *labels)  # the recurrent classifiers have it besides their classes
        preprocess, arguments = str(info["preprocess"]), info.get("preprocess_kwargs")
        if not arguments:  # as in older checkpoints
            arguments = {key: info[key] for key in ("max_incr_per_pixel",) if info.get(key) is not None}
        size = (int(info["height"]), int(info["width"]))
        return Footing(labels, int(info["delta_t"]), size, preprocess, dict(arguments))
    except KeyError as error:
        raise InputFileError(
            f"{path}: it does not say what {error.args[0]} is; a Metavision export names label_map, delta_t, height, "
            "width and preprocess there."
        ) from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputFileError(
            f"{path}: this is no document of a Metavision export ({error}); export the classifier again."
        ) from error
