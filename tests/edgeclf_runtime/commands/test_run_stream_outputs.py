"""Where predictions are written, and what becomes of them on a disk that is full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest


@pytest.mark.parametrize("output", ["new folder/ä.jsonl", "plain.jsonl"])
def test_output_file(edgeclf, write_model, recording, tmp_path, output, lines_of, without_latency):
    expected = without_latency(lines_of(edgeclf("run-stream", write_model(), recording).out))
    ended = edgeclf("run-stream", write_model(), recording, "--output", tmp_path / output)
    assert (ended.code, ended.out) == (0, "")
    text = (tmp_path / output).read_text(encoding="utf-8")
    assert without_latency(lines_of(text)) == expected
    assert text.endswith("}\n")


def test_output_to_standard_output_by_name(edgeclf, write_model, recording, monkeypatch, tmp_path, lines_of):
    monkeypatch.chdir(tmp_path)
    assert len(lines_of(edgeclf("run-stream", write_model(), recording, "--output", "-").out)) == 6
    assert not Path("-").exists()


def test_json_on_standard_output_asks_for_another_place_for_the_predictions(
    edgeclf, write_model, recording, tmp_path, lines_of
):
    ended = edgeclf("run-stream", write_model(), recording, "--json", "-")
    assert (ended.code, ended.out) == (2, "")
    assert "give --output FILE.jsonl" in ended.error
    ended = edgeclf("run-stream", write_model(), recording, "--json", "-", "--output", tmp_path / "a.jsonl")
    assert json.loads(ended.out)["frames"] == 6
    assert len(lines_of((tmp_path / "a.jsonl").read_text())) == 6


def test_reader_that_leaves_early_is_no_error_to_speak_of(write_model, write_dat):
    path = write_dat("long.dat", [(k * 100, 0, 0, 0) for k in range(300_000)])
    command = [sys.executable, "-m", "edgeclf", "run-stream", write_model(), path, "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_service_without_standard_output_or_error(start, write_model, write_dat, tmp_path, closed):
    path = write_dat("a.dat", [(k * 10_000, 0, 0, 0) for k in range(30)])
    setup = f"import sys\nsys.{closed} = None"
    running = start("run-stream", write_model(), path, "--realtime", "--output", tmp_path / "a.jsonl", setup=setup)
    assert running.end() == 0
    assert (tmp_path / "a.jsonl").read_text().count("\n") == 30
    if closed == "stdout":
        running = start("run-stream", write_model(), path, setup=setup)
        assert running.end() == 2
        assert running.err.endswith("Error: Standard output is closed; give --output FILE.jsonl for the predictions.\n")


# Other outputs than lines.


def check_hdf5(group, lines):
    assert group["cls_end_ts"][:].tolist() == [line["t_us"] for line in lines]
    assert group["cls_start_ts"][:].tolist() == [line["t_us"] - 10_000 for line in lines]
    np.testing.assert_allclose(group["cls"][:], [line["probabilities"] for line in lines], atol=1e-6)


def test_hdf5_holds_what_the_lines_say(edgeclf, write_model, recording, tensors, tmp_path, lines_of):
    ended = edgeclf("run-stream", write_model(), recording, "--hdf5", tmp_path / "one.h5")
    with h5py.File(tmp_path / "one.h5") as file:
        check_hdf5(file, lines_of(ended.out))
    ended = edgeclf("run-stream", write_model(), recording, tensors, "--hdf5", tmp_path / "new" / "two.h5")
    with h5py.File(tmp_path / "new" / "two.h5") as file:
        for stream, source in enumerate((recording, tensors)):
            assert file[f"stream_{stream}"].attrs["source"] == str(source)
            check_hdf5(file[f"stream_{stream}"], [line for line in lines_of(ended.out) if line["stream"] == stream])


def pictures_of(path):
    av = pytest.importorskip("av", reason="the extra video is not installed")
    with av.open(str(path)) as container:
        return [(frame.pts * frame.time_base, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def test_video_has_a_picture_per_line(edgeclf, write_model, recording, tensors, tmp_path, lines_of):
    ended = edgeclf("run-stream", write_model(), recording, "--video", tmp_path / "one.mp4")
    pictures = pictures_of(tmp_path / "one.mp4")
    assert len(pictures) == len(lines_of(ended.out)) == 6
    assert [float(at) for at, _ in pictures] == pytest.approx([k / 100 for k in range(6)], abs=1e-3)
    # The third slice is empty, as are all others not.
    colours = [len(np.unique(picture[:100].reshape(-1, 3) // 32, axis=0)) for _, picture in pictures]
    assert colours[3] < min(colours[:3] + colours[4:])
    edgeclf("run-stream", write_model(), recording, tensors, "--video", tmp_path / "two.mp4")
    assert [len(pictures_of(tmp_path / f"two_stream_{i}.mp4")) for i in range(2)] == [6, 4]


def test_video_without_its_package(edgeclf, write_model, recording, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    ended = edgeclf("run-stream", write_model(), recording, "--video", tmp_path / "a.mp4")
    assert (ended.code, ended.out) == (1, "")
    assert "pip install 'edgeclf[video]'" in ended.error


# Places.


@pytest.mark.parametrize("option", ["--output", "--hdf5", "--video", "--json"])
def test_place_that_cannot_be_written_to(edgeclf, write_model, recording, tmp_path, option):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "a.json"):
        ended = edgeclf("run-stream", write_model(), recording, option, path)
        assert ended.code == 2
        assert str(path) in ended.error


@pytest.mark.parametrize("option", ["--output", "--hdf5", "--video", "--json"])
@pytest.mark.parametrize("which", ["model", "recording"])
def test_input_is_not_overwritten(edgeclf, write_model, recording, option, which):
    model = write_model()
    path = {"model": model, "recording": recording}[which]
    before = path.read_bytes()
    ended = edgeclf("run-stream", model, recording, option, os.path.relpath(path))
    assert ended.code == 2
    assert "would overwrite what is read" in ended.error
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["--output", "-"], ["--json", "-"]),
        (["--output", "same"], ["--json", "same"]),
        (["--output", "same"], ["--hdf5", "./same"]),
        (["--hdf5", "same"], ["--video", "same"]),
    ],
)
def test_two_results_for_one_place(edgeclf, write_model, recording, tmp_path, monkeypatch, one, other):
    monkeypatch.chdir(tmp_path)
    ended = edgeclf("run-stream", write_model(), recording, *one, *other)
    assert (ended.code, ended.out) == (2, "")
    assert "cannot both be written there" in ended.error
    assert not Path("same").exists()


# Disks that are full.


def test_disk_that_is_full(edgeclf, write_model, recording, tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    ended = edgeclf("run-stream", write_model(), recording, "--output", "/dev/full", "--json", tmp_path / "a.json")
    assert ended.code == 1
    assert "No space left on device" in ended.error
    assert json.loads((tmp_path / "a.json").read_text())["frames"] == 1


LIMIT = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))\n"
ONLY_FULL_BLOCKS = "from edgeclf_runtime.outputs import hdf5\nhdf5._COMMIT_S = 1000"


@pytest.mark.skipif(os.name != "posix", reason="only POSIX limits the size of files")
def test_lines_on_a_disk_that_gets_full(start, write_model, write_dat, tmp_path, lines_of):
    path = write_dat("long.dat", [(k * 10_000, 0, 0, 0) for k in range(10_000)])
    running = start(
        "run-stream", write_model(), path, "--output", tmp_path / "a.jsonl", "--json", tmp_path / "a.json",
        setup=LIMIT.format(10_000),
    )  # fmt: skip
    assert running.end() == 1
    assert running.err.count("Error: ") == 1
    assert f"Error: {tmp_path}/a.jsonl: a prediction could not be written (File too large)" in running.err
    found = lines_of((tmp_path / "a.jsonl").read_text())
    assert [line["frame"] for line in found] == list(range(len(found)))
    assert len(found) > 30
    # The prediction that could not be written was made, and is counted.
    assert json.loads((tmp_path / "a.json").read_text())["frames"] == len(found) + 1
    assert f"{len(found) + 1} frames in " in running.err


@pytest.mark.skipif(os.name != "posix", reason="only POSIX limits the size of files")
@pytest.mark.parametrize("frames", [500, 10_000])
def test_hdf5_on_a_disk_that_gets_full(start, write_model, write_dat, tmp_path, frames):
    """Few predictions are written at the end only, and that fails as well."""
    path = write_dat("long.dat", [(k * 10_000, 0, 0, 0) for k in range(frames)])
    running = start(
        "run-stream", write_model(), path, "--hdf5", tmp_path / "a.h5", "--json", tmp_path / "a.json",
        setup=LIMIT.format(20_000) + ONLY_FULL_BLOCKS,
    )  # fmt: skip
    assert running.end() == 1
    assert running.err.count("Error: ") == 1
    assert f"Error: {tmp_path}/a.h5: it could not be written to its end (File too large)" in running.err
    assert f"{len(running.lines)} frames in " in running.err
    assert json.loads((tmp_path / "a.json").read_text())["frames"] == len(running.lines)
    assert len(running.lines) == frames if frames == 500 else len(running.lines) >= 1024
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["cls"].shape == (0, 4)


@pytest.mark.skipif(os.name != "posix", reason="only POSIX limits the size of files")
def test_a_summary_that_does_not_fit_is_told_after_the_predictions(start, write_model, recording, tmp_path):
    running = start(
        "run-stream", write_model(), recording, "--output", tmp_path / "a.jsonl", "--json", tmp_path / "a.json",
        setup=LIMIT.format(500),
    )  # fmt: skip
    assert running.end() == 1
    assert f"Error: {tmp_path}/a.jsonl: a prediction could not be written (File too large)" in running.err
    assert not (tmp_path / "a.json").exists()
    running = start(
        "run-stream", write_model(), recording, "--json", tmp_path / "a.json", setup=LIMIT.format(500)
    )  # fmt: skip
    assert running.end() == 1
    assert "(File too large)" in running.err.split("Error: ")[1]
    assert len(running.lines) == 6
