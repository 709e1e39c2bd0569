"""Event frames of a recording: how they are made, and the tensor file of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.frames import FrameMaker
from edgeclf_runtime.preprocessing import create_preprocessing, effective_arguments
from edgeclf_runtime.slicing import Slice, slices, slices_by_count
from edgeclf_runtime.tensor_file import FrameMode, TensorAttributes, write_tensor_file


@dataclass(frozen=True)
class FrameRecipe:
    """How event frames are made.

    Attributes:
        preprocess: Name of the preprocessing.
        preprocess_kwargs: Its arguments.
        delta_t: Duration of a frame in µs; where frames hold a number of events it is noted in the file, no more.
        frame_size: Rows and columns; None: as the preprocessing makes them at the sensor's size.
        store_as_uint8: Store values 0 to 1 as 0 to 255.
        mode: What ends a frame: `delta_t`, its duration, or `n_events`, its number of events.
        n_events: Events of a frame, where `mode` is `n_events`; else 0.

    Raises:
        UsageError: Where `n_events` and `mode` contradict each other.
    """

    preprocess: str = "histo"
    preprocess_kwargs: Mapping[str, Any] = field(default_factory=dict)
    delta_t: int = 10_000
    frame_size: tuple[int, int] | None = None
    store_as_uint8: bool = False
    mode: FrameMode = "delta_t"
    n_events: int = 0

    def __post_init__(self) -> None:
        if self.mode == "n_events" and self.n_events < 1:
            raise UsageError("Frames that end by their number of events need that number: give --n-events.")
        if self.mode != "n_events" and self.n_events:
            raise UsageError("Frames end by their duration, so --n-events has no meaning; add --mode n_events.")

    def check(self, sensor_size: tuple[int, int]) -> None:
        """Raises where frames of a sensor of this width and height cannot be made or stored so.

        Raises:
            UsageError: Where they cannot.
        """
        self.frame_maker(sensor_size)
        if not self.store_as_uint8:
            return
        made = create_preprocessing(self.preprocess, sensor_size, self.delta_t, **self.preprocess_kwargs)
        low, high = made.value_range
        # Of a preprocessing that does not state its range, each frame is looked at.
        if (isfinite(low) and low < 0) or (isfinite(high) and high > 1):
            raise UsageError(
                f"The values of {self.preprocess} go from {low:g} to {high:g}, and those outside of 0 to 1 cannot be "
                "stored as uint8; leave out --store-as-uint8, normalise them (--normalization-quantized) where the "
                "preprocessing can, or use --preprocess histo."
            )

    def frame_maker(self, sensor_size: tuple[int, int], duration: int | None = None) -> FrameMaker:
        """Returns what makes the frame of a slice.

        Args:
            sensor_size: Width and height of the sensor.
            duration: That of the slice in µs, by which a preprocessing measures time; None: `delta_t`.

        Raises:
            UsageError: Where frames cannot be made so.
        """
        duration = self.delta_t if duration is None else duration
        return FrameMaker(self.preprocess, self.preprocess_kwargs, duration, sensor_size, self.frame_size)

    def slices(self, batches: Iterable[Events], start_ts: int | None, max_duration: int | None) -> Iterator[Slice]:
        """Cuts a recording into the slices of which frames are made."""
        if self.mode == "delta_t":
            return slices(batches, self.delta_t, start_ts, max_duration)
        return slices_by_count(batches, self.n_events, start_ts, max_duration)


def complete_arguments(preprocess: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a preprocessing's arguments, those not given with their defaults, as files state all of them.

    Those whose default is no number, flag or text, which is what files hold, are left out where they are not given.

    Raises:
        UsageError: Where it does not take one that was given.
    """
    all_of_them = effective_arguments(preprocess, given)
    if unknown := sorted(given.keys() - all_of_them.keys()):
        raise UsageError(
            f"The preprocessing {preprocess} does not take {', '.join(unknown)}; it takes "
            f"{', '.join(all_of_them) or 'no arguments'}."
        )
    return {name: value for name, value in all_of_them.items() if isinstance(value, (bool, int, float, str))}


def convert_events(
    batches: Iterable[Events],
    sensor_size: tuple[int, int],
    path: Path,
    recipe: FrameRecipe,
    start_ts: int | None = None,
    max_duration: int | None = None,
    provenance: Callable[[], Mapping[str, Any]] | None = None,
) -> int:
    """Writes the event frames of a recording to a tensor file.

    Args:
        batches: The recording's events.
        sensor_size: Width and height of the sensor.
        path: The `.h5` to write.
        recipe: How frames are made.
        start_ts: Start of frame 0 in µs, see `edgeclf_runtime.slicing`.
        max_duration: How much of the recording to use, in µs.
        provenance: See `write_tensor_file`.

    Returns:
        The number of frames.

    Raises:
        InputFileError: Where the recording holds no events there.
        UsageError: Where frames cannot be made so.
    """
    recipe.check(sensor_size)
    pieces = recipe.slices(batches, start_ts, max_duration)
    first = next(pieces, None)
    if first is None:
        raise InputFileError(
            f"{path} is not written: the recording holds no events to make a frame of in the time that was asked for; "
            "change --start-ts or --max-duration-ms."
        )
    attributes = TensorAttributes(
        recipe.preprocess,
        recipe.delta_t,
        sensor_size,
        first.start_us if start_ts is None else start_ts,
        recipe.preprocess_kwargs,
        recipe.store_as_uint8,
        recipe.mode,
        recipe.n_events,
    )
    last_timestamps: list[int] = []
    frames = _frames(chain([first], pieces), recipe, sensor_size, last_timestamps)
    return write_tensor_file(path, frames, attributes, last_timestamps, provenance)


def _frames(
    pieces: Iterable[Slice], recipe: FrameRecipe, sensor_size: tuple[int, int], last_timestamps: list[int]
) -> Iterator[NDArray[np.float32]]:
    """Yields the frame of each slice, and notes in `last_timestamps` when its last event came, where that is kept."""
    make = recipe.frame_maker(sensor_size)
    for piece in pieces:
        if recipe.mode == "n_events":  # each of them lasts as long as its events do
            make = recipe.frame_maker(sensor_size, piece.end_us - piece.start_us)
        frame = make(piece)
        # HDF5 would cut off what uint8 cannot hold without a word.
        if recipe.store_as_uint8 and frame.size and not 0 <= frame.min() <= frame.max() <= 1:
            raise UsageError(
                f"The preprocessing {recipe.preprocess} made values from {frame.min():g} to {frame.max():g}, and uint8 "
                "holds 0 to 1; leave out --store-as-uint8."
            )
        if recipe.mode == "n_events":
            last_timestamps.append(piece.end_us - 1)
        yield frame
