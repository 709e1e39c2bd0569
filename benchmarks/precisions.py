"""Measures how much faster a step is in int8 and in fp16 than in fp32, with ONNX Runtime and with OpenVINO, on the CPU.

    python benchmarks/precisions.py [--threads 1 2] [--rounds 15] [--processes 3] [--models NAME...] [--json FILE]

Every model has random weights and takes frames of 120 rows and 160 columns, a frame a step, its state fed back. Each is
exported as `edgeclf export --format onnx` does, in each precision; OpenVINO, where it is installed, converts the same
fp32 and int8 files, a batch of 1 made fixed and its arithmetic pinned to float32 where it is not int8; and, on
processors that have bfloat16, once more with the fp32 file computed in it.

Each candidate is loaded by some processes of its own. A round is a burst of steps of every process of every candidate,
one burst after the other, in an order that is shuffled anew, so whatever else the machine does falls on all of them. A
process's time in a round is the median of the burst's steps, without the first ones; a candidate's that of its
processes. What is printed is how many times as fast as ONNX Runtime in fp32 a candidate was in the same round: the
median of the rounds, with the quartiles. Times themselves move with the machine and stand in the JSON file alone.

The frames are the events of the real EVT3 recording (see `--samples`), else of `samples/gestures.raw`, the coordinates
scaled to the frame and the time cut into 32 equal slices. int8's ranges are chosen by the same frames.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import itertools
import json
import platform
import statistics
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.backends import DeviceOptions
from edgeclf_runtime.benchmark.bursts import timed
from edgeclf_runtime.benchmark.runtime_candidates import open_openvino, open_ort
from edgeclf_runtime.benchmark.turns import Server
from edgeclf_runtime.contract_file import read_contract
from edgeclf_runtime.machine.processor import read_processor
from edgeclf_runtime.precision import Precision
from example_models import DEFAULT_SAMPLES, event_frames, export_random
from interleaving import by_round, interleaved, quartiles

if TYPE_CHECKING:  # the measured processes load no PyTorch
    from edgeclf.hyperparameters import ModelName

MODELS: dict[ModelName, int] = {
    "ConvRNNClassifier": 1,
    "LeNetClassifier": 1,
    "Mobilenetv2Classifier": 3,
    "SqueezenetClassifier": 3,
}
"""Frames that each looks at: those without a recurrent layer keep the last two as their state."""

HEIGHT, WIDTH = 120, 160
FRAMES = 32
WARM_UP = 4


@dataclass(frozen=True)
class Candidate:
    """What is measured.

    Attributes:
        backend: `ONNX Runtime` or `OpenVINO`.
        precision: Of the file that it runs.
        bfloat16: Whether OpenVINO may compute what is float32 in the file in bfloat16, which its CPU must have.
    """

    backend: str
    precision: Precision
    bfloat16: bool = False

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"{self.backend} {'bf16' if self.bfloat16 else self.precision}"


REFERENCE = Candidate("ONNX Runtime", "fp32")


def candidates() -> list[Candidate]:
    """Returns those that can be measured here."""
    found = [REFERENCE, Candidate("ONNX Runtime", "fp16"), Candidate("ONNX Runtime", "int8")]
    if importlib.util.find_spec("openvino") is not None:
        found += [Candidate("OpenVINO", "fp32"), Candidate("OpenVINO", "int8")]
        if (read_processor().instructions or {}).get("bf16"):
            found.append(Candidate("OpenVINO", "fp32", bfloat16=True))
    return found


def open_burst(candidate: Candidate, path: Path, threads: int, frames: NDArray[np.float32]) -> Server:
    """Loads a candidate; a burst returns the seconds that a step took, the median of a pass from zero state."""
    opens = open_openvino if candidate.backend == "OpenVINO" else open_ort
    program = opens(path, DeviceOptions("cpu", threads, bfloat16=candidate.bfloat16))
    given = list(frames[:, None].astype(read_contract(path).edge_type))

    def burst() -> float:
        program.reset()
        return float(np.median(timed(program.step, given)[0][WARM_UP:])) / 1e9

    return burst


def measure(
    files: dict[Precision, Path], frames: NDArray[np.float32], threads: int, rounds: int, processes: int
) -> dict[str, list[list[float]]]:
    """Returns the seconds of a step by candidate, `[round][process]`."""
    opens = {
        candidate.name: partial(open_burst, candidate, files[candidate.precision], threads, frames)
        for candidate in candidates()
    }
    return interleaved(opens, rounds, processes)


def speed_ups(times: dict[str, list[list[float]]]) -> dict[str, dict[str, Any]]:
    """Returns, by candidate, how many times as fast as the reference it was.

    Args:
        times: Seconds of a step by candidate, `[round][process]`.

    Returns:
        The median of the rounds, the first and the third quartile, and the candidate's own times.
    """
    reference = by_round(times[REFERENCE.name])
    results = {}
    for name, rounds in times.items():
        own = by_round(rounds)
        ratios = [right / found for right, found in zip(reference, own, strict=True)]
        low, middle, high = quartiles(ratios)
        results[name] = {
            "speed_up": middle,
            "speed_up_quartiles": [low, high],
            "rounds": ratios,
            "step_ms_p50": 1000 * statistics.median(own),
            "seconds": rounds,
        }
    return results


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="what is measured")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads of a step")
    parser.add_argument("--rounds", type=int, default=15, help="bursts of each process")
    parser.add_argument("--processes", type=int, default=3, help="processes of each candidate")
    parser.add_argument("--samples", type=Path, default=DEFAULT_SAMPLES, help="folder of the real recordings")
    parser.add_argument("--json", type=Path, help="file for the results, as JSON")
    return parser.parse_args(arguments)


def versions() -> dict[str, str]:
    """Returns the versions of what computes."""
    import onnxruntime

    found = {"python": platform.python_version(), "onnxruntime": onnxruntime.__version__}
    if importlib.util.find_spec("openvino") is not None:
        found["openvino"] = importlib.metadata.version("openvino")
    return found


def main(arguments: list[str] | None = None) -> None:
    """Exports the models, measures and prints."""
    options = parse(arguments)
    frames, source = event_frames(options.samples, HEIGHT, WIDTH, FRAMES)
    processor = read_processor()
    instructions = itertools.chain(*(processor.instructions or {}).values())
    machine: dict[str, object] = {
        "processor": processor.name,
        "instructions": "; ".join(instructions),
        "cores": processor.cores,
    }
    machine |= versions()
    print(", ".join(f"{name}: {value}" for name, value in machine.items()))
    print(
        f"frames of {source}; how many times as fast as {REFERENCE.name}, {options.rounds} rounds, median (quartiles)\n"
    )
    names = [candidate.name for candidate in candidates()]
    print("| model | threads | " + " | ".join(names[1:]) + " |")
    print("| --- | --- |" + " --- |" * len(names[1:]))
    results = []
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            files = export_random(model, Path(folder), (HEIGHT, WIDTH), frames, MODELS[model])
            for threads in options.threads:
                found = speed_ups(measure(files, frames, threads, options.rounds, options.processes))
                cells = [
                    "{:.2f} ({:.2f} to {:.2f})".format(found[name]["speed_up"], *found[name]["speed_up_quartiles"])
                    for name in names[1:]
                ]
                print(f"| {model} | {threads} | " + " | ".join(cells) + " |", flush=True)
                results.append({"model": model, "threads": threads, "candidates": found})
    if options.json:
        document = {"machine": machine, "made_of": source, "frame": [HEIGHT, WIDTH], "results": results}
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
