from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from edgeclf.data.dataset import recordings


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


def test_a_damaged_recording_does_not_stop_the_others(tmp_path: Path, few_digits: Path, run) -> None:
    damaged = sorted((few_digits / "Train" / "1").glob("*.bin"))[2]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    out = tmp_path / "out"
    ran = run("dataset", "nmnist", few_digits, out, "--num-workers", 2, "--val-fraction", 0.25, "--json", "-")
    assert ran.code == 1
    said = json.loads(ran.out)
    (problem,) = said.pop("problems")
    assert ran.err.splitlines()[-1] == f"Error: {problem}"
    assert str(damaged) in problem
    made = sorted(out.glob("*/*.h5"))
    assert len(made) == len(list(out.glob("*/*_bbox.npy"))) == 7
    assert not [path for path in made if path.stem.endswith(damaged.stem) and "_1_" in path.stem]
    frames = 0
    for path in made:
        with h5py.File(path) as file:
            frames += len(file["data"])
    splits = {split: len(list((out / split).glob("*.h5"))) for split in ("train", "val", "test")}
    assert said == {"out": str(out), "recordings": splits, "frames": frames}


def test_the_number_of_processes_makes_no_difference(tmp_path: Path, few_digits: Path, run) -> None:
    made = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        chosen = ["--preprocess", "event_cube", "--preprocess-arg", "num_utbins=2", "--num-workers", workers]
        assert run("dataset", "nmnist", few_digits, out, "--val-fraction", 0.25, *chosen).code == 0
        frames = {}
        for path in out.glob("*/*.h5"):
            with h5py.File(path) as file:
                frames[path.name] = file["data"][:]
                assert file["data"].shape[1:] == (4, 34, 34)
        made.append(frames)
    assert made[0].keys() == made[1].keys()
    for name, frames in made[0].items():
        np.testing.assert_array_equal(frames, made[1][name])


def test_wrong_usage_of_nmnist(tmp_path: Path, few_digits: Path, run) -> None:
    for arguments, says in (
        ([tmp_path], "neither a folder Train nor a folder Test"),
        ([few_digits, "--val-fraction", 0.5, "--test-fraction", 0.5], "leave nothing to train on"),
        ([few_digits, "--height-width", 20, 20], "use --fit scale"),
        ([few_digits, "--seed", -1], "--seed"),
        ([few_digits, "--preprocess", "histo_quantized", "--store-as-uint8"], "cannot be stored as uint8"),
        ([few_digits, "--json", tmp_path], "this is a folder"),
    ):
        ran = run("dataset", "nmnist", arguments[0], tmp_path / "out", *arguments[1:])
        assert (ran.code, ran.out) == (2, ""), says
        assert says in ran.err
        assert not list(tmp_path.rglob("*.h5"))


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
