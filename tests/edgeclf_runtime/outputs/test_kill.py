"""What is left of an output's file when its process is killed, or its disk is full, as the operating system has it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from edgeclf_runtime.contract import Contract

_SCRIPT = """
import os, random, resource, signal, sys, time
from pathlib import Path

import h5py
import numpy as np

from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.outputs import Hdf5Output, JsonLinesOutput, VideoOutput, hdf5
from edgeclf_runtime.streaming.prediction import StreamPrediction

what, path, contract, limit = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
contract = Contract.from_metadata({"edgeclf": contract}, "test")
OPEN = {
    ".jsonl": JsonLinesOutput,
    ".h5": lambda path: Hdf5Output(path, contract, ["a.raw", "b.raw"]),
    ".mp4": lambda path: VideoOutput(path, contract, ["a.raw", "b.raw"]),
}
frames = np.random.default_rng(0).random((7, *contract.frame_shape), np.float32)

def write_on(path):
    with OPEN[path.suffix](path) as output:
        for k in range(1_000_000):
            prediction = StreamPrediction(
                k % 2, "a.raw", k // 2, 10_000 * (k // 2 + 1), 1, "paper", 0.4, True, (0.1, 0.4, 0.2, 0.3), False, 1.0
            )
            output.write(prediction, frames[k % 7])

if what == "kill":
    hdf5._BLOCK = 64
    for i in range(20):
        target = path.with_stem(f"{path.stem}{i}")
        child = os.fork()
        if child == 0:
            write_on(target)
        while not target.exists() or target.stat().st_size < 20_000:
            time.sleep(0.001)
        time.sleep(0.03 * random.Random(i).random())
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
else:
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        write_on(path)
    except EdgeclfError as error:
        print(error)
"""


def run(what: str, path: Path, contract: Contract, limit: int = 0) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", _SCRIPT, what, str(path), contract.to_json(), str(limit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def frames_of_lines(content: bytes) -> list[int]:
    """Returns the number of frames of each of the two streams; all but what is behind the last line end is whole."""
    lines = [json.loads(line) for line in content.split(b"\n")[:-1]]
    assert [(line["frame"], line["stream"]) for line in lines] == [(k // 2, k % 2) for k in range(len(lines))]
    return [(len(lines) + 1) // 2, len(lines) // 2]


def frames_of_hdf5(path: Path) -> list[int]:
    with h5py.File(path) as file:
        counts = []
        for group in file.values():
            ends = group["cls_end_ts"][:]
            np.testing.assert_array_equal(ends, 10_000 * np.arange(1, len(ends) + 1))
            starts = group["cls_start_ts"][:]
            np.testing.assert_array_equal(starts, 10_000 * np.arange(len(starts)))
            rows = group["cls"][:]
            np.testing.assert_array_equal(rows, np.tile(np.float32([0.1, 0.4, 0.2, 0.3]), (len(rows), 1)))
            assert max(len(ends), len(starts), len(rows)) - min(len(ends), len(starts), len(rows)) <= 64
            counts.append(min(len(ends), len(starts), len(rows)))
    return counts


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no processes to fork")


@needs_fork
def test_a_kill_leaves_whole_lines(tmp_path: Path, tiny: Contract) -> None:
    run("kill", tmp_path / "a.jsonl", tiny)
    counts = [frames_of_lines(path.read_bytes())[0] for path in tmp_path.iterdir()]
    assert len(counts) == 20
    assert min(counts) > 0


@needs_fork
def test_a_kill_leaves_an_hdf5_file_that_can_be_read(tmp_path: Path, tiny: Contract) -> None:
    run("kill", tmp_path / "a.h5", tiny)
    counts = [min(frames_of_hdf5(path)) for path in tmp_path.iterdir()]
    assert len(counts) == 20
    assert min(counts) > 0


@needs_fork
def test_a_full_disk_as_the_operating_system_has_it(tmp_path: Path, tiny: Contract) -> None:
    """A limit on the size of files is met as a disk that is full: a write takes a part, the next one is refused."""
    said = run("write", tmp_path / "a.jsonl", tiny, 200_000)
    assert f"{tmp_path}/a.jsonl: a prediction could not be written (File too large)" in said
    content = (tmp_path / "a.jsonl").read_bytes()
    assert content.endswith(b"\n")
    assert len(content) > 199_000
    assert frames_of_lines(content)[0] > 100
    said = run("write", tmp_path / "a.h5", tiny, 200_000)
    assert f"{tmp_path}/a.h5: it could not be written to its end (File too large)" in said
    assert min(frames_of_hdf5(tmp_path / "a.h5")) >= 1024
    said = run("write", tmp_path / "a.mp4", tiny, 200_000)
    assert "a_stream_0.mp4: the video could not be written to its end (File too large)" in said


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB; only the administrator can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("nobody but the administrator can make a disk that is full")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="this system has no mount")
@pytest.mark.parametrize("name", ["a.jsonl", "a.h5"])
def test_a_disk_that_is_really_full(tiny_disk: Path, tiny: Contract, name: str) -> None:
    said = run("write", tiny_disk / name, tiny)
    assert "No space left on device" in said
    count = (
        frames_of_lines((tiny_disk / name).read_bytes())[0]
        if name == "a.jsonl"
        else min(frames_of_hdf5(tiny_disk / name))
    )
    assert count > 500
