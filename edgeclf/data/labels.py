"""Label files of Metavision's layout, and the label of every frame."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.contract import BACKGROUND
from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.files import written_whole

LABEL_MAP_FILE = "label_map_dictionary.json"
IGNORED = -1
"""The label of a frame that is left out of the loss and of every KPI; as a label id it says the same."""
_UNKNOWN = -2
_LARGEST_ID = 65_535

# Prophesee's EventBbox; of it, `ts` and `class_id` matter for classification.
BOX_DTYPE = np.dtype(
    [
        ("ts", "<u8"),
        ("x", "<f4"),
        ("y", "<f4"),
        ("w", "<f4"),
        ("h", "<f4"),
        ("class_id", "<u4"),
        ("track_id", "<u4"),
        ("class_confidence", "<f4"),
    ]
)


@dataclass(frozen=True)
class LabelEvents:
    """The labels of a recording: from time `t[i]` (µs, in the recording's own time) a frame shows `class_id[i]`."""

    t: NDArray[np.int64]
    class_id: NDArray[np.int64]


def label_file_of(recording: Path) -> Path:
    """Returns the label file that stands beside a recording's `.h5`.

    Raises:
        InputFileError: Where there is none.
    """
    for name in (f"{recording.stem}_bbox.npy", f"{recording.stem}_labels.npz"):
        if (path := recording.with_name(name)).is_file():
            return path
    raise InputFileError(
        f"{recording}: there is no label file beside it; a data set needs {recording.stem}_bbox.npy or "
        f"{recording.stem}_labels.npz for each recording."
    )


def read_labels(path: Path) -> LabelEvents:
    """Reads a `_bbox.npy` (structured, with `ts` or `t`, and `class_id`) or a `_labels.npz` (`ts`, `labels`).

    Returns:
        The labels in time order.

    Raises:
        InputFileError: Where the file is neither.
    """
    try:
        with path.open("rb") as file:  # NumPy leaves one that it opened itself open where it fails
            content = np.load(file)
            if isinstance(content, np.lib.npyio.NpzFile):
                t, class_id = content["ts"], content["labels"]
            else:
                t = content["t"] if "t" in (content.dtype.names or ()) else content["ts"]
                class_id = content["class_id"]
        _check_columns(t, class_id)
    except Exception as error:  # of a damaged file NumPy may raise anything, tokenize.TokenError and zlib.error too
        raise InputFileError(
            f"{path}: this label file cannot be read; it must be a structured array with ts and class_id (_bbox.npy), "
            "or hold the arrays ts and labels (_labels.npz)."
        ) from error
    if class_id.dtype == np.uint32:
        class_id = class_id.view(np.int32)  # EventBbox has no negative numbers, and -1 means "leave this frame out"
    order = np.argsort(t, kind="stable")
    return LabelEvents(t[order].astype(np.int64), class_id[order].astype(np.int64))


def _check_columns(t: NDArray[Any], class_id: NDArray[Any]) -> None:
    """Raises a `ValueError` unless these are two columns of as many whole numbers."""
    if t.ndim != 1 or t.shape != class_id.shape:
        raise ValueError("times and labels are not two columns of one length")
    for values in (t, class_id):
        whole = values.dtype.kind in "iu" or (values.dtype.kind == "f" and bool((values == np.floor(values)).all()))
        if not whole or not np.isfinite(values).all():
            raise ValueError("times and labels are not whole numbers")


def write_box_labels(path: Path, labels: LabelEvents, frame_size: tuple[int, int]) -> None:
    """Writes a `_bbox.npy` whose boxes cover the whole frame (`frame_size`: rows, columns)."""
    boxes = np.zeros(labels.t.size, BOX_DTYPE)
    boxes["ts"], boxes["class_id"] = labels.t, labels.class_id
    boxes["h"], boxes["w"] = frame_size
    boxes["class_confidence"] = 1.0
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.save(file, boxes)


def read_label_map(folder: Path) -> dict[int, str]:
    """Reads `label_map_dictionary.json` at the top of a data set: label id to class name.

    Raises:
        InputFileError: Where it is not there or not such a dictionary.
    """
    path = folder / LABEL_MAP_FILE
    if not folder.is_dir():
        raise InputFileError(f"{folder}: there is no such data set folder.")
    if not path.is_file():
        raise InputFileError(
            f"{folder}: this data set folder has no {LABEL_MAP_FILE}, which names the classes "
            '(like {"0": "paper", "1": "rock"}).'
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {int(key): name for key, name in content.items()}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputFileError(
            f'{path}: this is not a dictionary of label ids and names, like {{"0": "paper"}}.'
        ) from error
    texts = [name for name in names.values() if isinstance(name, str)]
    if len(set(texts)) < len(content) or not all(0 <= label_id <= _LARGEST_ID for label_id in names):
        raise InputFileError(
            f"{path}: every label id must be a whole number from 0 to {_LARGEST_ID}, and every name a text that no "
            "other id has."
        )
    if not class_names(names):
        raise InputFileError(f"{path}: it names no class besides background and ignore; add the data set's classes.")
    return names


def write_label_map(folder: Path, names: Sequence[str]) -> None:
    """Writes `label_map_dictionary.json` for label ids 0, 1, … in the order of `names`."""
    with written_whole(folder / LABEL_MAP_FILE) as temporary:
        temporary.write_text(
            json.dumps({str(i): name for i, name in enumerate(names)}, ensure_ascii=False, indent=2) + "\n",
            encoding="utf-8",
        )


def class_names(label_map: Mapping[int, str]) -> tuple[str, ...]:
    """Returns the classes of a label map in the order of their ids; background and `ignore` left out."""
    return tuple(name for _, name in sorted(label_map.items()) if name not in (BACKGROUND, "ignore"))


def class_lookup(label_map: Mapping[int, str], outputs: Sequence[str], source: str) -> NDArray[np.int64]:
    """Returns the output of each label id, as an array to index with.

    It holds -1 for a class that the model does not have, and -2 for an id that the label map does not have.

    Args:
        label_map: Label id to class name.
        outputs: The model's outputs, in order.
        source: The data set, for errors.

    Raises:
        UsageError: Where the model and the data set share no class.
    """
    table = np.full(max(label_map, default=-1) + 1, _UNKNOWN, np.int64)
    for label_id, name in label_map.items():
        table[label_id] = outputs.index(name) if name in outputs else IGNORED
    classes = class_names(label_map)
    if not any(name in outputs for name in classes):
        raise UsageError(
            f"{source}: its classes ({', '.join(classes)}) are none of the model's ({', '.join(outputs)}); give the "
            "data set that the model was made for, or train a model on this one."
        )
    return table


def frame_labels(
    labels: LabelEvents,
    lookup: NDArray[np.int64],
    frames: int,
    delta_t: int,
    start_ts: int = 0,
    label_delta_t: int | None = None,
    background: int = 0,
) -> NDArray[np.int64]:
    """Returns the output that is right for each frame, `[frames]`; -1 where the frame is left out.

    A frame's label is the last one given within its time slice; a frame without one is background. Where
    `label_delta_t` is given, only frames whose slice holds a multiple of it are labelled at all. The label id -1
    leaves a frame out as well.

    Args:
        labels: The recording's labels.
        lookup: Output of each label id, see `class_lookup`.
        frames: Number of frames.
        delta_t: Duration of a frame in µs.
        start_ts: Start of frame 0 in µs.
        label_delta_t: Interval of labelling in µs.
        background: The output that stands for background; -1 for a model without one.

    Raises:
        UsageError: Where a label id is not in the label map.
    """
    found = np.unique(labels.class_id)
    known = [IGNORED, *np.flatnonzero(lookup != _UNKNOWN)]
    if unknown := sorted(set(found.tolist()) - set(known)):
        raise UsageError(
            f"The label ids {', '.join(map(str, unknown))} are not in {LABEL_MAP_FILE}; add them to it, or correct "
            "the labels."
        )
    outputs = np.append(lookup, IGNORED)  # where the label id -1 finds it
    result = np.full(frames, background, np.int64)
    frame = (labels.t - start_ts) // delta_t
    inside = (frame >= 0) & (frame < frames)
    result[frame[inside]] = outputs[labels.class_id[inside]]  # in time order, so the last one stays
    if label_delta_t is not None:
        starts = start_ts + delta_t * np.arange(frames)
        holds_a_multiple = -(-starts // label_delta_t) * label_delta_t < starts + delta_t
        result[~holds_a_multiple] = IGNORED
    return result
