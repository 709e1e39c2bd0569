"""From recordings to tensor files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.slicing import slices
from edgeclf_runtime.sources import FrameMaker
from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file


@dataclass(frozen=True)
class FrameRecipe:
    """How event frames are made.

    Attributes:
        preprocess: Name of the preprocessing.
        preprocess_kwargs: Its arguments.
        delta_t: Duration of a frame in µs.
        frame_size: Rows and columns; None: as the preprocessing makes them at the sensor's size.
        store_as_uint8: Store values 0 to 1 as 0 to 255.

    Raises:
        UsageError: Where the preprocessing's values cannot be stored so.
    """

    preprocess: str = "histo"
    preprocess_kwargs: Mapping[str, Any] = field(default_factory=dict)
    delta_t: int = 10_000
    frame_size: tuple[int, int] | None = None
    store_as_uint8: bool = False

    def __post_init__(self) -> None:
        if self.store_as_uint8 and self.preprocess == "diff":
            raise UsageError(
                "The values of diff go from -1 to 1, and those below 0 cannot be stored as uint8; leave out "
                "--store-as-uint8, or use --preprocess histo."
            )


def convert_events(
    batches: Iterable[Events],
    sensor_size: tuple[int, int],
    path: Path,
    recipe: FrameRecipe,
    start_ts: int | None = None,
    max_duration: int | None = None,
) -> int:
    """Writes the event frames of a recording to a tensor file.

    Args:
        batches: The recording's events.
        sensor_size: Width and height of the sensor.
        path: The `.h5` to write.
        recipe: How frames are made.
        start_ts: Start of frame 0 in µs, see `edgeclf_runtime.slicing.slices`.
        max_duration: How much of the recording to use, in µs.

    Returns:
        The number of frames.

    Raises:
        InputFileError: Where the recording holds no events there.
        UsageError: Where frames cannot be made so.
    """
    maker = FrameMaker(recipe.preprocess, recipe.preprocess_kwargs, recipe.delta_t, sensor_size, recipe.frame_size)
    pieces = slices(batches, recipe.delta_t, start_ts, max_duration)
    first = next(pieces, None)
    if first is None:
        raise InputFileError(
            f"{path} is not written: from its start on, the recording holds no events to make a frame of; give an "
            "earlier --start-ts."
        )
    attributes = TensorAttributes(
        recipe.preprocess,
        recipe.delta_t,
        sensor_size,
        first.start_us,
        recipe.preprocess_kwargs,
        recipe.store_as_uint8,
    )
    frames = map(maker, chain([first], pieces))
    return write_tensor_file(path, _storable(frames, recipe) if recipe.store_as_uint8 else frames, attributes)


def _storable(frames: Iterable[NDArray[np.float32]], recipe: FrameRecipe) -> Iterator[NDArray[np.float32]]:
    """Yields `frames`, whose values must be 0 to 1: HDF5 would cut off the others without a word."""
    for frame in frames:
        if frame.size and not 0 <= frame.min() <= frame.max() <= 1:
            raise UsageError(
                f"The preprocessing {recipe.preprocess} made values from {frame.min():g} to {frame.max():g}, and uint8 "
                "holds 0 to 1; leave out --store-as-uint8."
            )
        yield frame
