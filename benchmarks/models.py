"""Measures the runtime beside other ways to run the same classifier, by the code of `edgeclf bench`, for every model.

    python benchmarks/models.py [--threads 2] [--models NAME...] [--sizes 120x160...] [--against ort...] [--json FOLDER]

Every model has random weights; the frames are those of the real EVT3 recording (see `--samples`), else of
`samples/gestures.raw`. Each row of the table is one interleaved run: of the runtime, of bare `session.run` on the same
file, and of the checkpoint in eager PyTorch, as TorchScript, compiled, and as Metavision's users run it (TorchScript
that hides its memory). What is printed is how many times as fast as each the runtime is, by the medians of all steps,
with the 95 % confidence interval: under 1 it is slower. The whole results, which `edgeclf bench --show` and
`--compare` take, go to `--json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgeclf.hyperparameters import ModelName
from edgeclf_export.benchmark.request import RUNTIME, Against, BenchRequest
from edgeclf_export.benchmark.run import check_runtime, run_bench
from edgeclf_runtime.benchmark.document import to_document
from edgeclf_runtime.benchmark.results import BenchReport, Result
from edgeclf_runtime.benchmark.run import Plan
from example_models import DEFAULT_SAMPLES, export_random, recording_of

AGAINST: tuple[Against, ...] = ("ort", "eager", "torchscript", "compile", "metavision")

NUM_EV_REPS: dict[ModelName, int] = {
    "ConvRNNClassifier": 1,
    "LeNetClassifier": 1,
    "Mobilenetv2Classifier": 3,
    "SqueezenetClassifier": 3,
}
"""Frames that each looks at: those without a recurrent layer keep the last two as their state."""

SIZES = ("120x160", "240x320")


def measure(model: ModelName, size: tuple[int, int], options: argparse.Namespace) -> BenchReport:
    """Exports a model with random weights and measures it."""
    with tempfile.TemporaryDirectory() as folder:
        files = export_random(model, Path(folder), size, num_ev_reps=NUM_EV_REPS[model], delta_t=33_000)
        request = BenchRequest(
            [files["fp32"]],
            recording_of(options.samples),
            options.against,
            Path(folder) / f"{model}.ckpt" if any(name != "ort" for name in options.against) else None,
            threads=options.threads,
            plan=Plan(options.frames, options.rounds, options.processes),
            recording_frames=0,
        )
        report = run_bench(request, _show_progress)
        check_runtime(report)
        return report


def speed_ups(report: BenchReport, threads: int, against: Sequence[Against]) -> tuple[Result, dict[str, str]]:
    """Returns the runtime's result, and by backend how many times as fast it is, as the table shows it."""
    rows = {one.setting.backend: one for one in report.results if one.setting.threads == threads}
    shown: dict[str, str] = {}
    for name in against:
        ratio = rows[name].ratio if name in rows else None  # of the other over the runtime
        shown[name] = "–" if ratio is None else f"{1 / ratio.median:.2f} ({1 / ratio.high:.2f} to {1 / ratio.low:.2f})"
    return rows[RUNTIME], shown


def _show_progress(what: str, done: int, of: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{what}: {done} of {of}", end="\r" if done < of else "\n", file=sys.stderr)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=NUM_EV_REPS, default=list(NUM_EV_REPS), help="what is measured")
    parser.add_argument("--against", nargs="+", choices=AGAINST, default=list(AGAINST), help="what stands beside it")
    parser.add_argument("--sizes", nargs="+", default=None, help="rows×columns, such as 120x160")
    parser.add_argument("--threads", type=int, nargs="+", default=[2], help="threads of a step")
    parser.add_argument("--frames", type=int, default=24, help="steps of a burst")
    parser.add_argument("--rounds", type=int, default=6, help="bursts of each process")
    parser.add_argument("--processes", type=int, default=3, help="processes of each candidate")
    parser.add_argument("--samples", type=Path, default=DEFAULT_SAMPLES, help="folder of the real recordings")
    parser.add_argument("--json", type=Path, help="folder for the results, a file for each row")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Measures and prints."""
    options = parse(arguments)
    print(
        "| model | frame | threads | p50, ms | of the limit | "
        + " | ".join(f"÷ {name}" for name in options.against)
        + " |"
    )
    print("| --- | --- | --- | --- | --- |" + " --- |" * len(options.against))
    for model in options.models:
        for size in options.sizes or (*(["64x64"] if model == "ConvRNNClassifier" else []), *SIZES):
            height, width = map(int, size.split("x"))
            report = measure(model, (height, width), options)
            for threads in options.threads:
                own, shown = speed_ups(report, threads, options.against)
                share = "–" if own.share_of_limit is None else f"{own.share_of_limit:.0%}"
                cells = [model, f"{height}×{width}", str(threads), f"{own.latencies.p50_us / 1000:.2f}", share]
                print("| " + " | ".join([*cells, *shown.values()]) + " |", flush=True)
            for name, why in report.left_out:
                print(f"left out: {name}: {why}", file=sys.stderr)
            if options.json:
                options.json.mkdir(parents=True, exist_ok=True)
                text = json.dumps(to_document(report), indent=1) + "\n"
                (options.json / f"{model}_{size}.json").write_text(text)


if __name__ == "__main__":
    main()
