"""A data set folder in Metavision's layout, opened for reading."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgeclf.data.conversion import FrameRecipe
from edgeclf.data.dat_frames import DatFrames, DatIndex, index_dat
from edgeclf.data.frame_labels import count_outside, frame_labels
from edgeclf.data.frame_store import FrameStore
from edgeclf.data.labels import (
    IGNORED,
    class_lookup,
    class_names,
    label_file_of,
    read_label_map,
    read_labels,
    recording_name,
)
from edgeclf_runtime.contract import background_index
from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.events import open_recording
from edgeclf_runtime.tensor_file import FrameMode, TensorAttributes, TensorFile

_log = logging.getLogger(__name__)

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class LabelledRecording:
    """One recording of a split.

    Attributes:
        path: Its tensor file, or the `_td.dat` that stands in for it.
        labels: The right output for each frame, `[N]`; -1 where a frame is left out.
        ends_us: First µs after each frame, in the recording's own time, `[N]`.
        attributes: How its frames were made, or are made.
        frame_shape: Channels, rows and columns of its stored frames.
        dat: Where the events of a `_td.dat` lie; None for a tensor file.
    """

    path: Path
    labels: NDArray[np.int64]
    ends_us: NDArray[np.int64]
    attributes: TensorAttributes
    frame_shape: tuple[int, int, int]
    dat: DatIndex | None = None

    def __len__(self) -> int:
        return self.labels.size

    def start_us(self, frame: int) -> int:
        """Returns when a frame starts, in µs of the recording's own time."""
        return int(self.ends_us[frame - 1]) if frame else self.attributes.start_ts

    def open(self) -> FrameStore:
        """Opens its frames.

        Raises:
            InputFileError: Where the file is not there any more, or not what it was.
        """
        if self.dat is None:
            return TensorFile(self.path, self.attributes)
        return DatFrames(self.dat, self.attributes.preprocess, self.attributes.preprocess_kwargs)


@dataclass(frozen=True)
class DatasetDescription:
    """What the files of a data set agree on.

    Attributes:
        classes: Names of the classes, background left out.
        attributes: How the frames were made.
        frame_shape: Channels, rows and columns of a stored frame.
    """

    classes: tuple[str, ...]
    attributes: TensorAttributes
    frame_shape: tuple[int, int, int]


def describe(root: Path, recipe: FrameRecipe | None = None) -> DatasetDescription:
    """Returns what the first recording of a data set says; `recordings` holds the others against the model.

    Args:
        root: The data set folder.
        recipe: How frames are made where that recording is a `_td.dat`; None: as `edgeclf dataset events` does it.

    Raises:
        InputFileError: Where the folder is no data set.
        UsageError: Where frames cannot be made so.
    """
    classes = class_names(read_label_map(root))
    recipe = recipe or FrameRecipe()
    split: Split
    for split in ("train", "val", "test"):
        if (root / split).is_dir():
            path = _recording_files(root, split)[0]
            if path.suffix == ".h5":
                with TensorFile(path) as file:
                    return DatasetDescription(classes, file.attributes, file.shape[1:])
            sensor_size = open_recording(path).sensor_size
            attributes = TensorAttributes(recipe.preprocess, recipe.delta_t, sensor_size, 0, recipe.preprocess_kwargs)
            maker = recipe.frame_maker(sensor_size)
            return DatasetDescription(classes, attributes, (maker.channels, *maker.frame_size))
    raise InputFileError(f"{root}: this data set folder has none of the folders train, val and test.")


def recordings(
    root: Path,
    split: Split,
    outputs: Sequence[str],
    delta_t: int,
    preprocess: str,
    preprocess_kwargs: Mapping[str, Any] | None = None,
    label_delta_t: int | None = None,
    interpolate_labels: bool = False,
    mode: FrameMode = "delta_t",
    n_events: int | None = None,
) -> list[LabelledRecording]:
    """Opens the recordings of a split with their labels, sorted by name.

    Args:
        root: The data set folder.
        split: Which of its folders.
        outputs: The model's outputs, in order.
        delta_t: Duration of a frame in µs that the model takes.
        preprocess: The preprocessing that the model takes.
        preprocess_kwargs: Its arguments.
        label_delta_t: Interval of labelling in µs, see `frame_labels`.
        interpolate_labels: Whether a frame between two labels of one class has that label too.
        mode: What ends a frame of the model's.
        n_events: Events of a frame of the model's, where `mode` says so.

    Raises:
        InputFileError: Where a file is missing or is not what it should be.
        UsageError: Where the files are not made for this model.
    """
    label_map = read_label_map(root)
    lookup = class_lookup(label_map, outputs, str(root))
    background = background_index(outputs)
    of_no_label = IGNORED if background is None else background
    result, outside = [], []
    for path in _recording_files(root, split):
        if path.suffix == ".h5":
            dat, (made, shape, ends_us) = None, _read_description(path)
            made.check_made_by(path, preprocess, preprocess_kwargs or {}, delta_t, mode, n_events or 0)
        elif mode == "delta_t":
            dat, made, shape, ends_us = _dat_description(path, delta_t, preprocess, preprocess_kwargs or {})
        else:
            raise UsageError(
                f"{path}: the frames of a _td.dat recording end by their duration, the model's by their number of "
                "events; make an .h5 of it with `edgeclf dataset events --mode n_events`."
            )
        label_file = label_file_of(path)
        labels = read_labels(label_file, label_map)
        try:
            if count_outside(labels, ends_us, made.start_ts):
                outside.append(label_file)
            of_frames = frame_labels(
                labels, lookup, ends_us, made.start_ts, label_delta_t, of_no_label, interpolate_labels
            )
        except UsageError as error:
            raise InputFileError(f"{label_file}: {error}") from error
        result.append(LabelledRecording(path, of_frames, ends_us, made, shape, dat))
    if outside:
        _log.warning(
            "%s: %d of %d label files also hold labels for times outside of their recording, such as %s; those are not "
            "used.",
            root / split, len(outside), len(result), outside[0],
        )  # fmt: skip
    return result


def _read_description(path: Path) -> tuple[TensorAttributes, tuple[int, int, int], NDArray[np.int64]]:
    """Returns how the frames of a tensor file were made, their shape, and their ends."""
    with TensorFile(path) as file:
        made, shape, ends_us = file.attributes, file.shape, file.frame_ends()
    if not shape[0]:
        raise InputFileError(f"{path}: it holds no frame; make it again with `edgeclf dataset events`.")
    return made, shape[1:], ends_us


def _dat_description(
    path: Path, delta_t: int, preprocess: str, preprocess_kwargs: Mapping[str, Any]
) -> tuple[DatIndex, TensorAttributes, tuple[int, int, int], NDArray[np.int64]]:
    """Returns where the events of a DAT file lie, how its frames will be made, their shape, and their ends."""
    index = index_dat(path, delta_t)
    frames = DatFrames(index, preprocess, preprocess_kwargs)
    made = TensorAttributes(preprocess, delta_t, index.sensor_size, index.start_us, dict(preprocess_kwargs))
    return index, made, frames.shape[1:], frames.frame_ends()


def check_no_others(root: Path, planned: Collection[Path]) -> None:
    """Raises where a data set folder holds tensor files that will not be written anew.

    A data set made again with other splits would leave recordings in two of them, and training would see the test.

    Args:
        root: The data set folder, perhaps not there yet.
        planned: The tensor files that will be written.

    Raises:
        UsageError: Where there are others.
    """
    found = [path for split in get_args(Split) for path in sorted((root / split).glob("*.h5"))]
    if others := [path for path in found if path not in planned]:
        raise UsageError(
            f"{root}: it already holds recordings that this data set would not write, such as {others[0]}; give "
            "another folder or empty this one, so that none ends up in two splits."
        )


def _recording_files(root: Path, split: Split) -> list[Path]:
    """Returns the recordings of a split, sorted by name: `NAME.h5`, or `NAME_td.dat` where that is missing."""
    folder = root / split
    if not folder.is_dir():
        raise InputFileError(f"{root}: this data set has no folder {split}.")
    found = {path.stem: path for path in folder.glob("*.h5")}
    for path in folder.glob("*_td.dat"):
        if path.stem not in found:  # NAME_td.h5 is what `edgeclf dataset events` calls it
            found.setdefault(recording_name(path), path)
    if not found:
        raise InputFileError(
            f"{folder}: there is no .h5 file in it (nor a _td.dat recording); make them with `edgeclf dataset events`."
        )
    return [path for _, path in sorted(found.items())]
