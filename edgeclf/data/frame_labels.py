"""The label of every frame, from a recording's labels and the times of its frames."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeclf.data.labels import IGNORED, LABEL_MAP_FILE, UNKNOWN, LabelEvents, label_file_of, read_boxes
from edgeclf_runtime.errors import UsageError


def frame_labels(
    labels: LabelEvents,
    lookup: NDArray[np.int64],
    ends_us: NDArray[np.int64],
    start_us: int = 0,
    label_delta_t: int | None = None,
    background: int = 0,
    interpolate: bool = False,
    source: str = LABEL_MAP_FILE,
) -> NDArray[np.int64]:
    """Returns the output that is right for each frame, `[N]`; -1 where the frame is left out.

    See `labels_within` for which label is a frame's. A frame without one is background. The label id -1 leaves a
    frame out.

    Args:
        labels: The recording's labels.
        lookup: Output of each label id, see `edgeclf.data.labels.class_lookup`.
        ends_us: First µs after each frame, `[N]`, not decreasing.
        start_us: Start of frame 0 in µs.
        label_delta_t: Interval of labelling in µs.
        background: The output that stands for background; -1 for a model without one.
        interpolate: Whether a frame between two labels of one class has that label too.
        source: What `lookup` was made of, for errors.

    Raises:
        UsageError: Where `lookup` does not have a label id.
    """
    known = [IGNORED, *np.flatnonzero(lookup != UNKNOWN)]
    if unknown := sorted(set(np.unique(labels.class_id).tolist()) - set(known)):
        raise UsageError(
            f"The label ids {', '.join(map(str, unknown))} are not in {source}; add them to it, or correct the labels."
        )
    index, is_labeled = labels_within(labels, ends_us, start_us, label_delta_t, interpolate)
    # One more entry at the end, for the id -1 of frames left out and for the index -1 of frames without a label.
    outputs = np.append(lookup, IGNORED)[np.append(labels.class_id, IGNORED)[index]]
    return np.where(is_labeled, np.where(index >= 0, outputs, background), IGNORED)


def labels_within(
    labels: LabelEvents,
    ends_us: NDArray[np.int64],
    start_us: int,
    label_delta_t: int | None = None,
    interpolate: bool = False,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Returns which label is each frame's, and which frames are labelled at all.

    A frame's label is the last one given within its time slice. All frames are labelled; where `label_delta_t` is
    given, only those whose slice holds a multiple of it. With `interpolate`, a frame that has no label of its own and
    lies between two labels of one class is labelled with that class.

    Args:
        labels: The recording's labels, in time order.
        ends_us: First µs after each frame, `[N]`, not decreasing.
        start_us: Start of frame 0 in µs.
        label_delta_t: Interval of labelling in µs.
        interpolate: See above.

    Returns:
        Index of a label `[N]`, -1 where the frame has none, and whether the frame is labelled, bool `[N]`.
    """
    starts = np.concatenate([[start_us], ends_us[:-1]])
    last = np.searchsorted(labels.t, ends_us) - 1
    times = np.append(labels.t, np.iinfo(np.int64).min)  # where -1 finds it
    own = times[last] >= starts
    index = np.where(own, last, -1)
    is_labeled = np.ones(ends_us.size, np.bool_)
    if label_delta_t is not None:
        is_labeled = -(-starts // label_delta_t) * label_delta_t < ends_us
    if interpolate and labels.t.size:
        following = np.minimum(last + 1, labels.t.size - 1)
        alike = labels.class_id[last] == labels.class_id[following]
        between = ~own & (last >= 0) & (last + 1 < labels.t.size) & alike
        index[between] = last[between]
        is_labeled = is_labeled | between
    return index, is_labeled


def count_outside(labels: LabelEvents, ends_us: NDArray[np.int64], start_us: int) -> int:
    """Returns how many labels no frame can have, as they lie before the first one or after the last.

    Raises:
        UsageError: Where that is all of them: they are not this recording's.
    """
    outside = int(((labels.t < start_us) | (labels.t >= ends_us[-1])).sum())
    if outside and outside == labels.t.size:
        raise UsageError(
            f"All its labels, from {labels.t[0]} to {labels.t[-1]} µs, lie outside of the recording, which goes from "
            f"{start_us} to {ends_us[-1]} µs; give the labels of this recording, with times in µs of its own time."
        )
    return outside


class HasPath(Protocol):
    """Anything that says which file a recording is, such as `edgeclf.data.dataset.LabelledRecording`."""

    @property
    def path(self) -> str | Path:
        """The recording's `.h5` or `_td.dat`, beside which its label file stands."""


def load_classes(
    metadata: HasPath,
    batch_start_time: int,
    duration: int,
    tensor: Sized,
    class_lookup: NDArray[np.integer[Any]] | None = None,
    label_delta_t: int | None = None,
    use_label_freq: bool = False,
    interpolate: bool = False,
    *,
    labelling_delta_t: int | None = None,
) -> tuple[list[NDArray[np.void]], NDArray[np.bool_]]:
    """Reads the labels of consecutive time bins of a recording, as boxes.

    Of several boxes in a time bin, the last one is the bin's label, as in the batches of the data module. A bin without
    boxes shows the background.

    Args:
        metadata: The recording.
        batch_start_time: Start of the first bin in µs, in the recording's own time.
        duration: Duration of all bins together in µs.
        tensor: The frames of the bins; it says how many there are.
        class_lookup: What becomes of each label id; negative: its boxes are left out, and a bin that ends with one is
            not labelled. None: ids stay as they are.
        label_delta_t: Interval of labelling in µs, where `use_label_freq`.
        use_label_freq: Whether only bins that hold a multiple of `label_delta_t` are labelled.
        interpolate: Whether a bin between two boxes of one class has one of that class too.
        labelling_delta_t: Interval of labelling in µs, whatever `use_label_freq` says.

    Returns:
        For each time bin its boxes, of `BOX_DTYPE` (Prophesee's EventBbox) with `ts` in the recording's own time; and
        whether the bin is labelled, bool `[number of bins]`.

    Raises:
        InputFileError: Where there is no label file or it is none.
        UsageError: Where `class_lookup` has no entry for a label id.
    """
    known_ids = range(0 if class_lookup is None else len(class_lookup))
    label_file = label_file_of(Path(metadata.path))
    boxes = read_boxes(label_file, known_ids)
    labels = LabelEvents(boxes["ts"].view(np.int64), boxes["class_id"].view(np.int32).astype(np.int64))
    lookup = np.arange(labels.class_id.max(initial=-1) + 1) if class_lookup is None else np.asarray(class_lookup)
    lookup = np.maximum(lookup, IGNORED).astype(np.int64)
    ends_us = batch_start_time + np.arange(1, len(tensor) + 1) * duration // max(len(tensor), 1)
    interval = labelling_delta_t or (label_delta_t if use_label_freq else None)
    try:
        of_frames = frame_labels(labels, lookup, ends_us, batch_start_time, interval, 0, interpolate, "class_lookup")
    except UsageError as error:
        raise UsageError(f"{label_file}: {error}") from error
    index, _ = labels_within(labels, ends_us, batch_start_time, interval, interpolate)

    class_id = np.append(lookup, IGNORED)[labels.class_id]
    boxes["class_id"] = class_id.astype(np.int32).view(np.uint32)
    starts = np.concatenate([[batch_start_time], ends_us[:-1]])
    frame_of = np.searchsorted(ends_us, labels.t, side="right")
    frame_of[(labels.t < batch_start_time) | (class_id == IGNORED)] = -1
    result = []
    for frame, (start, i) in enumerate(zip(starts, index, strict=True)):
        own = boxes[frame_of == frame]
        if interpolate and i >= 0 and labels.t[i] < start and class_id[i] != IGNORED:
            own = boxes[i : i + 1].copy()
            own["ts"] = start
        result.append(own)
    return result, of_frames != IGNORED
