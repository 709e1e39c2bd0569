"""Measures how fast batches of event frames come, and how long training waits for them.

    python benchmarks/loading.py [--dataset FOLDER] [--model NAME] [--workers 0 1 2] [--rounds 5] [--json FILE]

Reads the training split of a data set in Metavision's layout: the one given, else one that is made in a temporary
folder, of moving blocks and noise, its size chosen by `--recordings`, `--frames` and `--size`. Two things are measured
with each number of loading processes:

- frames a second: a whole epoch through the data loader, nothing else done with it;
- the share of training time spent waiting: the time in `next(loader)` over that of a whole step of a classifier
  (waiting, forward, backward, update), of `--steps` steps.

The numbers of processes take turns within each round, so that whatever else the machine does falls on all of them; the
table shows medians over the rounds and the range. Processes start, and load a whole epoch, before the first round. The
files are in the system's cache when they are read.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from edgeclf.data.labels import IGNORED, LabelEvents, write_box_labels, write_label_map
from edgeclf.data.loader import BatchLoader
from edgeclf.data_module import data_module_for
from edgeclf.evaluation import unroll_batch
from edgeclf.hyperparameters import MODEL_NAMES, HyperParameters
from edgeclf.models import State, detach_state
from edgeclf.training import hyperparameters_for
from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.machine.processor import read_processor
from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file

CLASSES = ("left", "right")
DELTA_T = 10_000


def make_dataset(folder: Path, recordings: int, frames: int, size: int, seed: int = 0) -> None:
    """Writes a training split of recordings of `frames` frames of `size` × `size`, about as sparse as real ones."""
    rng = np.random.default_rng(seed)
    attributes = TensorAttributes("histo", DELTA_T, (size, size), 0, {"max_incr_per_pixel": 5.0})
    for i in range(recordings):
        write_tensor_file(folder / "train" / f"r{i:03d}.h5", moving_block(rng, frames, size, i % 2), attributes)
        labels = LabelEvents(DELTA_T * np.arange(frames), np.full(frames, i % 2))
        write_box_labels(folder / "train" / f"r{i:03d}_bbox.npy", labels, (size, size))
    write_label_map(folder, CLASSES)


def moving_block(rng: np.random.Generator, frames: int, size: int, to_the_right: int) -> Iterator[NDArray[np.float32]]:
    """Yields frames in which a twentieth of the pixels and a moving block saw events."""
    side = size // 6
    for k in range(frames):
        frame = (rng.random((2, size, size)) < 0.05).astype(np.float32) * rng.integers(1, 5, (2, size, size)) / 5
        at = (k * (1 if to_the_right else -1) * 2) % (size - side)
        frame[to_the_right, size // 3 : size // 3 + side, at : at + side] = 1
        yield frame.astype(np.float32)


def open_loader(dataset: Path, hyper: HyperParameters, workers: int) -> BatchLoader:
    """Returns the training loader with so many loading processes."""
    data = data_module_for(replace(hyper, num_workers=workers).to_dict(), dataset)
    loader = data.train_dataloader()
    assert isinstance(loader, BatchLoader)
    return loader


def loading_rate(loader: BatchLoader) -> float:
    """Returns frames a second of one epoch; those that only fill batches up do not count."""
    frames, start = 0, time.perf_counter()
    for batch in loader:
        frames += sum(info.frames for info in batch["video_infos"])
    return frames / (time.perf_counter() - start)


class Training:
    """A classifier that learns, a step at a time."""

    def __init__(self, hyper: HyperParameters, device: torch.device) -> None:
        torch.manual_seed(0)
        self._device = device
        self._model = hyper.build_model().to(device).train()
        self._optimizer = torch.optim.AdamW(self._model.parameters(), 1e-3)

    def waiting(self, loader: BatchLoader, steps: int) -> tuple[float, float]:
        """Returns the seconds that `steps` steps waited for batches, and those that they took altogether."""
        waited = total = 0.0
        memory: State | None = None
        batches = iter(loader)
        for step in range(steps + 1):
            start = time.perf_counter()
            batch = next(batches, None)
            if batch is None:  # the next epoch
                memory, batches = None, iter(loader)
                batch = next(batches)
            got = time.perf_counter()
            for name in ("inputs", "labels", "mask_keep_memory"):
                batch[name] = batch[name].to(self._device)
            logits, state = unroll_batch(self._model, batch, memory)
            memory = detach_state(state)
            loss = functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=IGNORED)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            self._optimizer.step()
            loss.item()  # a GPU is done only then
            if step:  # the first one waits for the epoch to begin
                waited, total = waited + got - start, total + time.perf_counter() - start
        return waited, total


def measure(
    dataset: Path, hyper: HyperParameters, workers: list[int], rounds: int, steps: int, device: torch.device
) -> dict[int, dict[str, Any]]:
    """Returns what was measured for each number of loading processes, round by round and in the middle."""
    loaders = {count: open_loader(dataset, hyper, count) for count in workers}
    training = Training(hyper, device)
    for loader in loaders.values():
        loading_rate(loader)
    training.waiting(next(iter(loaders.values())), 2)
    results: dict[int, dict[str, Any]] = {
        count: {"frames_per_second": [], "waiting_share": [], "step_ms": []} for count in workers
    }
    for turn in range(rounds):
        order = workers[turn % len(workers) :] + workers[: turn % len(workers)]
        for count in order:
            results[count]["frames_per_second"].append(loading_rate(loaders[count]))
            waited, total = training.waiting(loaders[count], steps)
            results[count]["waiting_share"].append(waited / total)
            results[count]["step_ms"].append(1000 * total / steps)
    return results


def summarise(result: dict[str, list[float]]) -> dict[str, Any]:
    """Returns the rounds' numbers with their medians."""
    return {**{f"{name}_median": statistics.median(values) for name, values in result.items()}, "rounds": result}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", type=Path, help="data set folder; one is made where it is left out")
    parser.add_argument("--recordings", type=int, default=12, help="recordings of the data set that is made")
    parser.add_argument("--frames", type=int, default=100, help="frames of each of them")
    parser.add_argument("--size", type=int, default=64, help="rows and columns of their frames")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="numbers of loading processes")
    parser.add_argument("--model", choices=MODEL_NAMES, default=MODEL_NAMES[0], help="what learns")
    parser.add_argument("--num-ev-reps", type=int, default=1, help="frames that a feed-forward model sees at once")
    parser.add_argument("--batch-size", type=int, default=4, help="recordings, or windows of frames, side by side")
    parser.add_argument("--num-tbins", type=int, default=10, help="frames of each in one batch")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--steps", type=int, default=10, help="training steps in a round")
    parser.add_argument("--threads", type=int, default=1, help="threads of the training process")
    parser.add_argument("--device", default="cpu", help="where the network trains: cpu, cuda")
    parser.add_argument("--json", type=Path, help="file for the results, as JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Makes the data set, measures and prints."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as temporary:
        dataset = options.dataset or Path(temporary)
        if options.dataset is None:
            make_dataset(dataset, options.recordings, options.frames, options.size)
        hyper = hyperparameters_for(
            dataset,
            options.model,
            batch_size=options.batch_size,
            num_tbins=options.num_tbins,
            num_ev_reps=options.num_ev_reps,
        )
        machine = {
            "processor": read_processor().name,
            "cores": os.cpu_count(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": options.threads,
            "python": platform.python_version(),
            "torch": torch.__version__,
        }
        frame = f"{hyper.preprocess_channels}×{hyper.height}×{hyper.width}"
        print(", ".join(f"{name}: {value}" for name, value in machine.items()))
        print(f"{hyper.models}, frames of {frame}, batch size {options.batch_size}")
        measured = measure(dataset, hyper, options.workers, options.rounds, options.steps, device)
    print(f"{'processes':>9}{'frames/s':>11}{'(range)':>17}{'step ms':>10}{'waiting':>10}{'(range)':>17}")
    results = {count: summarise(result) for count, result in measured.items()}
    for count, result in results.items():
        rates, shares = result["rounds"]["frames_per_second"], result["rounds"]["waiting_share"]
        print(
            f"{count:9d}{result['frames_per_second_median']:11.0f}{f'{min(rates):.0f} to {max(rates):.0f}':>17}"
            f"{result['step_ms_median']:10.1f}{result['waiting_share_median']:10.1%}"
            f"{f'{min(shares):.1%} to {max(shares):.1%}':>17}"
        )
    if options.json:
        document = {
            "machine": machine,
            "frame_shape": [hyper.preprocess_channels, hyper.height, hyper.width],
            "batch_size": options.batch_size,
            "num_tbins": options.num_tbins,
            "results": {str(count): result for count, result in results.items()},
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except EdgeclfError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
