from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgeclf.data.frame_labels import count_outside, frame_labels, load_classes
from edgeclf.data.labels import BOX_DTYPE, LabelEvents, class_lookup, write_box_labels
from edgeclf_runtime.errors import InputFileError, UsageError


def events(*pairs: tuple[int, int]) -> LabelEvents:
    return LabelEvents(np.array([t for t, _ in pairs], np.int64), np.array([c for _, c in pairs], np.int64))


def ends(frames: int, delta_t: int, start: int = 0) -> np.ndarray:
    return start + delta_t * np.arange(1, frames + 1)


def plain_labels(labels, table, ends_us, start_us, label_delta_t, background, interpolate):
    """One frame after the other, one label and one µs after the other, as the docstring says it."""
    pairs = list(zip(labels.t.tolist(), labels.class_id.tolist(), strict=True))
    result, first = [], start_us
    for end in ends_us.tolist():
        own = [class_id for t, class_id in pairs if first <= t < end]
        before = [class_id for t, class_id in pairs if t < first]
        after = [class_id for t, class_id in pairs if t >= end]
        between = before and after and before[-1] == after[0]
        if own:
            class_id = own[-1]
        elif interpolate and between:
            class_id = before[-1]
        else:
            class_id = None
        label = background if class_id is None else -1 if class_id == -1 else table[class_id]
        off_the_interval = label_delta_t is not None and all(t % label_delta_t for t in range(first, end))
        if off_the_interval and not (interpolate and not own and between):
            label = -1
        result.append(label)
        first = end
    return result


@pytest.mark.parametrize("interpolate", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_frame_labels_equal_a_plain_loop(seed: int, interpolate: bool) -> None:
    rng = np.random.default_rng(seed)
    frames, start_us = int(rng.integers(1, 30)), int(rng.integers(-200, 500))
    if seed % 3:  # frames of one duration
        ends_us = ends(frames, int(rng.integers(1, 40)), start_us)
    else:  # frames of a number of events
        ends_us = start_us + np.cumsum(rng.integers(0, 40, frames))
    table = {0: 2, 1: -1, 3: 1}  # class 1 is none of the model's, id 2 is none of the data set's
    t = np.sort(rng.integers(start_us - 50, int(ends_us[-1]) + 50, int(rng.integers(0, 30))))
    labels = LabelEvents(t, rng.choice([-1, 0, 1, 3], t.size))
    label_delta_t = None if seed % 2 else int(rng.integers(1, 100))
    background = -1 if seed % 5 == 0 else 0
    lookup = class_lookup({0: "b", 1: "unknown", 3: "a"}, ("background", "a", "b"), "data")
    found = frame_labels(labels, lookup, ends_us, start_us, label_delta_t, background, interpolate)
    assert found.dtype == np.int64
    expected = plain_labels(labels, table, ends_us, start_us, label_delta_t, background, interpolate)
    assert found.tolist() == expected


def test_a_frame_takes_the_last_label_within_it() -> None:
    lookup = np.array([5, 6])
    found = frame_labels(events((0, 0), (9, 1), (10, 0), (20, 1), (25, 0)), lookup, ends(4, 10), background=3)
    assert found.tolist() == [6, 5, 5, 3]


def test_interpolation_fills_between_two_labels_of_one_class_only() -> None:
    labels = events((5, 0), (45, 0), (55, 1), (75, 0), (76, -1), (95, -1))
    found = frame_labels(labels, np.array([1, 2]), ends(12, 10), interpolate=True)
    assert found.tolist() == [1, 1, 1, 1, 1, 2, 0, -1, -1, -1, 0, 0]
    sparse = frame_labels(labels, np.array([1, 2]), ends(12, 10), label_delta_t=40, interpolate=True)
    assert sparse.tolist() == [1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1]


@pytest.mark.parametrize(("label_id", "named"), [(2, "2"), (7, "7"), (-2, "-2"), (10**12, str(10**12))])
def test_a_label_id_that_is_not_in_the_map_is_refused_gaps_included(label_id: int, named: str) -> None:
    lookup = class_lookup({0: "a", 3: "b"}, ("background", "a", "b"), "data")
    with pytest.raises(UsageError, match=f"label ids {named} are not in label_map_dictionary"):
        frame_labels(events((0, 0), (1, label_id)), lookup, ends(3, 10))


def test_background_and_ignore_may_stand_in_the_label_map() -> None:
    lookup = class_lookup({0: "background", 1: "a", 7: "ignore"}, ("background", "a"), "data")
    assert frame_labels(events((0, 7), (10, 0), (20, 1)), lookup, ends(4, 10)).tolist() == [-1, 0, 1, 0]
    without = class_lookup({0: "background", 1: "a", 7: "ignore"}, ("a",), "data")
    assert frame_labels(events((0, 7), (10, 0), (20, 1)), without, ends(4, 10), background=-1).tolist() == [
        -1,
        -1,
        0,
        -1,
    ]


@pytest.mark.parametrize("interpolate", [False, True])
def test_no_labels_mean_background(interpolate: bool) -> None:
    assert frame_labels(events(), np.array([1]), ends(3, 10), interpolate=interpolate).tolist() == [0, 0, 0]


def test_labels_outside_of_the_recording_are_counted_and_refused_where_there_are_no_others() -> None:
    ends_us = ends(3, 10, start=100)
    assert count_outside(events((100, 0), (129, 0)), ends_us, 100) == 0
    assert count_outside(events((99, 0), (100, 0), (130, 0)), ends_us, 100) == 2
    assert count_outside(events(), ends_us, 100) == 0
    with pytest.raises(UsageError, match=r"from 5 to 130 µs, lie outside .* from 100 to 130 µs"):
        count_outside(events((5, 0), (99, 0), (130, 0)), ends_us, 100)


# --- the reference's function


@pytest.fixture
def recording(tmp_path: Path) -> SimpleNamespace:
    """Something with a path, and boxes beside it in any order."""
    write_box_labels(tmp_path / "a_bbox.npy", events((45, 2), (12, 0), (19, 2), (20, 1), (62, 2)), (4, 6))
    return SimpleNamespace(path=str(tmp_path / "a.h5"))


def contents(boxes: list[np.ndarray]) -> list[list[tuple[int, int]]]:
    assert {one.dtype for one in boxes} == {BOX_DTYPE}
    return [list(zip(one["ts"].tolist(), one["class_id"].tolist(), strict=True)) for one in boxes]


def test_load_classes_gives_the_boxes_of_each_time_bin(recording: SimpleNamespace) -> None:
    boxes, is_labeled = load_classes(recording, 10, 40, np.zeros((4, 2, 3, 3)), class_lookup=np.array([5, -1, 7]))
    assert contents(boxes) == [[(12, 5), (19, 7)], [], [], [(45, 7)]]
    assert boxes[0]["w"].tolist() == [6, 6]
    assert is_labeled.tolist() == [True, False, True, True], "class 1 is looked up as none"
    boxes, is_labeled = load_classes(recording, 10, 40, np.zeros(4))
    assert contents(boxes) == [[(12, 0), (19, 2)], [(20, 1)], [], [(45, 2)]]
    assert is_labeled.all()


@pytest.mark.parametrize(
    "arguments", [{"labelling_delta_t": 20}, {"label_delta_t": 20, "use_label_freq": True}, {"labelling_delta_t": 1}]
)
def test_load_classes_knows_the_labelling_interval(recording: SimpleNamespace, arguments: dict) -> None:
    _, is_labeled = load_classes(recording, 10, 40, np.zeros(4), **arguments)
    expected = [True] * 4 if arguments.get("labelling_delta_t") == 1 else [False, True, False, True]
    assert is_labeled.tolist() == expected
    assert load_classes(recording, 10, 40, np.zeros(4), label_delta_t=20)[1].all()


def test_load_classes_interpolates(recording: SimpleNamespace) -> None:
    boxes, is_labeled = load_classes(recording, 40, 30, np.zeros(6), interpolate=True, labelling_delta_t=1000)
    assert contents(boxes) == [[], [(45, 2)], [(50, 2)], [(55, 2)], [(62, 2)], []]
    assert is_labeled.tolist() == [False, False, True, True, False, False]


def test_load_classes_leaves_ids_of_minus_one_and_255_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "a_labels.npz", ts=[5, 15, 25], labels=[255, -1, 0])
    recording = SimpleNamespace(path=tmp_path / "a_td.dat")
    for lookup in (None, np.arange(3)):
        boxes, is_labeled = load_classes(recording, 0, 30, np.zeros(3), class_lookup=lookup)
        assert contents(boxes) == [[], [], [(25, 0)]]
        assert is_labeled.tolist() == [False, False, True]
    boxes, _ = load_classes(recording, 0, 30, np.zeros(3), class_lookup=np.arange(256))
    assert contents(boxes)[0] == [(5, 255)]


@pytest.mark.parametrize("seed", range(10))
def test_load_classes_says_what_the_batches_of_the_data_module_say(tmp_path: Path, seed: int) -> None:
    """The last box of a bin is its label, no box is background, and what is not labelled is -1."""
    rng = np.random.default_rng(seed)
    t = rng.integers(0, 400, 20)
    write_box_labels(tmp_path / "a_bbox.npy", LabelEvents(t, rng.integers(-1, 4, 20)), (4, 4))
    lookup, interval = np.array([1, 2, -1, 3]), (None, 30)[seed % 2]
    order = np.argsort(t, kind="stable")
    read = np.load(tmp_path / "a_bbox.npy")["class_id"].view(np.int32).astype(np.int64)
    expected = frame_labels(LabelEvents(t[order], read[order]), lookup, ends(40, 10), 0, interval, 0, seed % 3 == 0)
    recording = SimpleNamespace(path=tmp_path / "a.h5")
    boxes, is_labeled = load_classes(
        recording, 0, 400, np.zeros(40), lookup, interval, use_label_freq=True, interpolate=seed % 3 == 0
    )
    found = [int(one["class_id"][-1]) if one.size else 0 for one in boxes]
    assert [label if labelled else -1 for label, labelled in zip(found, is_labeled, strict=True)] == expected.tolist()


def test_load_classes_without_a_label_file_or_with_an_unknown_id_is_a_sentence(recording: SimpleNamespace) -> None:
    with pytest.raises(UsageError, match=r"a_bbox\.npy: The label ids 2 are not in class_lookup; add them to it"):
        load_classes(recording, 0, 10, np.zeros(1), class_lookup=np.arange(2))
    with pytest.raises(InputFileError, match="there is no label file beside it"):
        load_classes(SimpleNamespace(path="/nowhere/b.h5"), 0, 10, np.zeros(1))
