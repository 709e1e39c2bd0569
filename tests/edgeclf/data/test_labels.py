from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeclf.data.labels import (
    BOX_DTYPE,
    LabelEvents,
    class_lookup,
    class_names,
    frame_labels,
    label_file_of,
    read_label_map,
    read_labels,
    write_box_labels,
    write_label_map,
)
from edgeclf_runtime.errors import InputFileError, UsageError


def events(*pairs: tuple[int, int]) -> LabelEvents:
    return LabelEvents(np.array([t for t, _ in pairs], np.int64), np.array([c for _, c in pairs], np.int64))


def plain_labels(labels, table, frames, delta_t, start_ts, label_delta_t, background):
    """One frame after the other, one µs after the other, as the docstring says it."""
    result = []
    for k in range(frames):
        first = start_ts + k * delta_t
        label = background
        for t, class_id in zip(labels.t.tolist(), labels.class_id.tolist(), strict=True):
            if first <= t < first + delta_t:
                label = -1 if class_id == -1 else table[class_id]
        if label_delta_t is not None and all(t % label_delta_t for t in range(first, first + delta_t)):
            label = -1
        result.append(label)
    return result


@pytest.mark.parametrize("seed", range(40))
def test_frame_labels_equal_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    delta_t, frames = int(rng.integers(1, 40)), int(rng.integers(1, 30))
    start_ts = int(rng.integers(-200, 500))
    table = {0: 2, 1: -1, 3: 1}  # class 1 is none of the model's, id 2 is none of the data set's
    t = np.sort(rng.integers(start_ts - 50, start_ts + frames * delta_t + 50, int(rng.integers(0, 60))))
    labels = LabelEvents(t, rng.choice([-1, 0, 1, 3], t.size))
    label_delta_t = None if seed % 2 else int(rng.integers(1, 100))
    background = -1 if seed % 5 == 0 else 0
    lookup = class_lookup({0: "b", 1: "unknown", 3: "a"}, ("background", "a", "b"), "data")
    found = frame_labels(labels, lookup, frames, delta_t, start_ts, label_delta_t, background)
    assert found.dtype == np.int64
    assert found.tolist() == plain_labels(labels, table, frames, delta_t, start_ts, label_delta_t, background)


def test_a_frame_takes_the_last_label_within_it() -> None:
    lookup = np.array([5, 6])
    found = frame_labels(events((0, 0), (9, 1), (10, 0), (20, 1), (25, 0)), lookup, 4, 10, background=3)
    assert found.tolist() == [6, 5, 5, 3]


@pytest.mark.parametrize(("label_id", "named"), [(2, "2"), (7, "7"), (-2, "-2"), (10**12, str(10**12))])
def test_a_label_id_that_is_not_in_the_map_is_refused_gaps_included(label_id: int, named: str) -> None:
    lookup = class_lookup({0: "a", 3: "b"}, ("background", "a", "b"), "data")
    with pytest.raises(UsageError, match=f"label ids {named} are not in label_map_dictionary"):
        frame_labels(events((0, 0), (1, label_id)), lookup, 3, 10)


def test_no_labels_mean_background() -> None:
    assert frame_labels(events(), np.array([1]), 3, 10).tolist() == [0, 0, 0]


# --- files


def test_box_labels_round_trip_in_time_order(tmp_path: Path) -> None:
    labels = events((50, 1), (20, 0), (20, 2), (2**33, 1))
    write_box_labels(tmp_path / "new" / "a_bbox.npy", labels, (12, 34))
    read = read_labels(tmp_path / "new" / "a_bbox.npy")
    assert list(zip(read.t.tolist(), read.class_id.tolist(), strict=True)) == [(20, 0), (20, 2), (50, 1), (2**33, 1)]
    boxes = np.load(tmp_path / "new" / "a_bbox.npy")
    assert boxes.dtype == BOX_DTYPE
    assert (boxes["h"].tolist(), boxes["w"].tolist()) == ([12] * 4, [34] * 4)


@pytest.mark.parametrize("time", ["t", "ts"])
def test_both_names_of_the_time_column(tmp_path: Path, time: str) -> None:
    boxes = np.array([(10, 4.0, 1), (5, 3.0, 0)], [(time, "<i8"), ("x", "<f4"), ("class_id", "u1")])
    np.save(tmp_path / "a_bbox.npy", boxes)
    read = read_labels(tmp_path / "a_bbox.npy")
    assert (read.t.tolist(), read.class_id.tolist()) == ([5, 10], [0, 1])
    assert (read.t.dtype, read.class_id.dtype) == (np.int64, np.int64)


@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_the_npz_form(tmp_path: Path, dtype: type) -> None:
    np.savez(tmp_path / "a_labels.npz", ts=np.array([7, 3], dtype), labels=np.array([-1, 1], dtype))
    read = read_labels(tmp_path / "a_labels.npz")
    assert (read.t.tolist(), read.class_id.tolist()) == ([3, 7], [1, -1])


def test_label_file_of_prefers_boxes_and_says_what_is_missing(tmp_path: Path) -> None:
    recording = tmp_path / "a.h5"
    with pytest.raises(InputFileError, match=r"a\.h5.*a_bbox\.npy or a_labels\.npz"):
        label_file_of(recording)
    (tmp_path / "a_labels.npz").touch()
    assert label_file_of(recording).name == "a_labels.npz"
    (tmp_path / "a_bbox.npy").touch()
    assert label_file_of(recording).name == "a_bbox.npy"


def save_bytes(path: Path, kind: str) -> None:
    if kind == "boxes":
        write_box_labels(path, events(*[(k, 0) for k in range(20)]), (4, 4))
    else:
        with path.open("wb") as file:
            np.savez_compressed(file, ts=np.arange(200), labels=np.arange(200) % 3)


@pytest.mark.parametrize("kind", ["boxes", "npz"])
def test_a_damaged_label_file_is_a_sentence_or_readable(tmp_path: Path, kind: str) -> None:
    """Three bytes changed, or cut short, in 300 ways: never another exception."""
    path = tmp_path / "a_bbox.npy"
    save_bytes(path, kind)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for i in range(300):
        damaged = bytearray(whole)
        for at in rng.integers(0, min(len(whole), 160), 3):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(len(whole))] if i % 3 == 0 else damaged)
        try:
            read_labels(path)
        except InputFileError as error:
            assert str(path) in str(error)  # noqa: PT017 - either outcome is right
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    "content",
    [
        np.arange(5),
        np.array(3),
        np.array([(1, 2)], [("time", "i8"), ("class_id", "i8")]),
        np.array([(1, 2)], [("ts", "i8"), ("class", "i8")]),
        np.array([(np.nan, 2)], [("ts", "f8"), ("class_id", "i8")]),
        np.array([(1, 0.5)], [("ts", "i8"), ("class_id", "f8")]),
        np.array([("1", 0)], [("ts", "U3"), ("class_id", "i8")]),
        np.zeros((2, 2), [("ts", "i8"), ("class_id", "i8")]),
        np.array([{"ts": 1}], object),
    ],
    ids=["no columns", "a number", "no time", "no class", "NaN", "half a class", "text", "two axes", "objects"],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: np.ndarray) -> None:
    np.save(tmp_path / "a_bbox.npy", content)
    with pytest.raises(InputFileError, match=r"a_bbox\.npy.*cannot be read"):
        read_labels(tmp_path / "a_bbox.npy")


def test_columns_of_different_length_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a_labels.npz", ts=np.arange(3), labels=np.arange(2))
    with pytest.raises(InputFileError, match="cannot be read"):
        read_labels(tmp_path / "a_labels.npz")


# --- the label map


def test_label_map_round_trip(tmp_path: Path) -> None:
    write_label_map(tmp_path, ["papier", "石", "ciseaux"])
    assert read_label_map(tmp_path) == {0: "papier", 1: "石", 2: "ciseaux"}
    assert "石" in (tmp_path / "label_map_dictionary.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a dictionary"),
        ("[1, 2]", "not a dictionary"),
        ('{"a": "paper"}', "not a dictionary"),
        ("[" * 100_000, "not a dictionary"),
        ('{"0": ["paper"]}', "every name a text"),
        ('{"0": "paper", "1": "paper"}', "no other id"),
        ('{"0": "paper", " 0": "rock"}', "no other id"),
        ('{"-1": "paper"}', "from 0 to 65535"),
        ('{"99999999999": "paper"}', "from 0 to 65535"),
        ("{}", "names no class"),
        ('{"0": "background", "255": "ignore"}', "names no class"),
    ],
)
def test_a_label_map_that_is_none_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "label_map_dictionary.json").write_text(text)
    with pytest.raises(InputFileError, match=rf"label_map_dictionary\.json.*{says}"):
        read_label_map(tmp_path)


def test_a_label_map_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "label_map_dictionary.json").write_bytes(
        json.dumps({"0": "schön"}, ensure_ascii=False).encode("cp1252")
    )
    with pytest.raises(InputFileError, match="not a dictionary"):
        read_label_map(tmp_path)


def test_a_missing_label_map_or_folder_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match=r"has no label_map_dictionary\.json"):
        read_label_map(tmp_path)
    with pytest.raises(InputFileError, match="there is no such data set folder"):
        read_label_map(tmp_path / "nowhere")


def test_class_names_are_in_the_order_of_ids_without_background_and_ignore() -> None:
    assert class_names({10: "c", 9: "b", 0: "background", 255: "ignore", 1: "a"}) == ("a", "b", "c")


def test_class_lookup() -> None:
    label_map = {0: "background", 2: "rock", 4: "lizard", 5: "ignore"}
    table = class_lookup(label_map, ("background", "paper", "rock"), "data")
    assert table.tolist() == [0, -2, 2, -2, -1, -1]
    with pytest.raises(UsageError, match=r"data: its classes \(rock, lizard\) are none of the model's"):
        class_lookup(label_map, ("background", "paper"), "data")


def test_minus_one_survives_a_box_file_whose_ids_are_unsigned(tmp_path: Path) -> None:
    path = tmp_path / "a_bbox.npy"
    write_box_labels(path, LabelEvents(np.array([0, 10, 20]), np.array([1, -1, 0])), (4, 4))
    assert np.load(path)["class_id"].dtype == np.uint32
    assert read_labels(path).class_id.tolist() == [1, -1, 0]
