"""The event frames of a source, made as a model wants them, in two stages: pieces of a stream, and frames of them."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.preprocessing import area_resize, create_preprocessing
from edgeclf_runtime.slicing import MOST_EVENTS, Slice, merged, slices
from edgeclf_runtime.sources import EventSource, FrameSource, Source, open_source

CROWDED_OUT = "events beyond what a frame takes"

_log = logging.getLogger(__name__)

Piece = TypeVar("Piece")


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


class FrameStream(ABC, Generic[Piece]):
    """The frames of a source for a model; iterating over it gives them one after the other.

    Who wants to read and to make frames at the same time takes the two stages apart: `pieces` reads, in one thread, and
    `make` makes a frame of each piece, in order, in another.

    Attributes:
        source: Where they come from.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """Yields what a frame each is made of, in order."""

    @abstractmethod
    def make(self, piece: Piece) -> Frame:
        """Returns the frame of a piece."""

    @abstractmethod
    def merge(self, older: Piece, newer: Piece) -> Piece:
        """Returns one piece that stands for two, with the number and the end of the newer one."""

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.name

    @property
    def damage(self) -> Mapping[str, int]:
        """What was wrong with the source and its frames until now, counted by kind; only what occurred."""
        return self.source.damage

    @property
    def problems(self) -> list[str]:
        """What was wrong with the source and its frames, a sentence each; complete once all has been read."""
        return self.source.problems

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames in order."""
        return map(self.make, self.pieces())


class EventFrames(FrameStream[Slice]):
    """The frames of a source of events.

    Args:
        source: The source.
        contract: The model's contract.
        start_ts: Where frames start, in µs; None: at the first event's time, rounded down to a whole slice.
        max_duration: How much to use, in µs; None: all.

    Raises:
        UsageError: Where the model cannot take its frames.
    """

    def __init__(
        self,
        source: EventSource,
        contract: Contract,
        start_ts: int | None = None,
        max_duration: int | None = None,
    ) -> None:
        super().__init__(source)
        self._events = source
        self._delta_t = contract.delta_t
        self._bounds = (start_ts, max_duration)
        self._crowded_out = 0
        try:
            self._maker = FrameMaker(
                contract.preprocess,
                contract.preprocess_kwargs,
                contract.delta_t,
                source.sensor_size,
                contract.frame_shape[1:],
            )
            if self._maker.channels != contract.frame_shape[0]:
                raise UsageError(
                    f"The preprocessing {contract.preprocess} makes {self._maker.channels} channels, and the model "
                    f"takes {contract.frame_shape[0]}; export its checkpoint again."
                )
        except UsageError as error:
            raise UsageError(f"{source.name} does not fit the model. {error}") from error
        _warn_if_distorted(source, contract)

    @property
    def damage(self) -> Mapping[str, int]:
        """What was wrong until now, counted by kind."""
        return {**super().damage, **({CROWDED_OUT: self._crowded_out} if self._crowded_out else {})}

    @property
    def problems(self) -> list[str]:
        """What was wrong, a sentence each."""
        problems = super().problems
        if self._crowded_out:
            problems.append(
                f"{self._crowded_out} event(s) of {self.source.name} were left out, as a frame takes {MOST_EVENTS} at "
                "most: lower the camera's event rate."
            )
        return problems

    def pieces(self) -> Iterator[Slice]:
        """Yields the slices of the stream."""
        start_ts, max_duration = self._bounds
        return slices(self._events, self._delta_t, start_ts, max_duration, lambda: self._events.time_us)

    def make(self, piece: Slice) -> Frame:
        """Returns the frame of a slice."""
        begin = perf_counter_ns()
        self._crowded_out += piece.dropped
        data = self._maker(piece)
        return Frame(piece.index, piece.end_us, data, (perf_counter_ns() - begin) / 1000)

    def merge(self, older: Slice, newer: Slice) -> Slice:
        """Returns the newer slice with the events of both."""
        return merged(older, newer)


@dataclass(frozen=True)
class StoredFrame:
    """A frame as it stands in a tensor file.

    Attributes:
        index: Its number, from 0.
        end_us: First µs after its time slice.
        data: `[C, H, W]`, float32, of the file's size.
    """

    index: int
    end_us: int
    data: NDArray[np.float32]


class StoredFrames(FrameStream[StoredFrame]):
    """The frames of a source of frames.

    Args:
        source: The source.
        contract: The model's contract.

    Raises:
        UsageError: Where the model cannot take its frames.
    """

    def __init__(self, source: FrameSource, contract: Contract) -> None:
        super().__init__(source)
        self._frames = source
        self._frame_size = contract.frame_shape[1:]
        source.made.check_made_by(Path(source.name), contract.preprocess, contract.preprocess_kwargs, contract.delta_t)
        channels, rows, columns = source.frame_shape
        if channels != contract.frame_shape[0]:
            raise UsageError(
                f"{source.name} does not fit the model: its frames have channels: {channels}, the model's "
                f"{contract.frame_shape[0]}; make the file again with `edgeclf dataset events`."
            )
        try:
            _check_shrinks((rows, columns), self._frame_size)
        except UsageError as error:
            raise UsageError(f"{source.name} does not fit the model. {error}") from error
        _warn_if_distorted(source, contract)

    def pieces(self) -> Iterator[StoredFrame]:
        """Yields the frames as they are stored."""
        for index, (end_us, data) in enumerate(self._frames):
            yield StoredFrame(index, end_us, data)

    def make(self, piece: StoredFrame) -> Frame:
        """Returns the frame at the model's size."""
        begin = perf_counter_ns()
        data = area_resize(piece.data, *self._frame_size)
        return Frame(piece.index, piece.end_us, data, (perf_counter_ns() - begin) / 1000)

    def merge(self, older: StoredFrame, newer: StoredFrame) -> StoredFrame:  # noqa: ARG002 - events are wanted for more
        """Returns the newer frame: without their events, two frames cannot become one."""
        return newer


def frames_of(
    source: Source, contract: Contract, start_ts: int | None = None, max_duration: int | None = None
) -> FrameStream[Any]:
    """Returns the frames of a source for a model.

    Args:
        source: The source.
        contract: The model's contract.
        start_ts: Where frames start, in µs; sources of events only.
        max_duration: How much to use, in µs; sources of events only.

    Raises:
        UsageError: Where the model cannot take its frames, or bounds are given for frames that were made before.
    """
    if isinstance(source, EventSource):
        return EventFrames(source, contract, start_ts, max_duration)
    if not isinstance(source, FrameSource):
        raise TypeError(f"a source is an EventSource or a FrameSource, not a {type(source).__name__}")
    if start_ts is not None or max_duration is not None:
        raise UsageError(f"{source.name}: a tensor file is used whole; give a start or a duration for recordings only.")
    return StoredFrames(source, contract)


def open_frames(path: str | Path, contract: Contract, sensor_size: tuple[int, int] | None = None) -> FrameStream[Any]:
    """Opens a recording or a tensor file as frames for a model; see `open_source` and `frames_of`."""
    return frames_of(open_source(path, sensor_size), contract)


def _check_shrinks(made: tuple[int, int], wanted: tuple[int, int]) -> None:
    if wanted[0] > made[0] or wanted[1] > made[1]:
        raise UsageError(
            f"Frames of {made[0]}×{made[1]} (height × width) would have to be enlarged to {wanted[0]}×{wanted[1]}, "
            "which invents detail; use a sensor of that size at least, or train with smaller frames."
        )


def _warn_if_distorted(source: Source, contract: Contract) -> None:
    _, height, width = contract.frame_shape
    trained = contract.sensor_size or (width, height)
    sensor_size = source.sensor_size
    if abs(sensor_size[0] * trained[1] / (sensor_size[1] * trained[0]) - 1) > 0.05:
        _log.warning(
            "%s: a sensor of %d×%d (width × height) is squeezed into frames of %d×%d; the model was trained on %d×%d, "
            "so shapes look different to it.",
            source.name, *sensor_size, width, height, *trained,
        )  # fmt: skip
