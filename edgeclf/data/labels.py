"""Label files of Metavision's layout, and the label of every frame."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.contract import BACKGROUND
from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.files import written_whole

LABEL_MAP_FILE = "label_map_dictionary.json"
IGNORED = -1
"""The label of a frame that is left out of the loss and of every KPI."""

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

    Raises:
        InputFileError: Where the file is neither.
    """
    try:
        content = np.load(path)
        if isinstance(content, np.lib.npyio.NpzFile):
            with content:
                t, class_id = content["ts"], content["labels"]
        else:
            t = content["t"] if "t" in (content.dtype.names or ()) else content["ts"]
            class_id = content["class_id"]
    except (OSError, ValueError, KeyError, IndexError, EOFError) as error:
        raise InputFileError(
            f"{path}: this label file cannot be read; it must be a structured array with ts and class_id (_bbox.npy), "
            "or hold the arrays ts and labels (_labels.npz)."
        ) from error
    order = np.argsort(t, kind="stable")
    return LabelEvents(t[order].astype(np.int64), class_id[order].astype(np.int64))


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
        return {int(key): str(name) for key, name in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, AttributeError) as error:
        raise InputFileError(
            f'{path}: this is not a dictionary of label ids and names, like {{"0": "paper"}}.'
        ) from error


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
    """Returns the output of each label id, as an array to index with: -1 for a class that the model does not have.

    Args:
        label_map: Label id to class name.
        outputs: The model's outputs, in order.
        source: The data set, for errors.

    Raises:
        UsageError: Where the model and the data set share no class.
    """
    table = np.full(max(label_map, default=-1) + 1, IGNORED, np.int64)
    for label_id, name in label_map.items():
        if name in outputs:
            table[label_id] = outputs.index(name)
    classes = class_names(label_map)
    if not any(name in outputs for name in classes):
        raise UsageError(
            f"{source}: its classes ({', '.join(classes)}) are none of the model's ({', '.join(outputs)})."
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
    `label_delta_t` is given, only frames whose slice holds a multiple of it are labelled at all.

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
    if labels.class_id.size and not 0 <= labels.class_id.min() <= labels.class_id.max() < lookup.size:
        unknown = sorted({int(c) for c in labels.class_id if not 0 <= c < lookup.size})
        raise UsageError(f"The label ids {unknown} are not in {LABEL_MAP_FILE}, which goes up to {lookup.size - 1}.")
    result = np.full(frames, background, np.int64)
    frame = (labels.t - start_ts) // delta_t
    inside = (frame >= 0) & (frame < frames)
    result[frame[inside]] = lookup[labels.class_id[inside]]  # in time order, so the last one stays
    if label_delta_t is not None:
        starts = start_ts + delta_t * np.arange(frames)
        holds_a_multiple = -(-starts // label_delta_t) * label_delta_t < starts + delta_t
        result[~holds_a_multiple] = IGNORED
    return result
