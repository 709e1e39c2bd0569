"""A data set folder in Metavision's layout, opened for reading."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgeclf.data.labels import (
    IGNORED,
    class_lookup,
    class_names,
    frame_labels,
    label_file_of,
    read_label_map,
    read_labels,
)
from edgeclf_runtime.contract import BACKGROUND
from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.tensor_file import TensorAttributes, TensorFile

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class LabelledRecording:
    """One recording of a split.

    Attributes:
        path: Its tensor file.
        labels: The right output for each frame, `[N]`; -1 where a frame is left out.
        attributes: How its frames were made.
        frame_shape: Channels, rows and columns of its stored frames.
    """

    path: Path
    labels: NDArray[np.int64]
    attributes: TensorAttributes
    frame_shape: tuple[int, int, int]

    def __len__(self) -> int:
        return self.labels.size


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


def describe(root: Path) -> DatasetDescription:
    """Returns what the first recording of a data set says; `recordings` holds the others against the model.

    Raises:
        InputFileError: Where the folder is no data set.
    """
    classes = class_names(read_label_map(root))
    split: Split
    for split in ("train", "val", "test"):
        if (root / split).is_dir():
            with TensorFile(_tensor_files(root, split)[0]) as file:
                return DatasetDescription(classes, file.attributes, file.shape[1:])
    raise InputFileError(f"{root}: this data set folder has none of the folders train, val and test.")


def recordings(
    root: Path,
    split: Split,
    outputs: Sequence[str],
    delta_t: int,
    preprocess: str,
    preprocess_kwargs: Mapping[str, Any] | None = None,
    label_delta_t: int | None = None,
) -> list[LabelledRecording]:
    """Opens the recordings of a split with their labels, sorted by name.

    Args:
        root: The data set folder.
        split: Which of its folders.
        outputs: The model's outputs, in order.
        delta_t: Duration of a frame in µs that the model takes.
        preprocess: The preprocessing that the model takes.
        preprocess_kwargs: Its arguments; see `TensorAttributes.check_made_by`.
        label_delta_t: Interval of labelling in µs, see `frame_labels`.

    Raises:
        InputFileError: Where a file is missing or is not what it should be.
        UsageError: Where the files are not made for this model.
    """
    lookup = class_lookup(read_label_map(root), outputs, str(root))
    background = outputs.index(BACKGROUND) if BACKGROUND in outputs else IGNORED
    result = []
    for path in _tensor_files(root, split):
        with TensorFile(path) as file:
            made, shape = file.attributes, file.shape
        made.check_made_by(path, preprocess, preprocess_kwargs or {}, delta_t)
        if not shape[0]:
            raise InputFileError(f"{path}: it holds no frame; make it again with `edgeclf dataset events`.")
        label_file = label_file_of(path)
        label_events = read_labels(label_file)
        try:
            labels = frame_labels(label_events, lookup, shape[0], delta_t, made.start_ts, label_delta_t, background)
        except UsageError as error:
            raise InputFileError(f"{label_file}: {error}") from error
        result.append(LabelledRecording(path, labels, made, shape[1:]))
    return result


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


def _tensor_files(root: Path, split: Split) -> list[Path]:
    folder = root / split
    if not folder.is_dir():
        raise InputFileError(f"{root}: this data set has no folder {split}.")
    files = sorted(folder.glob("*.h5"))
    if not files:
        raise InputFileError(f"{folder}: there is no .h5 file in it; make them with `edgeclf dataset events`.")
    return files
