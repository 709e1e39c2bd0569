"""Measures what a frame costs at camera pace: CPU time, all threads counted, and latency beside back to back.

    python benchmarks/pace.py [--pace-ms 33] [--threads 2] [--rounds 10] [--processes 3] [--json FILE]

A ConvRNN (base 16) with random weights at 120×160 runs on the CPU over event frames of the real EVT3 recording (see
`--samples`), back to back and with a frame each 33 ms, by the runtime and by `session.run` alone with ONNX Runtime's
own settings, whose threads spin between frames. Candidates have processes of their own, their bursts take shuffled
turns (see interleaving.py). Latency is a burst's median step; its ratio is that to the same program's back-to-back
steps of the same round. The cost of a frame is the process's CPU time over the burst, waiting included, over its
frames.
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

from edgeclf_runtime.contract import Contract
from edgeclf_runtime.machine.processor import read_processor
from edgeclf_runtime.session import Classifier
from example_models import DEFAULT_SAMPLES, event_frames, export_random
from interleaving import Burst, interleaved, shown

FRAMES = 32
WARM_UP = 4

Frames = NDArray[np.float32]
Step = Callable[[Frames], object]


def step_of_runtime(path: Path, threads: int) -> Step:
    """Loads the model into the runtime."""
    return Classifier.load(path, "cpu", threads=threads).step


def step_of_onnxruntime(path: Path, threads: int) -> Step:
    """Loads the model into ONNX Runtime, as it is set up by itself."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    contract = Contract.from_metadata(session.get_modelmeta().custom_metadata_map, str(path))
    feed = {s.input_name: np.zeros((1, *s.shape), np.float32) for s in contract.state}
    feed["keep_memory"] = np.ones(1, np.float32)

    def step(frame: Frames) -> None:
        feed["frames"] = frame
        outputs = session.run(contract.output_names, feed)
        feed.update(zip((s.input_name for s in contract.state), outputs[2:], strict=True))

    return step


def open_paced(opens: Callable[[Path, int], Step], path: Path, threads: int, frames: Frames, pace_s: float) -> Burst:
    """Loads a candidate; a burst returns a step's seconds at the median, and the CPU seconds of a frame."""
    step = opens(path, threads)

    def burst() -> tuple[float, float]:
        seconds = []
        cpu = time.process_time()
        due = time.perf_counter()
        for frame in frames:
            due += pace_s
            time.sleep(max(0.0, due - time.perf_counter()))
            start = time.perf_counter()
            step(frame[None])
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds[WARM_UP:]), (time.process_time() - cpu) / len(frames)

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
    programs = {"edgeclf": step_of_runtime, "session.run": step_of_onnxruntime}
    processor = read_processor().name
    print(f"{processor}; a frame each {options.pace_ms:g} ms; median over {options.rounds} rounds (quartiles)\n")
    print("| threads | program | CPU time a frame, ms | back to back, ms | latency over back to back |")
    print("| --- | --- | --- | --- | --- |")
    results: dict[str, object] = {"processor": processor, "made_of": source, "pace_ms": options.pace_ms}
    with tempfile.TemporaryDirectory() as folder:
        path = export_random("ConvRNNClassifier", Path(folder), (120, 160))["fp32"]
        for threads in options.threads:
            opens = {
                f"{name} {pace}": partial(open_paced, opens, path, threads, frames, pace / 1e3)
                for name, opens in programs.items()
                for pace in (0.0, options.pace_ms)
            }
            found = interleaved(opens, options.rounds, options.processes)
            for name in programs:
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
