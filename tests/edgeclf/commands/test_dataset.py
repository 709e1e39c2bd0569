from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeclf.data.dataset import recordings
from edgeclf.data.labels import LabelEvents, read_labels, write_box_labels
from edgeclf.data.raw_writer import write_recording
from edgeclf_runtime.events import Events
from edgeclf_runtime.tensor_file import TensorFile


def write_raw(path: Path, seed: int, count: int = 3000) -> Path:
    rng = np.random.default_rng(seed)
    t = 25_000 + np.sort(rng.integers(0, 40_000, count))
    x, y = rng.integers(0, 64, count), rng.integers(0, 48, count)
    events = Events(t, x.astype(np.uint16), y.astype(np.uint16), rng.integers(0, 2, count).astype(np.uint8))
    write_recording(path, [events], (64, 48))
    return path


@pytest.fixture
def raw(tmp_path: Path) -> list[Path]:
    return [write_raw(tmp_path / "in" / name, i) for i, name in enumerate(("eins é.raw", "zwei.raw"))]


def labels_file(path: Path) -> Path:
    write_box_labels(path, LabelEvents(np.array([30_000]), np.array([1])), (48, 64))
    return path


# --- events


def test_events(tmp_path: Path, raw: list[Path], run) -> None:
    out = tmp_path / "out"
    labels = [labels_file(tmp_path / f"{i}.npy") for i in range(2)]
    ran = run(
        "dataset", "events", *raw, "--out", out, "--preprocess", "diff", "--delta-t", 5000, "--height-width", 24, 16,
        "--max-incr-per-pixel", 2, "--start-ts", 30_000, "--max-duration-ms", 20,
        "--box-labels", labels[0], "--box-labels", labels[1],
    )  # fmt: skip
    assert (ran.code, ran.out) == (0, ""), ran.err
    assert ran.err == f"{out / 'eins é.h5'}: 4 frames\n{out / 'zwei.h5'}: 4 frames\n"
    assert sorted(path.name for path in out.iterdir()) == [
        "eins é.h5", "eins é_bbox.npy", "zwei.h5", "zwei_bbox.npy",
    ]  # fmt: skip
    with TensorFile(out / "zwei.h5") as file:
        assert file.shape == (4, 1, 24, 16)
        made = file.attributes
    assert (made.preprocess, made.delta_t, made.start_ts, made.sensor_size) == ("diff", 5000, 30_000, (64, 48))
    assert made.preprocess_kwargs == {"max_incr_per_pixel": 2}
    assert read_labels(out / "zwei_bbox.npy").class_id.tolist() == [1]


def test_events_as_they_are_by_default(tmp_path: Path, raw: list[Path], run) -> None:
    ran = run("dataset", "events", raw[0], "--out", tmp_path / "out", "-q")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    with TensorFile(tmp_path / "out" / "eins é.h5") as file:
        assert file.shape == (5, 2, 48, 64)  # from 20 ms to 65 ms
        assert (file.attributes.delta_t, file.attributes.start_ts) == (10_000, 20_000)
        assert not file.attributes.store_as_uint8


def test_a_damaged_recording_gives_what_is_whole_and_exit_code_1(tmp_path: Path, raw: list[Path], run) -> None:
    raw[0].write_bytes(raw[0].read_bytes()[:-1])
    ran = run("dataset", "events", *raw, "--out", tmp_path / "out")
    assert ran.code == 1
    assert "eins é.raw" in ran.err.splitlines()[-1]
    assert "cut off" in ran.err.splitlines()[-1]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"eins é.h5", "zwei.h5"}


def test_wrong_usage_of_events(tmp_path: Path, raw: list[Path], run) -> None:
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "file").touch()
    twin = Path(shutil.copy(raw[0], tmp_path))
    out = ["--out", tmp_path / "out"]
    for arguments, says in (
        ([*raw, *out, "--box-labels", tmp_path / "text.npy"], "2 recordings and 1 label files"),
        ([raw[0], *out, "--box-labels", tmp_path / "text.npy"], "text.npy: this label file cannot be read"),
        ([raw[0], twin, *out], "would write the same eins é.h5"),
        ([tmp_path / "no.raw", *out], "no.raw"),
        ([raw[0], *out, "--preprocess", "diff", "--store-as-uint8"], "cannot be stored as uint8"),
        ([raw[0], *out, "--height-width", 50, 64], "would have to be enlarged"),
        ([raw[0], *out, "--start-ts", 10**9], "holds no events"),
        ([raw[0], *out, "--sensor-size", 640, 480], "contradicts"),
        ([raw[0], *out, "--max-incr-per-pixel", "0"], "--max-incr-per-pixel"),
        ([raw[0], "--out", tmp_path / "file"], "file"),
    ):
        ran = run("dataset", "events", *arguments)
        assert (ran.code, ran.out) == (2, ""), says
        assert says in ran.err
        assert "Traceback" not in ran.err
        assert not list(tmp_path.rglob("*.h5"))


# --- nmnist


@pytest.fixture
def few_digits(tmp_path: Path, shared_data: Path) -> Path:
    for digit in (1, 4):
        (tmp_path / "few" / "Train" / str(digit)).mkdir(parents=True)
        for path in sorted((shared_data / "nmnist" / "Train" / str(digit)).glob("*.bin"))[:4]:
            shutil.copy(path, tmp_path / "few" / "Train" / str(digit))
    return tmp_path / "few"


def test_nmnist(tmp_path: Path, few_digits: Path, run) -> None:
    out = tmp_path / "out"
    ran = run("dataset", "nmnist", few_digits, out, "--val-fraction", 0.25, "--test-fraction", 0.5, "--store-as-uint8")
    assert (ran.code, ran.out) == (0, ""), ran.err
    assert ran.err == f"{out}: 2 recordings for train, 2 recordings for val, 4 recordings for test\n"
    names = json.loads((out / "label_map_dictionary.json").read_text())
    assert names == {str(digit): str(digit) for digit in range(10)}
    found = recordings(out, "test", ("background", *map(str, range(10))), 20_000, "histo")
    assert [sorted({int(label) - 1 for label in recording.labels}) for recording in found] == [[1], [1], [4], [4]]
    assert {recording.frame_shape for recording in found} == {(2, 34, 34)}
    assert all(recording.attributes.store_as_uint8 for recording in found)


def test_wrong_usage_of_nmnist(tmp_path: Path, few_digits: Path, run) -> None:
    for arguments, says in (
        ([tmp_path], "neither a folder Train nor a folder Test"),
        ([few_digits, "--val-fraction", 0.5, "--test-fraction", 0.5], "leave nothing to train on"),
        ([few_digits, "--height-width", 20, 20], "use --fit scale"),
        ([few_digits, "--seed", -1], "--seed"),
    ):
        ran = run("dataset", "nmnist", arguments[0], tmp_path / "out", *arguments[1:])
        assert (ran.code, ran.out) == (2, ""), says
        assert says in ran.err
        assert not list(tmp_path.rglob("*.h5"))


# --- synth


@pytest.mark.slow
def test_synth(tmp_path: Path, run) -> None:
    out = tmp_path / "gesten é"
    ran = run(
        "dataset", "synth", out, "--recordings", 0, 1, 0, "--seed", 2, "--height-width", 32, 48, "--num-workers", 1
    )
    assert (ran.code, ran.out) == (0, ""), ran.err
    assert ran.err == f"{out}: 0 recordings for train, 1 for val, 0 for test\n"
    assert (out / "raw" / "val" / "gestures_0000.raw").is_file()
    (recording,) = recordings(out, "val", ("background", "paper", "rock", "scissors"), 20_000, "histo")
    assert recording.frame_shape == (2, 32, 48)
    assert len(set(recording.labels.tolist())) > 1


def test_wrong_usage_of_synth(tmp_path: Path, run) -> None:
    (tmp_path / "file").touch()
    for arguments, says in (
        ([tmp_path / "file"], "file"),
        ([tmp_path / "out", "--seed", -1], "--seed"),
        ([tmp_path / "out", "--store-as-uint8", "--preprocess", "diff"], "cannot be stored as uint8"),
    ):
        ran = run("dataset", "synth", *arguments, "--recordings", 0, 0, 0)
        assert (ran.code, ran.out) == (2, ""), says
        assert says in ran.err


# --- folders that hold another data set


def test_nmnist_with_other_splits_into_the_same_folder_is_refused(tmp_path: Path, shared_data: Path, run) -> None:
    for digit in range(2):
        folder = tmp_path / "src" / "Train" / str(digit)
        folder.mkdir(parents=True)
        for path in sorted((shared_data / "nmnist" / "Train" / str(digit)).glob("*.bin"))[:6]:
            shutil.copy(path, folder)
    made = [tmp_path / "src", tmp_path / "out", "--val-fraction", 0.3, "--test-fraction", 0.3]
    assert run("dataset", "nmnist", *made, "--seed", 0).code == 0
    before = sorted((tmp_path / "out").rglob("*.h5"))
    assert run("dataset", "nmnist", *made, "--seed", 0).code == 0, "the same one may be made again"
    again = run("dataset", "nmnist", *made, "--seed", 1)
    assert again.code == 2
    assert "already holds recordings" in again.err
    assert sorted((tmp_path / "out").rglob("*.h5")) == before


def test_npz_labels_keep_their_form(tmp_path: Path, raw: list[Path], run) -> None:
    labels = tmp_path / "l.npz"
    np.savez(labels, ts=np.array([30_000]), labels=np.array([1]))
    made = run("dataset", "events", raw[0], "--out", tmp_path / "out", "--box-labels", labels)
    assert made.code == 0, made.err
    copied = tmp_path / "out" / "eins é_labels.npz"
    assert read_labels(copied).class_id.tolist() == [1]
    assert not list((tmp_path / "out").glob("*_bbox.npy"))
