"""`edgeclf run-stream`: streaming inference on recordings, pipes and cameras."""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, get_args

import click

from edgeclf_runtime.backends import Backend, DeviceOptions
from edgeclf_runtime.commands.option_groups import device_options, given_over, stream_options
from edgeclf_runtime.commands.stream_summary import show_summary
from edgeclf_runtime.commands.targets import check_targets, is_same_file
from edgeclf_runtime.comparison import Comparison
from edgeclf_runtime.console import json_option, say, verbosity_options, write_json
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import DamagedInputError, EdgeclfError, UsageError
from edgeclf_runtime.events.encoding import RecordingFormat
from edgeclf_runtime.frames import FrameStream, frames_of
from edgeclf_runtime.outputs import Hdf5Output, JsonLinesOutput, LiveLine, PredictionOutput, VideoOutput
from edgeclf_runtime.profile import read_profile
from edgeclf_runtime.self_test import difference_table, self_test
from edgeclf_runtime.session import Classifier, open_model
from edgeclf_runtime.sources import open_source
from edgeclf_runtime.streaming import StreamOptions, StreamRun

_log = logging.getLogger(__name__)


@click.command()
@click.argument("model", required=False)
@click.argument("source", nargs=-1)
@click.option(
    "--profile",
    metavar="FILE",
    help="Run the model of a profile that `edgeclf bench --recommend` wrote, and as it says; give SOURCEs alone then. "
    "--threads and the like go before the profile's.",
)
@device_options()
@click.option("--output", metavar="FILE.jsonl", help="Write the predictions here; - is standard output, the default.")
@click.option(
    "--hdf5",
    metavar="FILE.h5",
    help="Write them here, too, laid out as Metavision does: cls, cls_start_ts, cls_end_ts.",
)
@click.option(
    "--video", metavar="FILE.mp4", help="Write a video of the frames and their labels here, too; needs edgeclf[video]."
)
@stream_options
@click.option(
    "--rolling-window",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="FRAMES",
    help="Average the probabilities over a stream's last frames; for models without a recurrent layer.",
)
@click.option(
    "--sensor-size",
    type=click.IntRange(min=1),
    nargs=2,
    metavar="WIDTH HEIGHT",
    help="Size of the sensor, for sources that do not tell it.",
)
@click.option(
    "--format",
    type=click.Choice(get_args(RecordingFormat)),
    help="Encoding of a recording or pipe without a header; wants --sensor-size, too.",
)
@click.option("--follow", is_flag=True, help="Read .raw and .dat files on as they grow, until a signal ends it.")
@click.option(
    "--start-ts",
    type=int,
    help="Where the first frame starts, in µs of the recording's own time; events before are left out.",
)
@click.option(
    "--max-duration-ms",
    type=click.IntRange(min=1),
    help="Use only so much of each source, from the start of its first frame.",
)
@click.option(
    "--self-test",
    "tests_itself",
    is_flag=True,
    help="Replay the golden vectors beside the model first; exit code 1 where the outputs differ. Without "
    "SOURCE, only that.",
)
@json_option
@verbosity_options
def run_stream(
    model: str | None,
    source: tuple[str, ...],
    profile: str | None,
    device_options: DeviceOptions,
    output: str | None,
    hdf5: str | None,
    video: str | None,
    stream_options: StreamOptions,
    rolling_window: int,
    sensor_size: tuple[int, int] | None,
    format: RecordingFormat | None,
    follow: bool,
    start_ts: int | None,
    max_duration_ms: int | None,
    tests_itself: bool,
    json_path: str | None,
) -> None:
    """Run MODEL, or that of a --profile, over SOURCE, frame after frame.

    A SOURCE is a recording (.raw, .dat, .hdf5; with their extras .aedat4, .es, .csv), a tensor file (.h5), a named
    pipe, - for standard input, or a camera (camera: for the first one, camera:SERIAL). Several are parallel streams,
    each with its own memory.

    The predictions go to standard output or to --output, one JSON object a line for every frame and stream; a summary
    goes to standard error, and as JSON to --json. Ctrl-C (SIGINT) and SIGTERM end the streams, and the summary is still
    written; SIGUSR1 clears the memory of all streams.

    Example: edgeclf run-stream gestures.onnx recording.raw --output predictions.jsonl
    """
    targets = (output, hdf5, video, json_path)
    if profile is not None:
        check_targets(targets, (profile,))
        model, source, device_options = _from_profile(profile, model, source, device_options)
    elif model is None:
        raise click.MissingParameter(param_type="argument", param_hint="'MODEL'", ctx=click.get_current_context())
    check_targets(targets, (model, *source))
    _check_pipes(source)
    if not source:
        if not tests_itself:
            raise UsageError("There is no SOURCE to run the model over; give recordings, or --self-test alone.")
        _self_test(open_model(model, options=device_options), model, json_path, streams_follow=False)
        return
    if output is None and json_path == "-":
        raise UsageError(
            "The predictions and the --json document cannot both go to standard output; give --output FILE.jsonl for "
            "the predictions."
        )
    with _Signals() as signals:
        with (
            Classifier.load(
                model, streams=len(source), options=device_options, rolling_window=rolling_window, warm_up=1
            ) as classifier,
            contextlib.ExitStack() as stack,
        ):
            if classifier.placement.on_cpu:
                _log.warning("Not all of the model runs on %s: %s.", classifier.device, classifier.placement)
            tested = _self_test(classifier, model, json_path, streams_follow=True) if tests_itself else None
            max_duration = None if max_duration_ms is None else max_duration_ms * 1000
            frames: list[FrameStream[Any]] = []
            for name in source:
                opened = open_source(name, sensor_size, format, follow)
                stack.callback(opened.close)
                frames.append(frames_of(opened, classifier.contract, start_ts, max_duration))
            run = stack.enter_context(StreamRun(classifier, frames, stream_options))
            outputs = [stack.enter_context(one) for one in _outputs(output, hdf5, video, classifier.contract, source)]
            signals.run = run
            failures = _write_predictions(run, [*outputs, stack.enter_context(LiveLine(run.statistics))])
        summary = run.statistics.to_dict()
        if tested is not None:
            summary["self_test"] = tested.to_dict()
        show_summary(summary)
        try:
            if json_path is not None:
                write_json(json_path, summary)
        finally:  # on a disk that is full, it is the predictions that matter
            _complain(run, frames, failures, signals.were_sent)


def _from_profile(
    profile: str, first: str | None, rest: tuple[str, ...], given: DeviceOptions
) -> tuple[str, tuple[str, ...], DeviceOptions]:
    """Returns the model of a profile, the sources (all that is named), and where the model runs.

    Args:
        profile: The profile's file.
        first: The first name on the command line; None where there is none.
        rest: The others.
        given: The device options of the command line.
    """
    found = read_profile(profile)
    model = str(found.model)
    if first is not None and is_same_file(first, model):
        raise UsageError(f"{first}: this is the profile's model already; with --profile give recordings alone.")
    source = rest if first is None else (first, *rest)
    return model, source, given_over(found.options, given, click.get_current_context())


def _write_predictions(run: StreamRun, outputs: Sequence[PredictionOutput]) -> list[EdgeclfError]:
    """Writes all predictions and closes what took them, so that whatever fails is known before the run is summed up.

    Returns:
        What the model and the outputs failed of.
    """
    failures = []
    try:
        for prediction in run:
            for output in outputs:
                output.write(prediction, run.frame)
    except EdgeclfError as error:
        failures.append(error)
    for output in outputs:
        try:
            output.close()
        except EdgeclfError as error:
            failures.append(error)
    return failures


class _Signals:
    """Ends a run on SIGINT and SIGTERM, the second time at once, and clears its memory on SIGUSR1.

    Before there is a run, the first two end the command, and the third does nothing.

    Attributes:
        run: The run, once there is one.
        were_sent: Whether it was ended so.
    """

    def __init__(self) -> None:
        self.run: StreamRun | None = None
        self._before: dict[signal.Signals, Any] = {}
        self.were_sent = False

    def __enter__(self) -> _Signals:
        handlers = {signal.SIGINT: self._stop, signal.SIGTERM: self._stop}
        if hasattr(signal, "SIGUSR1"):
            handlers[signal.SIGUSR1] = self._reset
        with contextlib.suppress(ValueError):  # not the main thread: signals are somebody else's
            for number, handler in handlers.items():
                self._before[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore(*self._before)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.were_sent = True
        self._restore(signal.SIGINT, signal.SIGTERM)
        if self.run is None:
            raise KeyboardInterrupt
        self.run.stop()

    def _reset(self, _signal: int, _frame: FrameType | None) -> None:
        if self.run is not None:
            self.run.reset()

    def _restore(self, *numbers: signal.Signals) -> None:
        for number in numbers:
            if (handler := self._before.pop(number, None)) is not None:
                signal.signal(number, handler)


def _outputs(
    output: str | None, hdf5: str | None, video: str | None, contract: Contract, source: tuple[str, ...]
) -> Iterator[PredictionOutput]:
    """Opens everything that takes predictions, one after the other."""
    yield JsonLinesOutput("-" if output is None else output)
    if hdf5 is not None:
        yield Hdf5Output(hdf5, contract, source)
    if video is not None:
        yield VideoOutput(video, contract, source)


def _complain(run: StreamRun, frames: list[FrameStream[Any]], failures: list[EdgeclfError], was_stopped: bool) -> None:
    """Raises what went wrong, all of it as one error, once what was predicted has been written and summed up."""
    problems = [problem for stream in frames for problem in stream.problems]
    if was_stopped:
        for problem in problems:
            _log.warning("%s", problem)
        problems = []
    elif not failures:
        problems += [
            f"{one.source.name}: there was no frame to predict, as no event lies in the part that was asked for."
            for one in run.statistics.streams
            if not one.frames and one.failure is None
        ]
    ended = [*failures, *run.failures.values()]
    for error in ended:
        if not isinstance(error, EdgeclfError):
            raise error
    if ended or problems:
        kind = EdgeclfError if ended else DamagedInputError
        raise kind(" ".join([*map(str, ended), *problems]))


def _self_test(model: Backend | Classifier, path: str, json_path: str | None, streams_follow: bool) -> Comparison:
    """Replays the golden vectors and says what came of it, in the JSON document too where no summary will."""

    def show(comparison: Comparison) -> None:
        say(difference_table(comparison))
        if json_path is not None and not (streams_follow and comparison):
            write_json(json_path, {"device": model.device, "self_test": comparison.to_dict()})

    return self_test(model.run, model.contract, path, show)


def _check_pipes(source: tuple[str, ...]) -> None:
    """Raises a UsageError where two streams would take each other's bytes."""
    for name in source:
        if source.count(name) > 1 and (name == "-" or Path(name).is_fifo()):
            raise UsageError(f"{name}: what comes through one pipe cannot be two streams; name it once.")
