"""Measures how much faster a step is in int8 and in fp16 than in fp32, with ONNX Runtime and with OpenVINO, on the CPU.

    python benchmarks/precisions.py [--threads 1 2] [--rounds 15] [--processes 3] [--models NAME...] [--json FILE]

Every model has random weights and takes frames of 120 rows and 160 columns, a frame a step, its state fed back. Each is
exported as `edgeclf export --format onnx` does, in each precision; OpenVINO, where it is installed, converts the same
fp32 and int8 files, a batch of 1 made fixed and its arithmetic pinned to float32 where it is not int8.

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
import contextlib
import importlib.metadata
import importlib.util
import itertools
import json
import multiprocessing
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.contract import Contract
from edgeclf_runtime.events import Events, open_recording
from edgeclf_runtime.precision import Precision
from edgeclf_runtime.preprocessing import create_preprocessing
from machine import processor

if TYPE_CHECKING:  # the measured processes load no PyTorch
    from edgeclf.hyperparameters import ModelName

MODELS: dict[ModelName, int] = {
    "ConvRNNClassifier": 1,
    "LeNetClassifier": 1,
    "Mobilenetv2Classifier": 3,
    "SqueezenetClassifier": 3,
}
"""Frames that each looks at: those without a recurrent layer keep the last two as their state."""

CLASSES = ("paper", "rock", "scissor")
HEIGHT, WIDTH = 120, 160
FRAMES = 32
WARM_UP = 4
ROOT = Path(__file__).parents[1]
DEFAULT_SAMPLES = Path(os.environ.get("EDGECLF_TEST_DATA", ROOT.parent / "shared" / "data"))

Run = Callable[[Sequence[NDArray[Any]]], Sequence[NDArray[Any]]]


@dataclass(frozen=True)
class Candidate:
    """What is measured.

    Attributes:
        backend: `ONNX Runtime` or `OpenVINO`.
        precision: Of the file that it runs.
    """

    backend: str
    precision: Precision

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"{self.backend} {self.precision}"


REFERENCE = Candidate("ONNX Runtime", "fp32")


def candidates() -> list[Candidate]:
    """Returns those that can be measured here."""
    found = [REFERENCE, Candidate("ONNX Runtime", "fp16"), Candidate("ONNX Runtime", "int8")]
    if importlib.util.find_spec("openvino") is not None:
        found += [Candidate("OpenVINO", "fp32"), Candidate("OpenVINO", "int8")]
    return found


def event_frames(samples: Path) -> tuple[NDArray[np.float32], str]:
    """Returns event frames `[32, 2, 120, 160]` and the name of the recording that they are of."""
    evt3 = samples / "recordings" / "evt3_sample.raw"
    path = evt3 if evt3.is_file() else ROOT / "samples" / "gestures.raw"
    recording = open_recording(path)
    assert recording.sensor_size is not None
    width, height = recording.sensor_size
    events = Events.concatenate(recording)
    x, y = (
        values.astype(np.int64) * to // of for values, to, of in ((events.x, WIDTH, width), (events.y, HEIGHT, height))
    )
    t = events.t - events.t[0]
    scaled = Events(t, x.astype(np.uint16), y.astype(np.uint16), events.p)
    duration = int(t[-1]) // FRAMES + 1
    histo = create_preprocessing("histo", (WIDTH, HEIGHT), duration)
    cuts = np.searchsorted(t, duration * np.arange(FRAMES + 1))
    frames = [
        histo(scaled[begin:end], duration * k).astype(np.float32, copy=True)
        for k, (begin, end) in enumerate(itertools.pairwise(cuts))
    ]
    return np.stack(frames), path.name


def export_all(model: ModelName, folder: Path, frames: NDArray[np.float32]) -> dict[Precision, Path]:
    """Writes a model with random weights in every precision."""
    import torch

    from edgeclf.checkpoint import load_checkpoint
    from edgeclf.hyperparameters import HyperParameters, model_classes
    from edgeclf_export.formats import FORMATS, ExportJob, ExportOptions
    from edgeclf_export.step_graph import contract_of

    hyper = HyperParameters(
        models=model,
        classes=model_classes(model, CLASSES),
        height=HEIGHT,
        width=WIDTH,
        delta_t=10_000,
        preprocess="histo",
        event_input_height=HEIGHT,
        event_input_width=WIDTH,
        num_ev_reps=MODELS[model],
    )
    torch.manual_seed(0)
    weights = {f"net.{name}": value for name, value in hyper.build_model().state_dict().items()}
    checkpoint = folder / f"{model}.ckpt"
    torch.save({"hyper_parameters": hyper.to_dict(), "state_dict": weights}, checkpoint)
    loaded = load_checkpoint(checkpoint)
    classifier = loaded.build_model()
    onnx, written = FORMATS["onnx"], {}
    for precision in onnx.precisions:
        path = folder / onnx.path(model, precision)
        contract = onnx.contract(replace(contract_of(loaded, classifier), precision=precision), ExportOptions())
        onnx.write(ExportJob(classifier, contract, [frames] if precision == "int8" else []), path)
        written[precision] = path
    return written


def open_onnxruntime(path: Path, threads: int) -> tuple[Run, Contract]:
    """Loads a file into ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    contract = Contract.from_metadata(session.get_modelmeta().custom_metadata_map, str(path))

    def run(inputs: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        outputs: list[NDArray[Any]] = session.run(
            contract.output_names, dict(zip(contract.input_names, inputs, strict=True))
        )
        return outputs

    return run, contract


def open_openvino(path: Path, threads: int) -> tuple[Run, Contract]:
    """Converts a file to OpenVINO's representation and compiles it for the CPU."""
    from edgeclf_export.formats.openvino import import_openvino

    openvino = import_openvino()
    _, contract = open_onnxruntime(path, 1)
    model = openvino.convert_model(path)
    model.reshape({port.any_name: [1, *port.partial_shape[1:]] for port in model.inputs})
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(inputs: Sequence[NDArray[Any]]) -> Sequence[NDArray[Any]]:
        found = request.infer(dict(zip(contract.input_names, inputs, strict=True)), share_inputs=True)
        return [found[name] for name in contract.output_names]

    return run, contract


OPEN = {"ONNX Runtime": open_onnxruntime, "OpenVINO": open_openvino}


def burst(run: Run, contract: Contract, frames: NDArray[np.float32]) -> float:
    """Returns the seconds that a step took, the median of a pass over the frames from zero state."""
    state = [np.zeros((1, *tensor.shape), contract.state_type) for tensor in contract.state]
    keep = [np.ones(1, contract.edge_type)] if contract.state else []
    given = [frame[None].astype(contract.edge_type) for frame in frames]
    seconds = []
    for frame in given:
        start = time.perf_counter()
        outputs = run([frame, *keep, *state])
        seconds.append(time.perf_counter() - start)
        state = list(outputs[2:])
    return statistics.median(seconds[WARM_UP:])


def serve(connection: Connection, candidate: Candidate, path: Path, threads: int, frames: NDArray[np.float32]) -> None:
    """Loads a candidate and runs a burst for every message; runs in a process of its own until the message is None."""
    run, contract = OPEN[candidate.backend](path, threads)
    burst(run, contract, frames)  # what the first pass pays for is not asked here
    connection.send(None)
    while connection.recv() is not None:
        connection.send(burst(run, contract, frames))


def measure(
    files: dict[Precision, Path], frames: NDArray[np.float32], threads: int, rounds: int, processes: int
) -> dict[str, list[list[float]]]:
    """Returns the seconds of a step by candidate, `[round][process]`."""
    context = multiprocessing.get_context("spawn")
    servers: list[tuple[Candidate, int, Connection, Any]] = []
    times = {candidate.name: [[0.0] * processes for _ in range(rounds)] for candidate in candidates()}
    try:
        for candidate in candidates():
            for number in range(processes):
                here, there = context.Pipe()
                process = context.Process(
                    target=serve, args=(there, candidate, files[candidate.precision], threads, frames), daemon=True
                )
                process.start()
                servers.append((candidate, number, here, process))
                there.close()  # so that the end of the process ends `recv` here
                here.recv()
        order = random.Random(0)
        for turn in range(rounds):
            order.shuffle(servers)
            for candidate, number, connection, _ in servers:
                connection.send("burst")
                times[candidate.name][turn][number] = connection.recv()
                time.sleep(0.02)  # its threads go to sleep before the next one begins
    finally:
        for _, _, connection, process in servers:
            with contextlib.suppress(OSError):  # it is gone already
                connection.send(None)
            process.join()
            connection.close()
    return times


def speed_ups(times: dict[str, list[list[float]]]) -> dict[str, dict[str, Any]]:
    """Returns, by candidate, how many times as fast as the reference it was.

    Args:
        times: Seconds of a step by candidate, `[round][process]`.

    Returns:
        The median of the rounds, the first and the third quartile, and the candidate's own times.
    """
    reference = [statistics.median(found) for found in times[REFERENCE.name]]
    results = {}
    for name, rounds in times.items():
        own = [statistics.median(found) for found in rounds]
        ratios = [right / found for right, found in zip(reference, own, strict=True)]
        low, middle, high = np.percentile(ratios, (25, 50, 75)).tolist()
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
    frames, source = event_frames(options.samples)
    machine = {"processor": processor(), "instructions": cpu_flags(), "cores": os.cpu_count(), **versions()}
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
            files = export_all(model, Path(folder), frames)
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


def cpu_flags() -> str:
    """Returns which instructions that int8 gains by the processor has, as far as the system tells."""
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return "unknown"
    return " ".join(sorted(words & {"avx2", "avx512bw", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}))


if __name__ == "__main__":
    main()
