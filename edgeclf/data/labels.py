"""Label files and label maps of Metavision's layout."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
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
IGNORE_ID = 255
"""The label id that says so in the label maps of Metavision's checkpoints."""
UNKNOWN = -2
"""What `class_lookup` holds for a label id that the label map does not have."""
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
_BOX_COLUMNS = BOX_DTYPE.names or ()


@dataclass(frozen=True)
class LabelEvents:
    """The labels of a recording: from time `t[i]` (µs, in the recording's own time) a frame shows `class_id[i]`."""

    t: NDArray[np.int64]
    class_id: NDArray[np.int64]


def label_file_of(recording: Path) -> Path:
    """Returns the label file that stands beside a recording (`NAME.h5` or `NAME_td.dat`).

    Raises:
        InputFileError: Where there is none.
    """
    name = recording_name(recording)
    names = [f"{name}_bbox.npy", f"{name}_labels.npz"]
    for candidate in [*names, f"{recording.stem}_bbox.npy"]:  # NAME_td_bbox.npy: so some tools call it
        if (path := recording.with_name(candidate)).is_file():
            return path
    raise InputFileError(
        f"{recording}: there is no label file beside it; a data set needs {' or '.join(names)} for each recording."
    )


def recording_name(path: Path) -> str:
    """Returns the NAME of a recording's file, `NAME.h5` or `NAME_td.dat`."""
    return path.stem.removesuffix("_td") if path.suffix == ".dat" else path.stem


def read_labels(path: Path, label_map: Mapping[int, str] | None = None) -> LabelEvents:
    """Reads a `_bbox.npy` (structured, with `ts` or `t`, and `class_id`) or a `_labels.npz` (`ts`, `labels`).

    Args:
        path: The file.
        label_map: The data set's; see `read_boxes`.

    Returns:
        The labels in time order.

    Raises:
        InputFileError: Where the file is neither.
    """
    boxes = read_boxes(path, () if label_map is None else label_map)
    return LabelEvents(boxes["ts"].view(np.int64), boxes["class_id"].view(np.int32).astype(np.int64))


def read_boxes(path: Path, known_ids: Container[int] = ()) -> NDArray[np.void]:
    """Reads a label file as boxes of `BOX_DTYPE`, in time order; what the file does not state is zero.

    Args:
        path: The file.
        known_ids: The data set's label ids. Where 255 is none of them, it becomes -1 in a `_labels.npz`: "leave this
            frame out", as in the label maps of Metavision's checkpoints.

    Raises:
        InputFileError: Where the file is neither a `_bbox.npy` nor a `_labels.npz`.
    """
    try:
        with path.open("rb") as file:  # NumPy leaves one that it opened itself open where it fails
            content = np.load(file)
            if isinstance(content, np.lib.npyio.NpzFile):
                columns = {"ts": content["ts"], "class_id": content["labels"]}
            else:
                columns = {name: content[name] for name in content.dtype.names or () if name in _BOX_COLUMNS}
                if "t" in (content.dtype.names or ()):
                    columns["ts"] = content["t"]
        t, class_id = _whole(columns.pop("ts"), 62), _whole(columns.pop("class_id"), 31)
        if t.ndim != 1 or t.shape != class_id.shape:
            raise ValueError("times and labels are not two columns of one length")
        if path.suffix == ".npz" and IGNORE_ID not in known_ids:
            class_id = np.where(class_id == IGNORE_ID, IGNORED, class_id)
        boxes = np.zeros(t.size, BOX_DTYPE)
        boxes["ts"], boxes["class_id"] = t.view(np.uint64), class_id.astype(np.int32).view(np.uint32)
        with np.errstate(invalid="ignore", over="ignore"):  # of a box only its time and its class are used
            for name, values in columns.items():
                boxes[name] = values
    except Exception as error:  # of a damaged file NumPy may raise anything, tokenize.TokenError and zlib.error too
        raise InputFileError(
            f"{path}: this label file cannot be read; it must be a structured array with ts and class_id (_bbox.npy), "
            "or hold the arrays ts and labels (_labels.npz), of whole numbers."
        ) from error
    return boxes[np.argsort(boxes["ts"].view(np.int64), kind="stable")]


def _whole(values: NDArray[Any], bits: int) -> NDArray[np.int64]:
    """Returns whole numbers of so many bits and a sign; raises a `ValueError` where these are something else."""
    if values.dtype == np.uint32:
        values = values.view(np.int32)  # EventBbox has no negative numbers, and -1 means "leave this frame out"
    whole = values.dtype.kind in "iu" or (values.dtype.kind == "f" and bool((values == np.floor(values)).all()))
    if not whole or (values.size and not -(2.0**bits) < values.min() <= values.max() < 2.0**bits):
        raise ValueError(f"these are not whole numbers of {bits} bits")
    return values.astype(np.int64)


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
    table = np.full(max(label_map, default=-1) + 1, UNKNOWN, np.int64)
    for label_id, name in label_map.items():
        table[label_id] = outputs.index(name) if name in outputs else IGNORED
    classes = class_names(label_map)
    if not any(name in outputs for name in classes):
        raise UsageError(
            f"{source}: its classes ({', '.join(classes)}) are none of the model's ({', '.join(outputs)}); give the "
            "data set that the model was made for, or train a model on this one."
        )
    return table
