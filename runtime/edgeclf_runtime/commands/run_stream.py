"""`edgeclf run-stream`: streaming inference on recordings and tensor files."""

from __future__ import annotations

import contextlib
import json
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import click

from edgeclf_runtime.comparison import Comparison
from edgeclf_runtime.console import json_option, progress, say, table, verbosity_options, write_json
from edgeclf_runtime.errors import DamagedInputError, EdgeclfError, UsageError
from edgeclf_runtime.latency import LatencySummary, summarise
from edgeclf_runtime.self_test import difference_table, self_test
from edgeclf_runtime.session import Classifier, Device, Model, open_model
from edgeclf_runtime.sources import open_source
from edgeclf_runtime.stream import run_streams


@click.command()
@click.argument("model")
@click.argument("source", nargs=-1)
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), default="auto", show_default=True,
              help="Where to run. cuda is an error where it does not start; auto says what it chose.")  # fmt: skip
@click.option("--output", metavar="FILE.jsonl", help="Write the predictions here; - is standard output, the default.")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.0, show_default=True,
              help="Score from which a prediction counts as accepted.")  # fmt: skip
@click.option("--sensor-size", type=click.IntRange(min=1), nargs=2, metavar="WIDTH HEIGHT",
              help="Size of the sensor, for recordings that do not say.")  # fmt: skip
@click.option("--start-ts", type=int, help="Where the first frame starts, in µs of the recording's own time.")
@click.option("--max-duration-ms", type=click.IntRange(min=1), help="Use only so much of each recording.")
@click.option("--self-test", "tests_itself", is_flag=True,
              help="Replay the golden vectors beside MODEL first; exit code 1 where the outputs differ. Without "
                   "SOURCE, only that.")  # fmt: skip
@click.option("--realtime", is_flag=True, help="Play recordings at the sensor's speed.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of one step on the CPU.")
@json_option
@verbosity_options
def run_stream(
    model: str,
    source: tuple[str, ...],
    device: Device,
    output: str | None,
    threshold: float,
    sensor_size: tuple[int, int] | None,
    start_ts: int | None,
    max_duration_ms: int | None,
    tests_itself: bool,
    realtime: bool,
    threads: int | None,
    json_path: str | None,
) -> None:
    """Run MODEL over SOURCE (recordings .raw and .dat, tensor files .h5), frame after frame.

    Several sources are parallel streams, each with its own memory. One JSON object a line, a line per frame and stream,
    goes to standard output or to --output; a summary to standard error. `--json -` takes standard output for the
    summary, so it asks for an --output.

    Example: edgeclf run-stream gestures.onnx recording.raw --output predictions.jsonl
    """
    _check_targets(output, json_path, (model, *source))
    if not source:
        if not tests_itself:
            raise UsageError("There is no SOURCE to run the model over; give recordings, or --self-test alone.")
        _self_test(open_model(model, device, threads), model, json_path, streams_follow=False)
        return
    if output is None and json_path == "-":
        raise UsageError(
            "The predictions and the --json document cannot both go to standard output; give --output FILE.jsonl for "
            "the predictions."
        )
    with Classifier.load(model, device, streams=len(source), threads=threads) as classifier:
        tested = _self_test(classifier, model, json_path, streams_follow=True) if tests_itself else None
        max_duration = None if max_duration_ms is None else max_duration_ms * 1000
        sources = [open_source(path, classifier.contract, sensor_size, start_ts, max_duration) for path in source]
        counts: list[Counter[str]] = [Counter() for _ in sources]
        latencies = array("d")  # 8 bytes a frame: a stream may run for days
        failure: EdgeclfError | None = None
        with (
            _output(output) as out,
            progress(run_streams(classifier, sources, threshold, realtime), "frames") as predictions,
        ):
            try:
                for prediction in predictions:
                    out.write(json.dumps(prediction.to_dict(), ensure_ascii=False) + "\n")
                    out.flush()  # whoever follows the output sees each frame, and an interruption loses none
                    counts[prediction.stream][prediction.label] += 1
                    latencies.append(prediction.latency_us)
            except EdgeclfError as error:
                failure = error  # what was predicted until then is kept and summed up first
    summary = _summary(source, counts, summarise(latencies), classifier)
    if tested is not None:
        summary["self_test"] = tested.to_dict()
    _show(summary)
    if json_path is not None:
        write_json(json_path, summary)
    if failure is not None:
        raise failure
    problems = [problem for opened in sources for problem in opened.problems]
    for path, count in zip(source, counts, strict=True):
        if not count:
            problems.append(f"{path}: there was no frame to predict, as no event lies in the part that was asked for.")
    if problems:
        raise DamagedInputError(" ".join(problems))


def _self_test(model: Model | Classifier, path: str, json_path: str | None, streams_follow: bool) -> Comparison:
    """Replays the golden vectors and says what came of it, in the JSON document too where no summary will."""

    def show(comparison: Comparison) -> None:
        say(difference_table(comparison))
        if json_path is not None and not (streams_follow and comparison):
            write_json(json_path, {"device": model.device, "self_test": comparison.to_dict()})

    return self_test(model.run, model.contract, path, show)


def _check_targets(output: str | None, json_path: str | None, inputs: tuple[str, ...]) -> None:
    """Raises a UsageError where a file to write is one that is read, or both are the same."""
    if output is not None and json_path is not None and (output == json_path or _is_same_file(output, json_path)):
        raise UsageError(f"{output}: --output and --json cannot both be written there; give another place for one.")
    for target in (output, json_path):
        for path in inputs:
            if target is not None and _is_same_file(target, path):
                raise UsageError(f"{target}: this would overwrite what is read; give another place to write to.")


def _is_same_file(one: str, other: str) -> bool:
    return Path(one).is_file() and Path(other).is_file() and Path(one).samefile(other)


@contextlib.contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    """Gives where the lines go: a file, or standard output."""
    if path is None or path == "-":
        yield sys.stdout
        return
    # Into the file itself rather than beside it, for those who follow it.
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(
            f"{path}: the predictions cannot be written there ({error.strerror}); choose another place."
        ) from error
    with file:
        yield file


def _summary(
    source: tuple[str, ...],
    counts: list[Counter[str]],
    latency: LatencySummary | None,
    classifier: Classifier,
) -> dict[str, Any]:
    return {
        "device": classifier.device,
        "frames": sum(count.total() for count in counts),
        "latency": None if latency is None else asdict(latency),
        "streams": [
            {"source": path, "frames": count.total(), "predictions": dict(count.most_common())}
            for path, count in zip(source, counts, strict=True)
        ],
    }


def _show(summary: dict[str, Any]) -> None:
    rows = [
        (s["source"], s["frames"], ", ".join(f"{label} {n}" for label, n in s["predictions"].items()))
        for s in summary["streams"]
    ]
    say(table(("source", "frames", "predictions"), rows))
    if summary["latency"] is not None:
        say(
            "latency a frame: "
            + ", ".join(
                f"{name[:-3]} {summary['latency'][name]:.0f} µs" for name in ("p50_us", "p95_us", "p99_us", "max_us")
            )
            + f" on {summary['device']}"
        )
