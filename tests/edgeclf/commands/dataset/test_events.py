from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from edgeclf.data.labels import LabelEvents, read_labels, write_box_labels
from edgeclf.data.raw_writer import write_recording
from edgeclf_runtime.events import Events, open_recording
from edgeclf_runtime.tensor_file import TensorAttributes, TensorFile, write_tensor_file

EDGECLF = (sys.executable, "-c", "from edgeclf.cli import main; main()")


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
    assert made.preprocess_kwargs == {"max_incr_per_pixel": 2, "downsampling_factor": 0}
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
        ([raw[0], tmp_path, *out], "is a directory"),
        ([tmp_path / "text.npy", *out], "text.npy is not a Prophesee recording"),
        ([raw[0], *out, "--mode", "n_events"], "give --n-events"),
        ([raw[0], *out, "--n-events", 5], "add --mode n_events"),
        ([raw[0], *out, "--neg-bit-len-quantized", 4], "histo does not take neg_bit_len_quantized"),
        ([raw[0], *out, "--normalization-quantized"], "histo does not take normalization_quantized"),
        ([raw[0], *out, "--preprocess", "timesurface", "--max-incr-per-pixel", 5], "does not take max_incr_per_pixel"),
        ([raw[0], *out, "--preprocess", "diff_quantized", "--total-bit-len-quantized", 8], "does not take total_bit"),
        ([raw[0], *out, "--preprocess", "histo_quantized", "--neg-bit-len-quantized", 9], "from 1 to 8"),
        ([raw[0], *out, "--preprocess-arg", "num_utbins"], "takes NAME=VALUE"),
        ([raw[0], *out, "--preprocess-arg", "num_utbins=3"], "histo does not take num_utbins"),
        ([raw[0], *out, "--max-incr-per-pixel", 2, "--preprocess-arg", "max_incr_per_pixel=3"], "given twice"),
        ([raw[0], *out, "--preprocess", "mine"], "--preprocess"),
        ([raw[0], *out, "--downsampling-factor", 9], "leaves nothing"),
        ([raw[0], *out, "--json", tmp_path / "file" / "a.json"], "file is no folder"),
        ([raw[0], *out, "-q", "-v"], "not both"),
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


def test_npz_labels_keep_their_form(tmp_path: Path, raw: list[Path], run) -> None:
    labels = tmp_path / "l.npz"
    np.savez(labels, ts=np.array([30_000]), labels=np.array([1]))
    made = run("dataset", "events", raw[0], "--out", tmp_path / "out", "--box-labels", labels)
    assert made.code == 0, made.err
    copied = tmp_path / "out" / "eins é_labels.npz"
    assert read_labels(copied).class_id.tolist() == [1]
    assert not list((tmp_path / "out").glob("*_bbox.npy"))


# --- what frames are made of


def test_every_argument_reaches_the_file(tmp_path: Path, raw: list[Path], run) -> None:
    for i, (preprocess, options, shape, expected) in enumerate(
        (
            ("histo", ["--downsampling-factor", 1], (5, 2, 24, 32), {"downsampling_factor": 1}),
            (
                "histo_quantized",
                ["--neg-bit-len-quantized", 3, "--total-bit-len-quantized", 7, "--normalization-quantized"],
                (5, 2, 48, 64),
                {"neg_bit_len_quantized": 3, "total_bit_len_quantized": 7, "normalization_quantized": True},
            ),
            ("diff_quantized", ["--neg-bit-len-quantized", 5], (5, 1, 48, 64), {"neg_bit_len_quantized": 5}),
            (
                "event_cube",
                ["--max-incr-per-pixel", 2, "--preprocess-arg", "num_utbins=4", "--preprocess-arg",
                 "split_polarity=false"],
                (5, 4, 48, 64),
                {"max_incr_per_pixel": 2, "num_utbins": 4, "split_polarity": False},
            ),
            ("timesurface", ["--store-as-uint8"], (5, 2, 48, 64), {"normed": True, "store_as_uint8": True}),
            ("multi_channel_timesurface", [], (5, 6, 48, 64), {"num_utbins": 3}),
        )
    ):  # fmt: skip
        out = tmp_path / str(i)
        ran = run("dataset", "events", raw[0], "--out", out, "--preprocess", preprocess, *options)
        assert ran.code == 0, ran.err
        with h5py.File(out / "eins é.h5") as file:
            assert file["data"].shape == shape
            assert file["data"].attrs["events_to_tensor"] == preprocess
            assert {name: file["data"].attrs[name] for name in expected} == expected
            assert np.any(file["data"][:])


def test_frames_of_a_number_of_events(tmp_path: Path, raw: list[Path], run) -> None:
    ran = run("dataset", "events", raw[0], "--out", tmp_path, "--mode", "n_events", "--n-events", 700)
    assert ran.code == 0, ran.err
    t = np.concatenate([batch.t for batch in open_recording(raw[0])])
    with h5py.File(tmp_path / "eins é.h5") as file:
        assert file["last_timestamps"][:].tolist() == [*t[699::700].tolist(), t[-1]]
        assert (file["data"].attrs["mode"], file["data"].attrs["n_events"]) == ("n_events", 700)


def test_a_preprocessing_that_an_installed_package_announces(
    tmp_path: Path, raw: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "installed"
    (package / "theirs-1.0.dist-info").mkdir(parents=True)
    (package / "theirs-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (package / "theirs-1.0.dist-info" / "entry_points.txt").write_text("[edgeclf.preprocessing]\nmine = theirs:Mine\n")
    (package / "theirs.py").write_text(
        "from edgeclf_runtime.preprocessing import Histo\n\n\nclass Mine(Histo):\n    name = 'mine'\n\n"
        "    def __init__(self, sensor_size, delta_t, *, weight=1.5):\n"
        "        super().__init__(sensor_size, delta_t)\n        self.weight = weight\n\n"
        "    def __call__(self, events, start_us):\n        return self.weight * super().__call__(events, start_us)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(package))
    command = [*EDGECLF, "dataset", "events", *raw, "--num-workers", 2, "--out"]
    for out, options in (("plain", []), ("mine", ["--preprocess", "mine", "--preprocess-arg", "weight=3"])):
        ran = subprocess.run(
            [*map(str, command), tmp_path / out, *options], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
    with h5py.File(tmp_path / "plain" / "zwei.h5") as plain, h5py.File(tmp_path / "mine" / "zwei.h5") as mine:
        np.testing.assert_allclose(mine["data"][:], 3 * plain["data"][:], atol=1e-6)
        assert (mine["data"].attrs["events_to_tensor"], mine["data"].attrs["weight"]) == ("mine", 3)


# --- many recordings, again and again


def test_one_bad_recording_does_not_stop_the_others(tmp_path: Path, raw: list[Path], run) -> None:
    bad = tmp_path / "bad.raw"
    bad.write_bytes(b"no recording")
    silent = tmp_path / "silent.raw"
    write_recording(silent, [], (64, 48))
    out, said = tmp_path / "out", tmp_path / "said.json"
    labels = labels_file(tmp_path / "l.npy")
    given = [raw[0], bad, silent, raw[1]]
    ran = run(
        "dataset", "events", *given, "--out", out, "--num-workers", 2, "--json", said,
        *(word for _ in given for word in ("--box-labels", labels)),
    )  # fmt: skip
    assert ran.code == 1
    *lines, first, second = ran.err.splitlines()
    assert lines == [f"{out / 'eins é.h5'}: 5 frames", f"{out / 'zwei.h5'}: 5 frames"]
    assert first.startswith(f"Error: {bad} is not a Prophesee recording")
    assert second.startswith(f"{out / 'silent.h5'} is not written: the recording holds no events")
    assert {path.name for path in out.iterdir()} == {"eins é.h5", "eins é_bbox.npy", "zwei.h5", "zwei_bbox.npy"}
    entries = json.loads(said.read_text())["recordings"]
    assert [(entry["recording"], entry["status"], entry["frames"]) for entry in entries] == [
        (str(raw[0]), "written", 5), (str(bad), "failed", 0), (str(silent), "failed", 0), (str(raw[1]), "written", 5),
    ]  # fmt: skip
    assert [entry["problems"] for entry in entries] == [[], [first.removeprefix("Error: ")], [second], []]
    assert entries[3]["tensor_file"] == str(out / "zwei.h5")
    assert entries[3]["labels"] == str(out / "zwei_bbox.npy")


def test_what_was_made_the_same_way_is_skipped(tmp_path: Path, raw: list[Path], run) -> None:
    out = tmp_path / "out"
    command = ("dataset", "events", *raw, "--out", out, "--json", "-")
    assert run(*command).code == 0
    (out / "zwei.h5").unlink()
    before = (out / "eins é.h5").stat()
    ran = run(*command, "--max-incr-per-pixel", 5)  # the default, spelled out
    assert ran.code == 0
    assert ran.err == (
        f"{out / 'eins é.h5'}: 5 frames, made in the same way before; skipped\n{out / 'zwei.h5'}: 5 frames\n"
    )
    assert [entry["status"] for entry in json.loads(ran.out)["recordings"]] == ["skipped", "written"]
    assert (out / "eins é.h5").stat().st_mtime_ns == before.st_mtime_ns


def test_labels_are_copied_anew_where_the_tensor_file_is_skipped(tmp_path: Path, raw: list[Path], run) -> None:
    assert run("dataset", "events", raw[0], "--out", tmp_path / "out").code == 0
    labels = labels_file(tmp_path / "l.npy")
    assert run("dataset", "events", raw[0], "--out", tmp_path / "out", "--box-labels", labels).code == 0
    assert (tmp_path / "out" / "eins é_bbox.npy").read_bytes() == labels.read_bytes()


def test_problems_of_a_recording_are_said_again_where_it_is_skipped(tmp_path: Path, raw: list[Path], run) -> None:
    raw[0].write_bytes(raw[0].read_bytes()[:-1])
    first = run("dataset", "events", *raw, "--out", tmp_path / "out")
    again = run("dataset", "events", *raw, "--out", tmp_path / "out")
    assert (first.code, again.code) == (1, 1)
    assert first.err.splitlines()[-1] == again.err.splitlines()[-1]
    assert again.err.count("skipped") == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--delta-t", 5000], "delta_t 10000, not 5000"),
        (["--max-incr-per-pixel", 2], "max_incr_per_pixel 5.0, not 2.0"),
        (["--preprocess", "diff"], "preprocess histo, not diff"),
        (["--start-ts", 0], "start_ts None, not 0"),
        (["--max-duration-ms", 10], "max_duration None, not 10000"),
        (["--height-width", 24, 32], "frame_size None, not [24, 32]"),
        (["--mode", "n_events", "--n-events", 100], "mode delta_t, not n_events; n_events 0, not 100"),
        (["--store-as-uint8"], "store_as_uint8 False, not True"),
        (None, "recording_bytes"),
    ],
)
def test_what_was_made_otherwise_is_refused_before_the_work(
    tmp_path: Path, raw: list[Path], run, options: list[object] | None, says: str
) -> None:
    out = tmp_path / "out"
    assert run("dataset", "events", raw[1], "--out", out).code == 0
    before = (out / "zwei.h5").read_bytes()
    if options is None:
        write_raw(raw[1], 7, count=2900)
    ran = run("dataset", "events", *raw, "--out", out, *(options or []))
    assert ran.code == 2
    assert f"{out / 'zwei.h5'}: this tensor file was made otherwise than you ask for ({says}" in ran.err
    assert "--overwrite" in ran.err
    assert [path.name for path in out.iterdir()] == ["zwei.h5"]
    assert (out / "zwei.h5").read_bytes() == before
    assert run("dataset", "events", *raw, "--out", out, "--overwrite", *(options or [])).code == 0
    assert {path.name for path in out.iterdir()} == {"eins é.h5", "zwei.h5"}
    assert (out / "zwei.h5").read_bytes() != before


def test_files_of_others_are_not_overwritten(tmp_path: Path, raw: list[Path], run) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "zwei.h5").write_text("precious")
    write_tensor_file(out / "eins é.h5", np.zeros((1, 2, 48, 64), np.float32), TensorAttributes("histo", 1, (64, 48)))
    for path, says in ((raw[1], "that is no tensor file"), (raw[0], "does not say what it was made of")):
        ran = run("dataset", "events", path, "--out", out)
        assert ran.code == 2
        assert says in ran.err
        assert "--overwrite" in ran.err
    assert (out / "zwei.h5").read_text() == "precious"


@pytest.mark.slow
def test_killed_in_the_midst_and_taken_up_again(tmp_path: Path, run) -> None:
    paths = [write_raw(tmp_path / "in" / f"{i}.raw", i, count=200_000) for i in range(6)]
    out = tmp_path / "out"
    options = ["--delta-t", "5", "--max-duration-ms", "5", "--mode", "delta_t", "--num-workers", "2"]
    command = [*EDGECLF, "dataset", "events", *map(str, paths), "--out", str(out), *options]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    finished: set[Path] = set()
    left: set[Path] = set()
    while process.poll() is None and not (finished and left):
        time.sleep(0.02)
        os.killpg(process.pid, signal.SIGSTOP)  # what is there cannot change between looking and killing
        finished, left = set(out.glob("[0-9].h5")), set(out.glob(".*.part.h5"))
        os.killpg(process.pid, signal.SIGCONT if not (finished and left) else signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    for path in finished:
        with h5py.File(path) as file:
            assert len(file["data"]) == 1000
    times = {path: path.stat().st_mtime_ns for path in finished}
    ran = run("dataset", "events", *paths, "--out", out, *options)
    assert ran.code == 0, ran.err
    assert ran.err.count("skipped") == len(finished)
    assert {path: path.stat().st_mtime_ns for path in finished} == times
    assert sorted(path.name for path in out.iterdir()) == [f"{i}.h5" for i in range(6)], "leftovers are gone"
    assert all(f"{path}: removed" in ran.err for path in left)
    whole = tmp_path / "whole"
    assert run("dataset", "events", *paths, "--out", whole, *options, "-q").code == 0
    for path in paths:
        with h5py.File(out / f"{path.stem}.h5") as file, h5py.File(whole / f"{path.stem}.h5") as expected:
            np.testing.assert_array_equal(file["data"][:], expected["data"][:])
