"""Measures a process that only streams: until its first prediction, its memory, and whether that grows over an hour.

    python benchmarks/process.py start [--rounds 15] [--json FILE]
    python benchmarks/process.py hour [--hours 1] [--json FILE]

Both stream a ConvRNN (base 16) with random weights at 120×160, on the CPU, by `edgeclf run-stream` in a process of its
own.

`start` streams the real EVT2 recording (`--samples`) and prints the seconds from the start of the process to its first
line of output, beside those of a process that only imports ONNX Runtime and runs the same graph once, in turns; and the
process's peak memory. `hour` sends the words of that recording through a pipe again and again, its time words stretched
tenfold and moved on, an hour of the sensor's time as fast as it is read, a frame each 33 ms; and prints how the
process's memory went.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgeclf_runtime.events import open_recording
from edgeclf_runtime.events.evt2 import LOW_BITS, TIME_HIGH
from edgeclf_runtime.machine.processor import read_processor
from example_models import DEFAULT_SAMPLES, export_random
from interleaving import shown

COMMAND = """
import atexit, sys
path = sys.argv.pop()
atexit.register(lambda: open(path, "w").write(open("/proc/self/status").read()))
from edgeclf.cli import main
main()
"""
"""What the console script `edgeclf` does, and at its end the process's own account of its memory, into a file."""

BARE = """
import sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feed = {v.name: numpy.zeros([1, *v.shape[1:]], numpy.float32) for v in session.get_inputs()}
session.run(None, feed)
print("ran", flush=True)
"""

STRETCH = 10
HIGH_BITS = 28


def start(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measures and prints time to the first prediction, and peak memory."""
    path = export_random("ConvRNNClassifier", folder, (120, 160))["fp32"]
    recording = options.samples / "recordings" / "evt2_sample.raw"
    status = folder / "status"
    streams = [sys.executable, "-c", COMMAND, "run-stream", str(path), str(recording), "--device", "cpu"]
    streams += ["--sensor-size", "640", "480", "-q", str(status)]
    bare = [sys.executable, "-c", BARE, str(path)]
    seconds: dict[str, list[float]] = {"edgeclf run-stream": [], "onnxruntime alone": []}
    peaks = []
    for _ in range(options.rounds):
        seconds["edgeclf run-stream"].append(_until_first_line(streams))
        peaks.append(int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / 1000)
        seconds["onnxruntime alone"].append(_until_first_line(bare))
    print("| process | seconds to its first line | slowest | peak memory, MB |\n| --- | --- | --- | --- |")
    for name, values in seconds.items():
        peak = f"{max(peaks):.0f}" if name.startswith("edgeclf") else ""
        print(f"| {name} | {shown(values)} | {max(values):.2f} | {peak} |")
    return {"seconds": seconds, "peak_mb": peaks}


def _until_first_line(command: list[str]) -> float:
    """Returns the seconds from a process's start to the first line that it prints, and waits for its end."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.perf_counter() - begin
        process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{command[-1]} ended with {process.returncode}")
    return seconds


def hour(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measures and prints how the memory of a process goes that streams for so many hours."""
    path = export_random("ConvRNNClassifier", folder, (120, 160), delta_t=33_000)["fp32"]
    command = [sys.executable, "-m", "edgeclf", "run-stream", str(path), "-", "--device", "cpu", "-q"]
    command += ["--sensor-size", "640", "480"]
    memory: list[tuple[int, float]] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        recording = options.samples / "recordings" / "evt2_sample.raw"
        writer = threading.Thread(target=write_looped, args=(process.stdin, recording, options.hours * 3600))
        writer.start()
        for frame, _ in enumerate(process.stdout):
            if frame % 500 == 0:
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                memory.append((frame, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
        writer.join()
    if process.returncode:
        raise RuntimeError(f"the stream ended with {process.returncode}")
    frames = memory[-1][0]
    half = [mb for frame, mb in memory if frame >= frames / 2]
    print("| share of the stream | memory, MB |\n| --- | --- |")
    for share in (0.01, 0.25, 0.5, 0.75, 1.0):
        print(f"| {share:.0%} | {next(mb for frame, mb in memory if frame >= share * frames):.1f} |")
    print(
        f"\n{frames} frames; over the last half between {min(half):.2f} and {max(half):.2f} MB, at the most ever "
        f"{max(mb for _, mb in memory):.1f} MB"
    )
    return {"memory_mb": memory}


def write_looped(pipe: IO[bytes], recording: Path, seconds: float) -> None:
    """Writes an EVT2 recording again and again, stretched, until so many seconds of the sensor's time are over."""
    data = recording.read_bytes()
    opened = open_recording(recording, (640, 480))
    assert opened.format == "EVT2"
    begin = 0
    while data[begin : begin + 2] == b"% ":
        begin = data.index(b"\n", begin) + 1
    words = np.frombuffer(data[begin : begin + (len(data) - begin) // 4 * 4], "<u4").copy()
    time_at = np.flatnonzero(words >> HIGH_BITS == TIME_HIGH)
    high = (words[time_at].astype(np.int64) & ((1 << HIGH_BITS) - 1)) * STRETCH
    high -= high[0]
    span = int(high[-1]) + STRETCH
    with pipe:
        pipe.write(data[:begin])
        for tile in range(round(seconds * 1e6 / (span << LOW_BITS))):
            words[time_at] = (high + tile * span) % (1 << HIGH_BITS) | TIME_HIGH << HIGH_BITS
            pipe.write(words.tobytes())


def main(arguments: list[str] | None = None) -> None:
    """Exports the model, measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("start", "hour"))
    parser.add_argument("--rounds", type=int, default=15, help="how often the processes are started")
    parser.add_argument("--hours", type=float, default=1.0, help="how long the stream is")
    parser.add_argument("--samples", type=Path, default=DEFAULT_SAMPLES, help="folder of the real recordings")
    parser.add_argument("--json", type=Path, help="file for the results, as JSON")
    options = parser.parse_args(arguments)
    processor = read_processor().name
    print(f"{processor}\n")
    with tempfile.TemporaryDirectory() as folder:
        results = (start if options.what == "start" else hour)(options, Path(folder))
    if options.json:
        options.json.write_text(json.dumps({"processor": processor, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
