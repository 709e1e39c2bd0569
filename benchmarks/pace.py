"""Measures what a frame costs at camera pace: CPU time, all threads counted, and latency beside back to back.

    python benchmarks/pace.py [--pace-ms 33] [--threads 2] [--rounds 10] [--processes 3] [--json FILE]

A ConvRNN (base 16) with random weights at 120×160 runs on the CPU over event frames of the real EVT3 recording (see
`--samples`), back to back and with a frame each 33 ms, by the runtime and by `session.run` alone with ONNX Runtime's
own settings, whose threads spin between frames. Candidates have processes of their own, their bursts take shuffled
turns (see `edgeclf_runtime.benchmark.turns`). Latency is a burst's median step; its ratio is that to the same program's
back-to-back steps of the same round. The cost of a frame is the process's CPU time over the burst, waiting included,
over its frames.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.backends import DeviceOptions
from edgeclf_runtime.benchmark.bursts import timed
from edgeclf_runtime.benchmark.candidates import Candidate
from edgeclf_runtime.benchmark.runtime_candidates import open_edgeclf, open_ort
from edgeclf_runtime.benchmark.turns import Server
from edgeclf_runtime.machine.processor import read_processor
from example_models import DEFAULT_SAMPLES, event_frames, export_random
from interleaving import interleaved, shown

FRAMES = 32
WARM_UP = 4

PROGRAMS = {"edgeclf": open_edgeclf, "session.run": open_ort}


def open_paced(
    opens: Callable[[Path, DeviceOptions], Candidate],
    path: Path,
    threads: int,
    frames: NDArray[np.float32],
    pace_ms: float,
) -> Server:
    """Loads a candidate; a burst returns a step's seconds at the median, and the CPU seconds of a frame."""
    candidate = opens(path, DeviceOptions("cpu", threads))

    def burst() -> tuple[float, float]:
        candidate.reset()
        cpu = time.process_time()
        latencies, _ = timed(candidate.step, list(frames[:, None]), round(1e6 * pace_ms))
        return float(np.median(latencies[WARM_UP:])) / 1e9, (time.process_time() - cpu) / len(frames)

    return burst


def main(arguments: list[str] | None = None) -> None:
    """Exports the model, measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pace-ms", type=float, default=33.0, help="time between frames")
    parser.add_argument("--threads", type=int, nargs="+", default=[2], help="threads of a step")
    parser.add_argument("--rounds", type=int, default=10, help="bursts of each process")
    parser.add_argument("--processes", type=int, default=3, help="processes of each candidate")
    parser.add_argument("--samples", type=Path, default=DEFAULT_SAMPLES, help="folder of the real recordings")
    parser.add_argument("--json", type=Path, help="file for the results, as JSON")
    options = parser.parse_args(arguments)
    frames, source = event_frames(options.samples, 120, 160, FRAMES)
    processor = read_processor().name
    print(f"{processor}; a frame each {options.pace_ms:g} ms; median over {options.rounds} rounds (quartiles)\n")
    print("| threads | program | CPU time a frame, ms | back to back, ms | latency over back to back |")
    print("| --- | --- | --- | --- | --- |")
    results: dict[str, object] = {"processor": processor, "made_of": source, "pace_ms": options.pace_ms}
    with tempfile.TemporaryDirectory() as folder:
        path = export_random("ConvRNNClassifier", Path(folder), (120, 160))["fp32"]
        for threads in options.threads:
            opens = {
                f"{name} {pace}": partial(open_paced, opens, path, threads, frames, pace)
                for name, opens in PROGRAMS.items()
                for pace in (0.0, options.pace_ms)
            }
            found = interleaved(opens, options.rounds, options.processes)
            for name in PROGRAMS:
                free, paced = (found[f"{name} {pace}"] for pace in (0.0, options.pace_ms))
                latency = [[statistics.median(p[0] for p in turn) for turn in kind] for kind in (free, paced)]
                ratios = [slow / fast for fast, slow in zip(*latency, strict=True)]
                cpu = [[1000 * statistics.median(p[1] for p in turn) for turn in kind] for kind in (free, paced)]
                cells = [shown(cpu[1]), shown(cpu[0]), shown(ratios)]
                print(f"| {threads} | {name} | {' | '.join(cells)} |", flush=True)
                results[f"{name}, {threads} threads"] = {"cpu_ms": cpu[1], "cpu_ms_free": cpu[0], "ratios": ratios}
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
