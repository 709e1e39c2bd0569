"""Pipes, files that grow, and signals: the command in a process of its own, as a user or a service runs it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and named pipes are POSIX's")

HEADER = b"% Data file containing CD events\n% Version 2\n% Width 32\n% Height 24\n\x0c\x08"

TELLS_SIGNALS = """
import os
from edgeclf_runtime.streaming import StreamRun

def telling(name):
    method = getattr(StreamRun, name)

    def told(run):
        method(run)
        os.write(2, name.encode() + b" was called;")  # print must not break in upon itself

    setattr(StreamRun, name, told)

telling("stop")
telling("reset")
"""


def words_of(events):
    return np.array([(t, x | y << 14 | p << 28) for t, x, y, p in events], "<u4").tobytes()


def append(path, data):
    with path.open("ab") as file:
        file.write(data)


@pytest.fixture
def events(random_events):
    """Events of 8 frames, of which the last is complete."""
    return [*random_events(800, 80_000, 7), (80_000, 0, 0, 1)]


@pytest.fixture
def whole(edgeclf, write_model, write_dat, events, lines_of, without_latency):
    """The lines of those events' 9 frames, read from a file."""
    return without_latency(lines_of(edgeclf("run-stream", write_model(), write_dat("whole.dat", events)).out))


# What comes bit by bit gives the same lines.


def test_standard_input(start, write_model, events, whole, without_latency):
    running = start("run-stream", write_model(), "-")
    running.send(HEADER + words_of(events))
    assert running.end() == 0
    assert without_latency(running.lines) == [line | {"source": "-"} for line in whole]


def test_words_without_a_header(start, write_model, events, whole, without_latency):
    running = start("run-stream", write_model(), "-", "--format", "DAT", "--sensor-size", 32, 24)
    running.send(words_of(events))
    assert running.end() == 0
    assert without_latency(running.lines) == [line | {"source": "-"} for line in whole]


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (b"", [], "standard input is empty"),
        (words_of([(0, 1, 1, 1)] * 9), [], "give the format of its words with --format"),
        (words_of([(0, 1, 1, 1)] * 9), ["--format", "DAT"], "--sensor-size WIDTH HEIGHT"),
        (HEADER, ["--format", "EVT3"], "The format EVT3 contradicts the header of standard input"),
        (HEADER, ["--sensor-size", "64", "48"], "contradicts the header"),
    ],
)
def test_what_is_no_stream(start, write_model, data, options, says):
    running = start("run-stream", write_model(), "-", *options)
    running.send(data)
    assert running.end() == 2
    assert says in running.err
    assert running.err.count("Error: ") == 1


def test_lines_come_while_the_pipe_is_open(start, write_model, events):
    running = start("run-stream", write_model(), "-")
    for k in range(9):
        running.send((b"" if k else HEADER) + words_of(e for e in events if e[0] // 10_000 == k))
        running.wait_for_lines(k)
    assert running.end() == 0
    assert len(running.lines) == 9


def test_one_pipe_is_not_two_streams(edgeclf, write_model, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("-", tmp_path / "pipe"):
        ended = edgeclf("run-stream", write_model(), name, name)
        assert (ended.code, ended.out) == (2, "")
        assert ended.error == f"{name}: what comes through one pipe cannot be two streams; name it once."


# Signals.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_pipe_cleanly(start, write_model, tmp_path, events, whole, without_latency, number):
    running = start("run-stream", write_model(), "-", "--json", tmp_path / "a.json")
    running.send(HEADER + words_of(events))
    running.wait_for_lines(8)
    running.process.send_signal(number)
    assert running.wait() == 0
    # The ninth slice was not over yet.
    assert without_latency(running.lines) == [line | {"source": "-"} for line in whole[:8]]
    summary = json.loads((tmp_path / "a.json").read_text())
    assert summary["frames"] == summary["streams"][0]["frames"] == 8
    assert summary["streams"][0]["failure"] is None
    assert "8 frames in " in running.err
    assert "Error" not in running.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_followed_file_cleanly(
    start, write_model, tmp_path, write_dat, events, whole, without_latency, number
):
    path = write_dat("grows.dat", events[:250], cut=3)
    running = start("run-stream", write_model(), path, "--follow", "--output", "-", "--hdf5", tmp_path / "a.h5")
    running.wait_for_lines(sum(events[249][0] >= end for end in range(10_000, 90_000, 10_000)))
    rest = words_of(events[249:])[5:]
    for at in range(0, len(rest), 1001):
        append(path, rest[at : at + 1001])
    running.wait_for_lines(8)
    running.process.send_signal(number)
    assert running.wait() == 0
    assert without_latency(running.lines) == [line | {"source": str(path)} for line in whole[:8]]
    assert "8 frames in " in running.err
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["cls_end_ts"][:].tolist() == [line["t_us"] for line in running.lines]


def test_a_signal_ends_a_recording_at_the_sensors_speed_cleanly(start, write_model, write_dat):
    path = write_dat("long.dat", [(k * 10_000, 0, 0, 0) for k in range(100_000)])
    running = start("run-stream", write_model(), path, "--realtime")
    running.wait_for_lines(3)
    running.process.send_signal(signal.SIGINT)
    assert running.wait() == 0
    assert [line["frame"] for line in running.lines] == list(range(len(running.lines)))
    assert f"{len(running.lines)} frames in " in running.err


def test_damage_is_told_where_a_signal_ended_the_stream(start, write_model, events):
    running = start("run-stream", write_model(), "-")
    running.send(HEADER + words_of([(5, 200, 3, 0), *events]))
    running.wait_for_lines(8)
    running.process.send_signal(signal.SIGTERM)
    assert running.wait() == 0
    assert "-: events outside the sensor: 1\n" in running.err
    assert "Warning: 1 event(s) of standard input outside the sensor (32x24) were dropped." in running.err


def test_the_second_signal_ends_at_once(start, write_model, events):
    # A step that never returns: the first signal cannot end it.
    setup = TELLS_SIGNALS + (
        "import time\nfrom edgeclf_runtime.session import Classifier\n"
        "def step(*_, **__):\n"
        "    os.write(2, b'stepping')\n"
        "    while True:\n"
        "        time.sleep(0.01)\n"
        "Classifier.step = step\n"
    )
    running = start("run-stream", write_model(), "-", setup=setup)
    running.send(HEADER + words_of(events))
    running.wait_for("stepping")
    running.process.send_signal(signal.SIGINT)
    running.wait_for("stop was called")
    running.process.send_signal(signal.SIGUSR1)  # harmless until the end
    running.wait_for("reset was called")
    assert running.process.poll() is None
    running.process.send_signal(signal.SIGINT)
    assert running.wait() == 1
    assert running.err.endswith("Aborted!\n")


def test_sigusr1_clears_the_memory_of_every_stream(start, write_model, write_dat, events):
    first = [e for e in events if e[0] < 50_001]
    paths = [write_dat(name, first) for name in ("a.dat", "b.dat")]
    running = start("run-stream", write_model(), *paths, "--follow", setup=TELLS_SIGNALS)
    running.wait_for_lines(8)
    running.process.send_signal(signal.SIGUSR1)
    running.wait_for("reset was called")
    for path in paths:
        append(path, words_of(events[len(first) :]))
    running.wait_for_lines(16)
    running.process.send_signal(signal.SIGINT)
    assert running.wait() == 0
    for stream in range(2):
        assert [line["frame"] for line in running.lines if line["stream"] == stream and line["reset"]] == [0, 4]


@pytest.mark.parametrize("has_writer", [True, False])
def test_a_signal_while_a_pipe_is_waited_for(start, write_model, tmp_path, has_writer):
    os.mkfifo(tmp_path / "pipe")
    running = start("run-stream", write_model(), tmp_path / "pipe", "--device", "cpu", "-v", setup=BEFORE_OPENING)
    running.wait_for("opening")
    if has_writer:
        with (tmp_path / "pipe").open("wb"):
            running.wait_for("waiting for its header")
            running.process.send_signal(signal.SIGINT)
            assert running.wait() == 1
    else:
        running.process.send_signal(signal.SIGINT)
        assert running.wait() == 1
    assert running.err.endswith("Aborted!\n")


BEFORE_OPENING = """
import sys
import edgeclf_runtime.commands.run_stream as command

opened = command.open_source

def opening(*given):
    print("opening", file=sys.stderr, flush=True)
    return opened(*given)

command.open_source = opening
"""


def test_a_followed_file_ends_with_the_duration_that_was_asked_for(start, write_model, write_dat, events):
    path = write_dat("a.dat", events[:50])
    running = start("run-stream", write_model(), path, "--follow", "--max-duration-ms", 30)
    running.wait_for("memory policy")
    append(path, words_of(events[50:]))
    assert running.wait() == 0
    assert [line["frame"] for line in running.lines] == [0, 1, 2]


# What happens to a source while it is read.


@pytest.mark.parametrize("how", ["replaced", "shortened"])
def test_a_followed_file_that_becomes_another_one(start, write_model, write_dat, tmp_path, events, how):
    first = [e for e in events if e[0] < 50_001]
    paths = [write_dat(name, first) for name in ("a.dat", "b.dat")]
    running = start("run-stream", write_model(), *paths, "--follow", "--json", tmp_path / "a.json")
    running.wait_for_lines(8)
    if how == "replaced":
        write_dat("new.dat", events).replace(paths[0])
    else:
        write_dat("a.dat", first[:10])
    running.wait_for("a.dat: this stream has failed")
    append(paths[1], words_of(events[len(first) :]))
    running.wait_for_lines(12)
    running.process.send_signal(signal.SIGINT)
    assert running.wait() == 1
    error = running.err.split("Error: ")[1]
    assert error.startswith(f"{paths[0]} ")
    assert ("replaced by another file" if how == "replaced" else "has become shorter") in error
    assert [line["frame"] for line in running.lines if line["stream"] == 1] == list(range(8))
    streams = json.loads((tmp_path / "a.json").read_text())["streams"]
    assert [stream["failure"] is None for stream in streams] == [False, True]


def test_a_source_that_stalls_is_reported_and_the_others_go_on(start, write_model, write_dat, events, tmp_path):
    first = [e for e in events if e[0] < 50_001]
    path = write_dat("a.dat", first)
    running = start(
        "run-stream", write_model(), path, "-", "--follow", "--stall-after-s", "0.3", "--json", tmp_path / "a.json"
    )
    running.send(HEADER + words_of(first))
    running.wait_for_lines(8)
    running.wait_for("Warning: -: nothing has come for 0.3 s.")
    append(path, words_of(events[len(first) :]))
    running.wait_for_lines(12)
    assert [line["frame"] for line in running.lines if line["stream"] == 0] == list(range(8))
    running.send(words_of(events[len(first) :]))
    running.wait_for("Warning: -: it is back.")
    running.wait_for_lines(16)
    running.process.send_signal(signal.SIGINT)
    assert running.wait() == 0
    summary = json.loads((tmp_path / "a.json").read_text())
    assert summary["streams"][1]["stalls"] >= 1
    assert summary["frames"] == 16


# Kills.


def test_kill_leaves_whole_lines_and_an_hdf5_file_that_opens(start, write_model, write_dat, tmp_path):
    path = write_dat("long.dat", [(k * 10_000, 0, 0, 0) for k in range(400_000)])
    running = start(
        "run-stream", write_model(), path, "--output", tmp_path / "a.jsonl", "--hdf5", tmp_path / "a.h5", "-q",
        setup="import sys\nfrom edgeclf_runtime.outputs import hdf5\nhdf5._BLOCK = 64",
    )  # fmt: skip
    while not (tmp_path / "a.h5").exists() or (tmp_path / "a.h5").stat().st_size < 20_000:
        assert running.process.poll() is None
    running.process.kill()
    assert running.wait() == -signal.SIGKILL
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().split("\n")[:-1]]
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    with h5py.File(tmp_path / "a.h5") as file:
        count = min(len(file["cls"]), len(file["cls_start_ts"]), len(file["cls_end_ts"]))
        assert 64 <= count <= len(lines)
        assert file["cls_end_ts"][:count].tolist() == [line["t_us"] for line in lines[:count]]
        np.testing.assert_allclose(file["cls"][:count], [line["probabilities"] for line in lines[:count]], atol=1e-6)


# In a terminal.


def on_screen(text):
    """The lines that a terminal shows in the end, and those that were overwritten."""
    lines, overwritten = [""], []
    for part in re.split(r"(\r\n|\r\x1b\[K)", text):
        if part == "\r\n":
            lines.append("")
        elif part == "\r\x1b[K":
            overwritten.append(lines[-1])
            lines[-1] = ""
        else:
            assert not set(part) & {"\r", "\n", "\x1b"}
            lines[-1] += part
    return lines, overwritten


@pytest.mark.parametrize("is_lines_too", [True, False])
def test_the_live_line_mixes_with_nothing(write_model, write_dat, tmp_path, is_lines_too):
    pty = pytest.importorskip("pty")
    outside = [(150_000, 100, 0, 0)]
    path = write_dat("long.dat", sorted([(k * 5_000, 0, 0, 0) for k in range(80)] + outside))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edgeclf", "run-stream", write_model(), path, "--realtime", "--device", "cpu"]
    output = [] if is_lines_too else ["--output", tmp_path / "a.jsonl"]
    with subprocess.Popen([*command, *output], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        text = b""
        with contextlib.suppress(OSError):  # how Linux says that nobody is there any more
            while block := os.read(ours, 1 << 16):
                text += block
        os.close(ours)
        assert process.wait(30) == 1
    lines, overwritten = on_screen(text.decode())
    assert any(re.fullmatch(r"\d+ frames  \d+\.\d/s(  \d+ late)?  [a-z]+ \d\.\d\d", line) for line in overwritten)
    assert not any("/s  " in line for line in lines)
    assert lines[0] == f"{path}: memory policy never."
    assert [json.loads(line)["frame"] for line in lines if line.startswith("{")] == (
        list(range(40)) if is_lines_too else []
    )
    rest = [line for line in lines if not line.startswith("{")]
    assert rest[1].startswith("source ")
    assert rest[3] == f"{path}: events outside the sensor: 1"
    assert rest[-2:] == [f"Error: 1 event(s) of {path} outside the sensor (32x24) were dropped.", ""]
