"""The budget of a frame: how long each stage takes as the runtime streams a recording, like `edgeclf run-stream`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from edgeclf_runtime.backends.base import DeviceOptions
from edgeclf_runtime.benchmark.real_frames import open_scaled
from edgeclf_runtime.benchmark.results import Stages
from edgeclf_runtime.benchmark.turns import Turns
from edgeclf_runtime.errors import EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.latency import LatencyHistogram
from edgeclf_runtime.machine.cores import usable_cores
from edgeclf_runtime.outputs import JsonLinesOutput
from edgeclf_runtime.session import Classifier
from edgeclf_runtime.streaming import RunStatistics, StreamRun


def measure_stages(model: Path, recording: Path, options: DeviceOptions, frames: int) -> Stages:
    """Streams a recording, again and again until there are enough frames, in a process of its own.

    Reading and preprocessing go on in threads of their own while the model runs, so the stages do not add up to the
    time between two frames. Every prediction is written as a JSON line, to where nothing is kept. Coordinates of a
    recording of another sensor than the model's are scaled to that one, which counts as decoding.

    Args:
        model: The exported file.
        recording: A recording or a tensor file that the model can take.
        options: Where the model runs.
        frames: How many frames to measure.

    Raises:
        UsageError: Where there is nothing to measure.
        EdgeclfError: Where the model or the recording cannot be opened, the model cannot take the recording's frames or
            fails, the recording holds none, or the process ends.
    """
    if frames < 1:
        raise UsageError(f"The stages are measured on one frame at least, not {frames}.")
    # What opens the candidate of these turns makes of `_measure` something to be called without arguments.
    with Turns({model: partial(partial, _measure, model, recording, options, frames)}, processes=1) as turns:
        found: list[Stages] = turns.ask(model)
        if not found:
            raise EdgeclfError(turns.left_out[model])
    return found[0]


def _measure(model: Path, recording: Path, options: DeviceOptions, frames: int) -> Stages:
    """Measures in this process."""
    runs: list[RunStatistics] = []
    made = 0
    with Classifier.load(model, options=options, warm_up=1) as classifier, JsonLinesOutput(os.devnull) as output:
        while made < frames:
            statistics = _stream(classifier, recording, output, frames - made)
            made += statistics.streams[0].frames
            runs.append(statistics)
        return Stages(
            model.stem, options.threads or usable_cores(), classifier.contract.delta_t, made, _percentiles(runs)
        )


def _stream(classifier: Classifier, recording: Path, output: JsonLinesOutput, frames: int) -> RunStatistics:
    """Streams a recording from its start to its end, or a little further than to so many frames."""
    stream = open_scaled(classifier.contract, recording)
    with contextlib.closing(stream.source), StreamRun(classifier, [stream]) as run:
        for made, prediction in enumerate(run, start=1):
            output.write(prediction, run.frame)
            if made == frames:
                run.stop()  # and take what was read before, so that every frame that was begun counts
        for failure in run.failures.values():
            raise failure
    if not run.statistics.streams[0].frames:
        raise InputFileError(f"{recording}: it holds no events, so there is no frame to measure; give another one.")
    return run.statistics


def _percentiles(runs: Sequence[RunStatistics]) -> dict[str, dict[str, float]]:
    """Returns the percentiles of each stage over all runs."""
    streams = [run.streams[0] for run in runs]
    stages = {
        "decode": [stream.decode for stream in streams],
        "preprocess": [stream.preprocess for stream in streams],
        "inference": [run.inference for run in runs],
        "output": [run.output for run in runs],
    }
    found = {}
    for name, histograms in stages.items():
        summary = LatencyHistogram.joined(histograms).summary()
        assert summary is not None  # every frame goes through all of them
        found[name] = {key: value for key, value in asdict(summary).items() if key != "frames"}
    return found
