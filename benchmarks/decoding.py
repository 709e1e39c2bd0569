"""Measures how fast recordings are decoded, on one core, and how much memory that takes.

    python benchmarks/decoding.py [--events 50000000] [--repeats 5] [--json FILE]

Writes one file for each stream to a temporary folder, decodes each in a process of its own that is pinned to one core
(where the system can), and prints events and bytes a second, the peak memory of the process, and how many times longer
decoding takes than reading the same file with `np.fromfile`. The files are in the system's cache when they are read.

The streams `EVT2` and `EVT3` are the words of the two real recordings (see `--samples`), one after the other with
their time words moved on, so the mix of words is that of the sensors. `EVT2.1` and `DAT` are the events of the EVT3
recording, encoded. Without the recordings these four are synthetic: single events at random places. `EVT3 vectors` is
synthetic: rows of edges, of which each makes 16 events of a vector on average; `EVT3 singles` has no vectors at all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeclf.data.raw_writer import WrittenFormat, write_recording
from edgeclf_runtime.events import Events, open_recording
from edgeclf_runtime.machine.processor import read_processor
from example_models import DEFAULT_SAMPLES

SENSOR = (1280, 720)


def single_events(count: int, seed: int = 0) -> Events:
    """Returns single events at random places, 25 each µs, as a busy sensor sends them."""
    rng = np.random.default_rng(seed)
    t = np.arange(count, dtype=np.int64) // 25
    # Rows in order within each µs, as they are read out.
    y = np.sort(rng.integers(0, SENSOR[1], (-(-count // 25), 25)), axis=1).ravel()[:count]
    x, p = rng.integers(0, SENSOR[0], count), rng.integers(0, 2, count)
    return Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8))


def edge_events(count: int, seed: int = 0) -> Events:
    """Returns edges: two groups of 32 columns each µs, in which every second pixel on average saw an event."""
    rng = np.random.default_rng(seed)
    groups = count // 16
    group, column = np.nonzero(rng.random((groups, 32)) < 0.5)
    x = rng.integers(0, SENSOR[0] // 32, groups)[group] * 32 + column
    y, p = rng.integers(0, SENSOR[1], groups)[group], rng.integers(0, 2, groups)[group]
    return Events(group // 2, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8))


def tiled(events: Events, count: int) -> Iterator[Events]:
    """Yields the events again and again, each time later, until there are at least `count`."""
    span = int(events.t[-1] - events.t[0]) + 1
    for tile in range(-(-count // len(events))):
        yield Events(events.t + tile * span, events.x, events.y, events.p)


def write_encoded(path: Path, events: Events, count: int, format: WrittenFormat) -> None:
    """Writes the events, tiled, in a format."""
    write_recording(path, tiled(events, count), SENSOR, format)


def write_moved_on(path: Path, sample: Path, count: int) -> None:
    """Writes the words of a real EVT2 or EVT3 recording again and again, with the high bits of the time moved on."""
    recording = open_recording(sample)
    events = Events.concatenate(recording)
    dtype, low_bits, high_bits = ("<u4", 6, 28) if recording.format == "EVT2" else ("<u2", 12, 12)
    data = sample.read_bytes()
    start = 0  # of the words: these two headers have no `% end`, and their first word is no text
    while data[start : start + 2] == b"% ":
        start = data.index(b"\n", start) + 1
    words: NDArray[Any] = np.frombuffer(data[start:], dtype).copy()
    time_at = np.flatnonzero(words >> high_bits == 0x8)
    high = words[time_at].astype(np.int64) & ((1 << high_bits) - 1)
    span = int(high[-1] - high[0]) + 1
    with path.open("wb") as file:
        file.write(data[:start])
        for tile in range(-(-count // len(events))):
            words[time_at] = (high + tile * span) % (1 << high_bits) | 0x8 << high_bits
            file.write(words.tobytes())
    last = int(events.t[-1]) + (tile * span << low_bits)
    for batch in open_recording(path):
        end = batch
    assert end.t[-1] == last, "the words were not moved on rightly"


def streams(samples: Path, count: int) -> dict[str, tuple[str, Callable[[Path], None]]]:
    """Returns, for each stream, where it comes from and what writes it to a file."""
    evt2, evt3 = (samples / "recordings" / f"{name}_sample.raw" for name in ("evt2", "evt3"))
    singles, edges = single_events(200_000), edge_events(200_000)
    if evt2.is_file() and evt3.is_file():
        events = Events.concatenate(open_recording(evt3))
        source = f"events of {evt3.name}"
        raw: dict[str, tuple[str, Callable[[Path], None]]] = {
            "EVT2": (f"words of {evt2.name}", lambda path: write_moved_on(path, evt2, count)),
            "EVT3": (f"words of {evt3.name}", lambda path: write_moved_on(path, evt3, count)),
        }
    else:
        events, source = singles, "synthetic: singles"
        raw = {
            "EVT2": (source, lambda path: write_encoded(path, singles, count, "EVT2")),
            "EVT3": (source, lambda path: write_encoded(path, singles, count, "EVT3")),
        }
    return {
        **raw,
        "EVT3 vectors": ("synthetic: edges", lambda path: write_encoded(path, edges, count, "EVT3")),
        "EVT3 singles": ("synthetic: singles", lambda path: write_encoded(path, singles, count, "EVT3")),
        "EVT2.1": (source, lambda path: write_encoded(path, events, count, "EVT2.1")),
        "DAT": (source, lambda path: write_encoded(path, events, count, "DAT")),
    }


def measure(path: Path, repeats: int) -> dict[str, Any]:
    """Decodes a file and returns what that took; runs in a process of its own."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    seconds = []
    for _ in range(repeats):
        count, start = 0, time.perf_counter()
        for events in open_recording(path):
            count += len(events)
        seconds.append(time.perf_counter() - start)
    peak = peak_memory()  # before the whole file is read at once
    reading = []
    for _ in range(repeats):
        start = time.perf_counter()
        np.fromfile(path, np.uint8)
        reading.append(time.perf_counter() - start)
    return {
        "events": count,
        "bytes": path.stat().st_size,
        "seconds": seconds,
        "fromfile_seconds": reading,
        "peak_bytes": peak,
    }


def peak_memory() -> int | None:
    """Returns the largest resident size of this process, in bytes, where the system tells it."""
    try:
        # Linux's ru_maxrss starts at what the parent process held.
        status = Path("/proc/self/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:
        return None
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def summarise(result: dict[str, Any]) -> dict[str, Any]:
    """Returns rates: the median of the repetitions, and the worst."""
    median, worst = statistics.median(result["seconds"]), max(result["seconds"])
    return {
        **result,
        "events_per_second_median": result["events"] / median,
        "events_per_second_min": result["events"] / worst,
        "bytes_per_second_median": result["bytes"] / median,
        "times_fromfile": median / statistics.median(result["fromfile_seconds"]),
    }


def main() -> None:
    """Writes, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=50_000_000, help="events in each file, at least")
    parser.add_argument("--repeats", type=int, default=5, help="how often each file is decoded")
    parser.add_argument("--samples", type=Path, default=DEFAULT_SAMPLES, help="folder of the real recordings")
    parser.add_argument("--json", type=Path, help="file for the results, as JSON")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.repeats)))
        return

    machine = {"processor": read_processor().name, "python": platform.python_version(), "numpy": np.__version__}
    print(f"{machine['processor']}, Python {machine['python']}, NumPy {machine['numpy']}, one core")
    print(
        f"{'stream':14}{'events':>11}{'MB':>6}{'M events/s':>12}{'(min)':>8}{'MB/s':>7}"
        f"{'peak MB':>9}{'x fromfile':>12}  made of"
    )
    results = {}
    for name, (source, write) in streams(arguments.samples, arguments.events).items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "recording"
            write(path)
            command = [sys.executable, __file__, "--measure", str(path), "--repeats", str(arguments.repeats)]
            output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        result = {"made_of": source, **summarise(json.loads(output))}
        results[name] = result
        peak = f"{result['peak_bytes'] / 1e6:9.0f}" if result["peak_bytes"] else f"{'?':>9}"
        print(
            f"{name:14}{result['events']:11d}{result['bytes'] / 1e6:6.0f}"
            f"{result['events_per_second_median'] / 1e6:12.1f}{result['events_per_second_min'] / 1e6:8.1f}"
            f"{result['bytes_per_second_median'] / 1e6:7.0f}{peak}{result['times_fromfile']:12.1f}  {source}",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({**machine, "streams": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
