"""Where event frames come from: recordings of events, and tensor files."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.events import Recording, open_recording
from edgeclf_runtime.preprocessing import area_resize, create_preprocessing
from edgeclf_runtime.slicing import Slice, slices
from edgeclf_runtime.tensor_file import TensorFile

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """One event frame of a source.

    Attributes:
        index: Its number, from 0.
        end_us: First µs after its time slice, in the recording's own time.
        data: `[C, H, W]`, float32.
        preparation_us: How long it took to make it of its events, once all of them were there.
    """

    index: int
    end_us: int
    data: NDArray[np.float32]
    preparation_us: float


class FrameMaker:
    """Makes event frames of slices of events: preprocessing at the sensor's size, then shrinking by area.

    Args:
        preprocess: Name of the preprocessing.
        preprocess_kwargs: Its arguments.
        delta_t: Duration of a slice in µs.
        sensor_size: Width and height of the sensor.
        frame_size: Rows and columns of the frames; None: as the preprocessing makes them.

    Raises:
        UsageError: Where the frames would have to be enlarged.
    """

    def __init__(
        self,
        preprocess: str,
        preprocess_kwargs: Mapping[str, Any],
        delta_t: int,
        sensor_size: tuple[int, int],
        frame_size: tuple[int, int] | None = None,
    ) -> None:
        self._preprocess = create_preprocessing(
            preprocess, sensor_size=sensor_size, delta_t=delta_t, **preprocess_kwargs
        )
        width, height = sensor_size
        made = self._preprocess.frame_size(height, width)
        self.frame_size = made if frame_size is None else frame_size
        _check_shrinks(made, self.frame_size)
        self.channels = self._preprocess.channels

    def __call__(self, piece: Slice) -> NDArray[np.float32]:
        """Returns the frame of a slice, `[C, H, W]`."""
        return area_resize(self._preprocess(piece.events, piece.start_us), *self.frame_size)


class FrameSource(ABC):
    """Something that gives event frames for a model.

    Attributes:
        path: The file.
        problems: What was wrong with it, a sentence each; complete once all frames have been given.
    """

    path: Path

    @property
    @abstractmethod
    def problems(self) -> list[str]:
        """What was wrong with the source."""

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames in order."""


class RecordingSource(FrameSource):
    """The frames of a recording of events."""

    def __init__(
        self,
        recording: Recording,
        contract: Contract,
        start_ts: int | None = None,
        max_duration: int | None = None,
    ) -> None:
        self.path = recording.path
        self._recording = recording
        self._delta_t = contract.delta_t
        self._bounds = (start_ts, max_duration)
        try:
            self._maker = FrameMaker(
                contract.preprocess,
                contract.preprocess_kwargs,
                contract.delta_t,
                recording.sensor_size,
                contract.frame_shape[1:],
            )
            if self._maker.channels != contract.frame_shape[0]:
                raise UsageError(
                    f"The preprocessing {contract.preprocess} makes {self._maker.channels} channels, and the model "
                    f"takes {contract.frame_shape[0]}; export its checkpoint again."
                )
        except UsageError as error:
            raise UsageError(f"{self.path} does not fit the model. {error}") from error
        _warn_if_distorted(self.path, recording.sensor_size, contract)

    @property
    def problems(self) -> list[str]:
        """What was wrong with the recording."""
        return self._recording.problems

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames in order."""
        start_ts, max_duration = self._bounds
        for piece in slices(self._recording, self._delta_t, start_ts, max_duration):
            begin = perf_counter_ns()
            data = self._maker(piece)
            yield Frame(piece.index, piece.end_us, data, (perf_counter_ns() - begin) / 1000)


class TensorSource(FrameSource):
    """The frames of a tensor file."""

    def __init__(self, path: Path, contract: Contract) -> None:
        self.path = path
        self._frame_size = contract.frame_shape[1:]
        with TensorFile(path) as file:
            made = file.attributes
            _, channels, rows, columns = file.shape
        made.check_made_by(path, contract.preprocess, contract.preprocess_kwargs, contract.delta_t)
        if channels != contract.frame_shape[0]:
            raise UsageError(
                f"{path} does not fit the model: its frames have channels: {channels}, the model's "
                f"{contract.frame_shape[0]}; make the file again with `edgeclf dataset events`."
            )
        try:
            _check_shrinks((rows, columns), self._frame_size)
        except UsageError as error:
            raise UsageError(f"{path} does not fit the model. {error}") from error
        _warn_if_distorted(path, made.sensor_size, contract)

    @property
    def problems(self) -> list[str]:
        """Always empty: a damaged tensor file is an error where it is opened or read."""
        return []

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames in order."""
        with TensorFile(self.path) as file:
            for index, (stored, end_us) in enumerate(zip(file, file.frame_ends().tolist(), strict=True)):
                begin = perf_counter_ns()
                data = area_resize(stored, *self._frame_size)
                yield Frame(index, end_us, data, (perf_counter_ns() - begin) / 1000)


def open_source(
    path: str | Path,
    contract: Contract,
    sensor_size: tuple[int, int] | None = None,
    start_ts: int | None = None,
    max_duration: int | None = None,
) -> FrameSource:
    """Opens a recording (RAW, DAT) or a tensor file as a source of frames for a model.

    Args:
        path: The file.
        contract: The model's contract.
        sensor_size: Width and height, for recordings that do not say.
        start_ts: Where frames start, in µs; recordings only.
        max_duration: How much of the recording to use, in µs; recordings only.

    Raises:
        InputFileError: Where the file is not there or is none of these.
        UsageError: Where the model cannot take its frames.
    """
    path = Path(path)
    if path.is_dir():
        raise InputFileError(f"{path}: this is a folder; give a recording (.raw, .dat) or a tensor file (.h5) in it.")
    if not path.is_file():
        raise InputFileError(f"{path}: there is no such file.")
    if path.suffix.lower() in (".h5", ".hdf5") or h5py.is_hdf5(path):
        if start_ts is not None or max_duration is not None:
            raise UsageError(f"{path}: a tensor file is used whole; give a start or a duration for recordings only.")
        return TensorSource(path, contract)
    return RecordingSource(open_recording(path, sensor_size), contract, start_ts, max_duration)


def _check_shrinks(made: tuple[int, int], wanted: tuple[int, int]) -> None:
    if wanted[0] > made[0] or wanted[1] > made[1]:
        raise UsageError(
            f"Frames of {made[0]}×{made[1]} (height × width) would have to be enlarged to {wanted[0]}×{wanted[1]}, "
            "which invents detail; use a sensor of that size at least, or train with smaller frames."
        )


def _warn_if_distorted(path: Path, sensor_size: tuple[int, int], contract: Contract) -> None:
    _, height, width = contract.frame_shape
    trained = contract.sensor_size or (width, height)
    if abs(sensor_size[0] * trained[1] / (sensor_size[1] * trained[0]) - 1) > 0.05:
        _log.warning(
            "%s: a sensor of %d×%d (width × height) is squeezed into frames of %d×%d; the model was trained on %d×%d, "
            "so shapes look different to it.",
            path, *sensor_size, width, height, *trained,
        )  # fmt: skip
