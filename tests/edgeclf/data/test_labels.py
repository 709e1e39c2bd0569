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
    label_file_of,
    read_boxes,
    read_label_map,
    read_labels,
    recording_name,
    write_box_labels,
    write_label_map,
)
from edgeclf_runtime.errors import InputFileError, UsageError


def events(*pairs: tuple[int, int]) -> LabelEvents:
    return LabelEvents(np.array([t for t, _ in pairs], np.int64), np.array([c for _, c in pairs], np.int64))


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
    dat = tmp_path / "a_td.dat"
    with pytest.raises(InputFileError, match=r"a\.h5.*a_bbox\.npy or a_labels\.npz"):
        label_file_of(recording)
    (tmp_path / "a_labels.npz").touch()
    assert label_file_of(recording).name == label_file_of(dat).name == "a_labels.npz"
    (tmp_path / "a_bbox.npy").touch()
    assert label_file_of(recording).name == label_file_of(dat).name == "a_bbox.npy"
    dat = tmp_path / "b_td.dat"
    with pytest.raises(InputFileError, match=r"b_td\.dat.*b_bbox\.npy or b_labels\.npz"):
        label_file_of(dat)
    (tmp_path / "b_td_bbox.npy").touch()
    assert label_file_of(dat).name == "b_td_bbox.npy"


def test_recording_name_is_what_the_label_files_start_with() -> None:
    assert recording_name(Path("x/a.h5")) == recording_name(Path("x/a_td.dat")) == "a"
    assert recording_name(Path("x/a_td.h5")) == "a_td"


@pytest.mark.parametrize("label_map", [{0: "a", 1: "b"}, {0: "a", 1: "b", 255: "ignore"}, {255: "b"}])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_255_leaves_a_frame_out_unless_the_label_map_has_it(tmp_path: Path, label_map: dict, dtype: type) -> None:
    np.savez(tmp_path / "a_labels.npz", ts=np.arange(3), labels=np.array([1, 255, 0], dtype))
    expected = [1, 255 if 255 in label_map else -1, 0]
    assert read_labels(tmp_path / "a_labels.npz", label_map).class_id.tolist() == expected
    write_box_labels(tmp_path / "a_bbox.npy", events((0, 255)), (4, 4))
    assert read_labels(tmp_path / "a_bbox.npy", label_map).class_id.tolist() == [255]


def test_boxes_keep_what_the_file_states(tmp_path: Path) -> None:
    fields = [("t", "<u8"), ("x", "<f8"), ("h", "<i2"), ("class_id", "<i2"), ("own", "<f4")]
    np.save(tmp_path / "a_bbox.npy", np.array([(9, 2.5, 7, -1, 1.0), (3, 1.5, 8, 4, 2.0)], fields))
    boxes = read_boxes(tmp_path / "a_bbox.npy")
    assert boxes.dtype == BOX_DTYPE
    assert boxes.tolist() == [(3, 1.5, 0, 0, 8, 4, 0, 0), (9, 2.5, 0, 0, 7, 2**32 - 1, 0, 0)]


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
        np.array([(2**63, 2)], [("ts", "u8"), ("class_id", "i8")]),
        np.array([(1e300, 2)], [("ts", "f8"), ("class_id", "i8")]),
        np.array([(np.inf, 2)], [("ts", "f8"), ("class_id", "i8")]),
        np.array([(1, 2**40)], [("ts", "i8"), ("class_id", "i8")]),
        np.array([(1, 0.5)], [("ts", "i8"), ("class_id", "f8")]),
        np.array([("1", 0)], [("ts", "U3"), ("class_id", "i8")]),
        np.zeros((2, 2), [("ts", "i8"), ("class_id", "i8")]),
        np.array([{"ts": 1}], object),
    ],
    ids=[
        "no columns",
        "a number",
        "no time",
        "no class",
        "NaN",
        "after 2**63 µs",
        "1e300 µs",
        "infinite",
        "2**40",
        "half a class",
        "text",
        "two axes",
        "objects",
    ],
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
