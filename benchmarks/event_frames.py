"""Measures how many events a second become event frames, decoding included, on one core.

    python benchmarks/event_frames.py [--events 20000000] [--repeats 5] [--json FILE]

Files of 1280×720 in each RAW format and in DAT are read, cut into slices and made frames by `histo`, as they are and
shrunk to 120×160, by what the runtime streams with. The streams are those of decoding.py: the words of the real EVT3
recording, one after the other, and its events in the other formats. Each file is measured in a process of its own that
is pinned to one core. The median of the repetitions is printed, and the slowest.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from decoding import SENSOR, streams
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.frames import open_frames
from edgeclf_runtime.machine.processor import read_processor
from example_models import DEFAULT_SAMPLES

SIZES = {"720×1280": (720, 1280), "120×160": (120, 160)}
STREAMS = ("EVT3", "EVT3 vectors", "EVT2.1", "DAT")


def contract_for(size: tuple[int, int], delta_t: int) -> Contract:
    """Returns what a model says that takes `histo` frames of a size."""
    return Contract(
        architecture="none",
        labels=("background", "part"),
        delta_t=delta_t,
        preprocess="histo",
        preprocess_kwargs={"max_incr_per_pixel": 5},
        sensor_size=SENSOR,
        frame_shape=(2, *size),
        state=(),
        precision="fp32",
        opset=None,
    )


def measure(path: Path, size: tuple[int, int], delta_t: int, repeats: int) -> list[float]:
    """Returns the seconds that all frames of a file took, of each repetition; runs in a process of its own."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in open_frames(path, contract_for(size, delta_t)):
            pass
        seconds.append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Writes, measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=20_000_000, help="events in each file, at least")
    parser.add_argument("--repeats", type=int, default=5, help="how often each file is read")
    parser.add_argument("--delta-t", type=int, default=33_000, help="duration of a frame in µs")
    parser.add_argument("--samples", type=Path, default=DEFAULT_SAMPLES, help="folder of the real recordings")
    parser.add_argument("--json", type=Path, help="file for the results, as JSON")
    parser.add_argument("--measure", nargs=2, metavar=("FILE", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        path, size = options.measure
        print(json.dumps(measure(Path(path), SIZES[size], options.delta_t, options.repeats)))
        return
    processor = read_processor().name
    print(f"{processor}, one core; frames of {options.delta_t} µs; million events a second, median (slowest)\n")
    print("| stream | " + " | ".join(f"frames of {size}" for size in SIZES) + " |\n| --- | --- | --- |")
    results: dict[str, Any] = {}
    for name, (_, write) in streams(options.samples, options.events).items():
        if name not in STREAMS:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "recording"
            write(path)
            cells = []
            for size in SIZES:
                command = [sys.executable, __file__, "--measure", str(path), size]
                command += ["--repeats", str(options.repeats), "--delta-t", str(options.delta_t)]
                seconds = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                rates = [options.events / 1e6 / value for value in (statistics.median(seconds), max(seconds))]
                cells.append(f"{rates[0]:.1f} ({rates[1]:.1f})")
                results[f"{name}, {size}"] = seconds
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if options.json:
        document = {"processor": processor, "events": options.events, "seconds": results}
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
