"""Measures how fast slices of events become event frames, each preprocessing on one core.

    python benchmarks/preprocessing.py [--rounds 15] [--json FILE]

Every preprocessing with its default arguments makes frames of the same slices, on a sensor of 1280×720 and on one of
320×320. A slice is a number of events; at the rate of the real EVT3 recording, 25 million a second, 250,000 events are
10 ms and 500,000 are 20 ms. In every round each preprocessing takes its turn, so that what else the machine does falls
on all of them alike; the table gives the median of the rounds and the slowest. A call's time is all of it, the memory
for the frame included, and is time that passes: the last line says which part of it the process had its core for.

The events are those of the real EVT3 recording (see `--samples`), again and again, each time later and shifted by 37
columns and 11 rows around the sensor, so that the repetitions do not fall on the same pixels; for 320×320 the
coordinates are scaled down. Without the recording they are at random places with random polarities, 25 each µs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.events import Events, open_recording
from edgeclf_runtime.machine.processor import read_processor
from edgeclf_runtime.preprocessing import create_preprocessing, preprocessing_names
from example_models import DEFAULT_SAMPLES

SENSORS = ((1280, 720), (320, 320))
RECORDED = SENSORS[0]  # the real recording's sensor
SLICES = (20_000, 100_000, 250_000, 500_000, 1_000_000)
EVENTS_PER_US = 25


def random_events(count: int, seed: int = 0) -> Events:
    """Returns events at random places of the recording's sensor."""
    rng = np.random.default_rng(seed)
    x, y, p = (rng.integers(0, high, count) for high in (*RECORDED, 2))
    t = np.arange(count, dtype=np.int64) // EVENTS_PER_US
    return Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8))


def tiled(events: Events, count: int) -> Events:
    """Returns `count` events: those given, again and again, each time later and at other places."""
    width, height = RECORDED
    span = int(events.t[-1] - events.t[0]) + 1
    tiles = []
    for tile in range(-(-count // len(events))):
        x, y = (events.x + tile * 37) % width, (events.y + tile * 11) % height
        tiles.append(Events(events.t - events.t[0] + tile * span, x.astype(np.uint16), y.astype(np.uint16), events.p))
    return Events.concatenate(tiles)[:count]


def scaled(events: Events, sensor_size: tuple[int, int]) -> Events:
    """Returns the events on a sensor of another size."""
    x = events.x.astype(np.int64) * sensor_size[0] // RECORDED[0]
    y = events.y.astype(np.int64) * sensor_size[1] // RECORDED[1]
    return Events(events.t, x.astype(np.uint16), y.astype(np.uint16), events.p)


def measure(events: Events, sensor_size: tuple[int, int], rounds: int) -> dict[str, list[float]]:
    """Returns the seconds that each preprocessing took for a frame of these events, round by round."""
    delta_t = int(events.t[-1]) + 1
    made = {name: create_preprocessing(name, sensor_size, delta_t) for name in preprocessing_names()}
    for preprocess in made.values():
        preprocess(events, 0)  # what the first call pays for is not asked here
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, preprocess in made.items():
            start = time.perf_counter()
            preprocess(events, 0)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def print_table(sensor_size: tuple[int, int], results: list[dict[str, Any]]) -> None:
    """Prints millions of events a second: a row for each preprocessing, a column for each slice."""
    print(f"\n{sensor_size[0]}×{sensor_size[1]}: million events a second, median (slowest)\n")
    print("| events in a slice | " + " | ".join(f"{count:,}" for count in SLICES) + " |")
    print("| --- |" + " --- |" * len(SLICES))
    for name in preprocessing_names():
        cells = [
            f"{result['events_per_second_median'] / 1e6:.1f} ({result['events_per_second_min'] / 1e6:.1f})"
            for result in results
            if result["preprocessing"] == name
        ]
        print(f"| `{name}` | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Makes the events, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="how often each frame is made")
    parser.add_argument("--samples", type=Path, default=DEFAULT_SAMPLES, help="folder of the real recordings")
    parser.add_argument("--json", type=Path, help="file for the results, as JSON")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    sample = arguments.samples / "recordings" / "evt3_sample.raw"
    if sample.is_file():
        events, source = tiled(Events.concatenate(open_recording(sample)), max(SLICES)), f"events of {sample.name}"
    else:
        events, source = random_events(max(SLICES)), "random events"
    machine = {"processor": read_processor().name, "python": platform.python_version(), "numpy": np.__version__}
    print(f"{machine['processor']}, Python {machine['python']}, NumPy {machine['numpy']}, one core; {source}")
    results = []
    began, worked = time.perf_counter(), time.process_time()
    for sensor_size in SENSORS:
        on_sensor = scaled(events, sensor_size)
        of_sensor = [
            {
                "preprocessing": name,
                "sensor_size": sensor_size,
                "events": count,
                "seconds": seconds,
                "events_per_second_median": count / statistics.median(seconds),
                "events_per_second_min": count / max(seconds),
            }
            for count in SLICES
            for name, seconds in measure(on_sensor[:count], sensor_size, arguments.rounds).items()
        ]
        print_table(sensor_size, of_sensor)
        results += of_sensor
    share = (time.process_time() - worked) / (time.perf_counter() - began)
    print(f"\nThe process had its core for {share:.0%} of the time.")
    if arguments.json:
        document = {**machine, "made_of": source, "share_of_core": share, "results": results}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
