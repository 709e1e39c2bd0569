"""Event frames of a real recording for any model: what candidates are measured on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import InputFileError
from edgeclf_runtime.events import Events
from edgeclf_runtime.frames import FrameMaker, frames_of
from edgeclf_runtime.preprocessing import create_preprocessing
from edgeclf_runtime.slicing import Slice, slices
from edgeclf_runtime.sources import EventSource, open_source


def event_frames(
    contract: Contract, recording: str | Path, count: int, sensor_size: tuple[int, int] | None = None
) -> NDArray[np.float32]:
    """Returns the first event frames of a recording, as a model takes them.

    Coordinates are scaled to the sensor that the model was trained for. Where the recording is too short for so many
    frames of the model's `delta_t`, its time is cut into so many shorter slices. Frames of a tensor file are taken as
    they are, and shrunk where they are larger than the model's.

    Args:
        contract: The model's contract.
        recording: A recording or a tensor file.
        count: How many frames, 1 or more.
        sensor_size: Width and height of the sensor, for recordings that do not say.

    Returns:
        `[count, C, H, W]`; fewer where a tensor file holds fewer.

    Raises:
        InputFileError: Where the file is not there or is not what it should be, or where no frame has an event in it.
        UsageError: Where the model cannot take frames of it.
    """
    source = open_source(recording, sensor_size)
    if isinstance(source, EventSource):
        found = _of_events(source, contract, count)
    else:
        found = [frame.data for frame in itertools.islice(frames_of(source, contract), count)]
    if not any(frame.any() for frame in found):
        raise InputFileError(
            f"{source.name}: there is no event in its first {count} frames, and a model is not measured on zeros; give "
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


def _of_events(source: EventSource, contract: Contract, count: int) -> list[NDArray[np.float32]]:
    sensor_size = contract.sensor_size or _fitting_sensor(contract)
    batches = scaled(source, source.sensor_size, sensor_size)
    duration = contract.delta_t
    pieces = list(itertools.islice(slices(batches, duration), count))
    source.close()
    if 0 < len(pieces) < count:
        pieces = equal_slices(Events.concatenate(piece.events for piece in pieces), count)
        duration = pieces[0].end_us - pieces[0].start_us
    make = FrameMaker(contract.preprocess, contract.preprocess_kwargs, duration, sensor_size, contract.frame_shape[1:])
    return [make(piece) for piece in pieces]


def _fitting_sensor(contract: Contract) -> tuple[int, int]:
    """Returns width and height of a sensor whose frames are as large as the model's, where it does not say its own."""
    _, height, width = contract.frame_shape
    preprocessing = create_preprocessing(
        contract.preprocess, (width, height), contract.delta_t, **contract.preprocess_kwargs
    )
    rows, columns = preprocessing.frame_size(height, width)
    return width * -(-width // columns), height * -(-height // rows)
