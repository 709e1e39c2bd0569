"""Measures what the runtime adds to a step of `session.run`, and what one session of many streams gains over many.

    python benchmarks/stepping.py overhead [--threads 2] [--rounds 15] [--processes 3] [--json FILE]
    python benchmarks/stepping.py streams [--counts 8 16] [--threads 2] [--rounds 15] [--json FILE]

Both run a ConvRNN (base 16) with random weights on CPU over event frames of the real EVT3 recording (`--samples`; else
of `samples/gestures.raw`), its state fed back. Candidates have processes of their own, their bursts take shuffled turns
(see `edgeclf_runtime.benchmark.turns`), and what is printed is the median over the rounds with the quartiles.

`overhead`, at 120×160: the µs by which a step of the runtime's `Classifier`, and a frame of its streaming engine fed
with frames that are there already, is longer than `session.run` alone in the same session. Each frame is run both ways,
one after the other, and a burst's figure is the median of the differences.

`streams`, at 64×64: how many times the frames a second of as many classifiers stepped in turn one classifier of so many
streams has, in lockstep.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.backends.onnx_runtime import OnnxRuntimeBackend
from edgeclf_runtime.benchmark.turns import Server
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.frames import frames_of
from edgeclf_runtime.machine.processor import read_processor
from edgeclf_runtime.session import Classifier, open_model
from edgeclf_runtime.sources import FrameSource
from edgeclf_runtime.streaming import StreamRun
from edgeclf_runtime.tensor_file import TensorAttributes
from example_models import DEFAULT_SAMPLES, event_frames, export_random
from interleaving import by_round, interleaved, shown

FRAMES = 32
WARM_UP = 4
STEP = "Classifier.step"
ENGINE = "run_streams"

Frames = NDArray[np.float32]


class BareRun:
    """`session.run` alone, its state fed back by hand, in the session that the runtime made.

    Args:
        backend: The opened model.
    """

    def __init__(self, backend: OnnxRuntimeBackend) -> None:
        self._session = backend.session
        self._contract = backend.contract
        self.feed = {s.input_name: np.zeros((1, *s.shape), np.float32) for s in self._contract.state}
        self.feed["keep_memory"] = np.ones(1, np.float32)

    def __call__(self, frame: Frames) -> None:
        """Runs a step on a frame `[1, C, H, W]`."""
        self.feed["frames"] = frame
        outputs = self._session.run(self._contract.output_names, self.feed)
        for tensor, value in zip(self._contract.state, outputs[2:], strict=True):
            self.feed[tensor.input_name] = value


def open_pair(path: Path, threads: int, frames: Frames, by_engine: bool) -> Server:
    """Loads the model; a burst runs each frame both ways, in turns, and returns the median of the differences in s."""
    backend = open_model(path, "cpu", threads)
    assert isinstance(backend, OnnxRuntimeBackend)
    classifier, bare = Classifier(backend), BareRun(backend)

    def burst() -> float:
        classifier.reset()
        step = _engine(classifier, frames) if by_engine else classifier.step
        differences = []
        for k, frame in enumerate(frames):
            seconds = [0.0, 0.0]
            for which in (0, 1) if k % 2 else (1, 0):
                begin = time.perf_counter()
                (bare, step)[which](frame[None])
                seconds[which] = time.perf_counter() - begin
            differences.append(seconds[1] - seconds[0])
        return statistics.median(differences[WARM_UP:])

    return burst


class GivenFrames(FrameSource):
    """Frames that are in memory, as a source."""

    def __init__(self, contract: Contract, frames: Frames) -> None:
        self.name = "memory"
        size = contract.sensor_size or (0, 0)
        self.made = TensorAttributes(
            contract.preprocess, contract.delta_t, size, preprocess_kwargs=contract.preprocess_kwargs
        )
        self.sensor_size = size
        self.frame_shape = contract.frame_shape
        self._frames = frames

    def __iter__(self) -> Iterator[tuple[int, Frames]]:
        """Yields the frames with their ends."""
        for k, frame in enumerate(self._frames):
            yield (k + 1) * self.made.delta_t, frame


def _engine(classifier: Classifier, frames: Frames) -> Callable[[Frames], object]:
    """Returns what gives the streaming engine's prediction for the next of the frames."""
    stream = frames_of(GivenFrames(classifier.contract, frames), classifier.contract)
    predictions = iter(StreamRun(classifier, [stream]))
    return lambda _frame: next(predictions)


def open_streams(path: Path, threads: int, frames: Frames, streams: int, together: bool) -> Server:
    """Loads one classifier of so many streams, or as many of one; a burst returns frames a second."""
    sessions = 1 if together else streams
    each = streams // sessions
    classifiers = [Classifier.load(path, "cpu", threads=threads, streams=each) for _ in range(sessions)]
    # The streams are out of step with each other, as cameras are that look at different things.
    batches = [np.stack([frames[(k + 5 * i) % len(frames)] for i in range(each)]) for k in range(len(frames))]

    def burst() -> float:
        for classifier in classifiers:
            classifier.reset()
        start = time.perf_counter()
        for batch in batches:
            for classifier in classifiers:
                classifier.step(batch)
        return streams * len(batches) / (time.perf_counter() - start)

    return burst


def overhead(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measures and prints what the runtime adds to a step."""
    frames, source = event_frames(options.samples, 120, 160, FRAMES)
    path = export_random("ConvRNNClassifier", folder, (120, 160))["fp32"]
    results: dict[str, Any] = {"made_of": source}
    print("| threads | Classifier.step | run_streams |\n| --- | --- | --- |")
    for threads in options.threads:
        opens = {name: partial(open_pair, path, threads, frames, name == ENGINE) for name in (STEP, ENGINE)}
        found = interleaved(opens, options.rounds, options.processes)
        added = [[1e6 * value for turn in found[name] for value in turn] for name in (STEP, ENGINE)]
        cells = [shown(values, 0, " µs") for values in added]
        print(f"| {threads} | {' | '.join(cells)} |", flush=True)
        results[f"{threads} threads, µs"] = dict(zip((STEP, ENGINE), added, strict=True))
    return results


def streams(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measures and prints what one session of many streams gains."""
    frames, source = event_frames(options.samples, 64, 64, FRAMES)
    path = export_random("ConvRNNClassifier", folder, (64, 64))["fp32"]
    results: dict[str, Any] = {"made_of": source}
    print("| threads | streams | frames a second, one session over as many |\n| --- | --- | --- |")
    for threads in options.threads:
        for count in options.counts:
            opens = {
                str(together): partial(open_streams, path, threads, frames, count, together)
                for together in (True, False)
            }
            found = {name: by_round(t) for name, t in interleaved(opens, options.rounds, options.processes).items()}
            ratios = [one / many for one, many in zip(found["True"], found["False"], strict=True)]
            print(f"| {threads} | {count} | {shown(ratios)} |", flush=True)
            results[f"{threads} threads, {count} streams"] = ratios
    return results


def main(arguments: list[str] | None = None) -> None:
    """Exports the model, measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("overhead", "streams"))
    parser.add_argument("--threads", type=int, nargs="+", default=[2], help="threads of a step")
    parser.add_argument("--counts", type=int, nargs="+", default=[8, 16], help="numbers of streams")
    parser.add_argument("--rounds", type=int, default=15, help="bursts of each process")
    parser.add_argument("--processes", type=int, default=3, help="processes of each candidate")
    parser.add_argument("--samples", type=Path, default=DEFAULT_SAMPLES, help="folder of the real recordings")
    parser.add_argument("--json", type=Path, help="file for the results, as JSON")
    options = parser.parse_args(arguments)
    processor = read_processor().name
    print(f"{processor}; median over {options.rounds} rounds (quartiles)\n")
    with tempfile.TemporaryDirectory() as folder:
        results = (overhead if options.what == "overhead" else streams)(options, Path(folder))
    if options.json:
        options.json.write_text(json.dumps({"processor": processor, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
