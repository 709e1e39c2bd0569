"""Event frames of a real recording for any model: what candidates are measured on."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import InputFileError
from edgeclf_runtime.events import Events
from edgeclf_runtime.frames import FrameMaker, FrameStream, frames_of
from edgeclf_runtime.preprocessing import create_preprocessing
from edgeclf_runtime.slicing import Slice
from edgeclf_runtime.sources import EventSource, open_source


class ScaledSource(EventSource):
    """A source of events whose coordinates are scaled to another sensor.

    Args:
        source: The source.
        sensor_size: Width and height of the other sensor.
    """

    def __init__(self, source: EventSource, sensor_size: tuple[int, int]) -> None:
        self.name = source.name
        self.is_live = source.is_live
        self.sensor_size = sensor_size
        self._source = source

    def __iter__(self) -> Iterator[Events]:
        """Returns an iterator over the batches."""
        if self.sensor_size == self._source.sensor_size:
            return iter(self._source)
        return scaled(self._source, self._source.sensor_size, self.sensor_size)

    @property
    def time_us(self) -> int | None:
        """How far the sensor's time has come; see `EventSource`."""
        return self._source.time_us

    @property
    def problems(self) -> list[str]:
        """What was wrong with the source, a sentence each."""
        return self._source.problems

    @property
    def damage(self) -> Mapping[str, int]:
        """What was wrong with the source until now, counted by kind."""
        return self._source.damage

    def close(self) -> None:
        """Closes the source."""
        self._source.close()


def open_scaled(contract: Contract, recording: str | Path) -> FrameStream[Any]:
    """Opens a recording or a tensor file as frames for any model.

    Coordinates of a recording are scaled to the sensor that the model was trained for; frames of a tensor file are
    taken as they are, and shrunk where they are larger than the model's.

    Args:
        contract: The model's contract.
        recording: The file.

    Returns:
        The frames, whose source is to be closed.

    Raises:
        InputFileError: Where the file is not there or is not what it should be.
        UsageError: Where the model cannot take frames of it.
    """
    source = open_source(recording)
    try:
        if isinstance(source, EventSource):
            source = ScaledSource(source, contract.sensor_size or _fitting_sensor(contract))
        return frames_of(source, contract)
    except BaseException:
        source.close()
        raise


def event_frames(contract: Contract, recording: str | Path, count: int) -> NDArray[np.float32]:
    """Returns the first event frames of a recording, as a model takes them; see `open_scaled`.

    Where the recording is too short for so many frames of the model's `delta_t`, its time is cut into so many shorter
    slices.

    Args:
        contract: The model's contract.
        recording: A recording or a tensor file.
        count: How many frames, 1 or more.

    Returns:
        `[count, C, H, W]`; fewer where a tensor file holds fewer.

    Raises:
        InputFileError: Where the file is not there or is not what it should be, or where no frame has an event in it.
        UsageError: Where the model cannot take frames of it.
    """
    stream = open_scaled(contract, recording)
    with contextlib.closing(stream.source):
        pieces = list(itertools.islice(stream.pieces(), count))
        if isinstance(stream.source, EventSource) and 0 < len(pieces) < count:
            found = _cut_finer(pieces, count, contract, stream.source.sensor_size)
        else:
            found = [stream.make(piece).data for piece in pieces]
    if not any(frame.any() for frame in found):
        raise InputFileError(
            f"{stream.name}: there is no event in its first {count} frames, and a model is not measured on zeros; give "
            "a recording in which something moves."
        )
    return np.stack(found)


def scaled(batches: Iterable[Events], of: tuple[int, int], to: tuple[int, int]) -> Iterator[Events]:
    """Yields events of a sensor (width, height) with their coordinates scaled to another one."""
    for events in batches:
        x, y = (
            (values.astype(np.int64) * wanted // had).astype(np.uint16)
            for values, had, wanted in zip((events.x, events.y), of, to, strict=True)
        )
        yield Events(events.t, x, y, events.p)


def equal_slices(events: Events, count: int) -> list[Slice]:
    """Returns so many slices of equal duration that all events, one or more, are in, also those without events."""
    first = int(events.t[0])
    duration = (int(events.t[-1]) - first) // count + 1
    cuts = np.searchsorted(events.t, first + duration * np.arange(count + 1))
    return [
        Slice(k, first + k * duration, first + (k + 1) * duration, events[begin:end])
        for k, (begin, end) in enumerate(itertools.pairwise(cuts.tolist()))
    ]


def _cut_finer(
    pieces: Sequence[Slice], count: int, contract: Contract, sensor_size: tuple[int, int]
) -> list[NDArray[np.float32]]:
    """Returns so many frames of the events of fewer slices."""
    finer = equal_slices(Events.concatenate(piece.events for piece in pieces), count)
    duration = finer[0].end_us - finer[0].start_us
    make = FrameMaker(contract.preprocess, contract.preprocess_kwargs, duration, sensor_size, contract.frame_shape[1:])
    return [make(piece) for piece in finer]


def _fitting_sensor(contract: Contract) -> tuple[int, int]:
    """Returns width and height of a sensor whose frames are as large as the model's, where it does not say its own."""
    _, height, width = contract.frame_shape
    preprocessing = create_preprocessing(
        contract.preprocess, (width, height), contract.delta_t, **contract.preprocess_kwargs
    )
    rows, columns = preprocessing.frame_size(height, width)
    return width * -(-width // columns), height * -(-height // rows)
