"""Running streams: one model, some streams, each with its own memory and pace."""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.closing import Closing
from edgeclf_runtime.contract import BACKGROUND
from edgeclf_runtime.errors import EdgeclfError, UsageError
from edgeclf_runtime.files import as_text
from edgeclf_runtime.frames import Frame, FrameStream
from edgeclf_runtime.session import Classifier
from edgeclf_runtime.streaming.clock import Clock
from edgeclf_runtime.streaming.memory import MemoryPolicy
from edgeclf_runtime.streaming.options import StreamOptions
from edgeclf_runtime.streaming.pipeline import Pipeline, ReadyFrame
from edgeclf_runtime.streaming.prediction import StreamPrediction
from edgeclf_runtime.streaming.statistics import RunStatistics, StreamStatistics

_MAX_WAIT_S = 0.002
_JOIN_S = 5.0
_LONGEST_WAIT_S = 3600.0  # Python's queues refuse much more

_log = logging.getLogger(__name__)


@dataclass
class _Stream:
    """What the run knows of a stream.

    Attributes:
        name: Its source's name.
        pipeline: Where its frames come from.
        statistics: What happened in it.
        is_in_step: Whether it goes frame by frame with the others of its kind, however long that takes.
        expected: When its next frame should be ready, by the run's clock.
        ready: The frame that waits for its step.
        clears: Whether its memory is to be cleared before the next step.
        has_ended: Whether no more frames come.
        is_silent: Whether nothing has come from its source for too long.
    """

    name: str
    pipeline: Pipeline
    statistics: StreamStatistics
    is_in_step: bool
    expected: float
    ready: ReadyFrame | None = None
    clears: bool = True
    has_ended: bool = False
    is_silent: bool = False


class StreamRun(Closing):
    """Runs the frames of some sources through a classifier; iterating over it, once, gives a prediction each.

    Each source is a stream of its own, with its own memory: one that ends, falls silent or fails leaves the others
    alone. Reading and preprocessing go on in threads of their own while the model runs; those end with the iteration,
    or with the `with` block, whichever comes first.

    Args:
        classifier: Has as many streams as there are sources; they are reset first.
        sources: Where frames come from.
        options: How streams are run; None: the defaults.
        clock: By which recordings are held back and latencies told; None: the machine's.

    Attributes:
        statistics: What has happened until now.
        frame: The event frame of the prediction that was given last, `[C, H, W]`.

    Raises:
        UsageError: Where there are more sources than the classifier has streams, one source twice, or another number
            of memory policies.
    """

    def __init__(
        self,
        classifier: Classifier,
        sources: Sequence[FrameStream[Any]],
        options: StreamOptions | None = None,
        clock: Clock | None = None,
    ) -> None:
        if len(sources) > classifier.streams:
            raise UsageError(
                f"The classifier keeps {classifier.streams} streams, and there are {len(sources)} sources."
            )
        if len(set(map(id, sources))) < len(sources):
            raise UsageError("One source cannot be two streams; open it twice.")
        self._classifier = classifier
        self._options = options or StreamOptions()
        self._clock = clock or Clock()
        self._max_wait_s = _MAX_WAIT_S if self._options.max_wait_s is None else self._options.max_wait_s
        self._delta_s = classifier.contract.delta_t / 1e6
        # This kind of queue, and flags: all that a signal handler may touch, which can break in anywhere.
        self._inbox: queue.SimpleQueue[tuple[int, ReadyFrame | None] | None] = queue.SimpleQueue()
        self._is_to_stop = False
        self._is_stopped = self._is_closed = False
        policies = self._options.memory_of(len(sources))
        self._streams = [self._stream(*given) for given in zip(range(len(sources)), sources, policies, strict=True)]
        # A recording that hangs, as on a network drive, holds up all that go in step with it.
        self._watched = [stream for stream in self._streams if stream.pipeline.is_live or stream.is_in_step]
        self.statistics = RunStatistics(classifier.device, [stream.statistics for stream in self._streams])
        self.frame: NDArray[np.float32] | None = None

    def __iter__(self) -> Iterator[StreamPrediction]:
        """Yields one prediction a frame and stream; in each stream, they are in order.

        Raises:
            EdgeclfError: Where the model fails; the predictions of the steps before have been yielded.
        """
        if self.statistics.has_begun:
            raise UsageError("A run goes over its sources once; make another one.")
        try:
            self.statistics.begin()
            started = self._clock.now()
            for stream in self._streams:
                stream.pipeline.start(started)
            while batch := self._next_batch():
                yield from self._predictions(batch)
        finally:
            self.close()

    @property
    def failures(self) -> dict[int, Exception]:
        """Why streams ended before their sources did, by the stream's number."""
        return {
            stream.pipeline.number: stream.statistics.failure
            for stream in self._streams
            if stream.statistics.failure is not None
        }

    def reset(self, stream: int | None = None) -> None:
        """Clears the memory of a stream (all where None) before its next step; from any thread or signal handler."""
        for one in self._streams if stream is None else [self._streams[stream]]:
            one.clears = True

    def stop(self) -> None:
        """Ends the run soon; from any thread or signal handler.

        No more is read; the iteration gives the predictions of what was read before, and ends.
        """
        self._is_to_stop = True
        self._inbox.put(None)

    def close(self) -> None:
        """Ends the threads at once; what was not predicted yet is left out. The iteration does it at its end."""
        if self._is_closed:
            return
        self._is_closed = True
        for stream in self._streams:
            if not stream.has_ended:
                stream.pipeline.stop(discard=True)
                stream.has_ended = True
        until = time.monotonic() + _JOIN_S
        for stream in self._streams:
            if not stream.pipeline.join(until - time.monotonic()):
                _log.warning("%s: it does not stop being read; it is left behind.", stream.name)
        self.statistics.end()

    def _stream(self, number: int, source: FrameStream[Any], policy: MemoryPolicy) -> _Stream:
        _log.info("%s: memory policy %s.", source.name, policy)
        statistics = StreamStatistics(source, policy.name)
        pipeline = Pipeline(
            number,
            source,
            self._options,
            self._classifier.contract.delta_t,
            policy.start(),
            statistics,
            self._clock,
            lambda number, ready: self._inbox.put((number, ready)),
        )
        is_in_step = not pipeline.is_timed and self._options.max_wait_s is None
        # Nobody knows when a live source will start; all others can give from the start on.
        expected = math.inf if pipeline.is_live else -math.inf
        return _Stream(as_text(source.name), pipeline, statistics, is_in_step, expected)

    def _next_batch(self) -> list[_Stream]:
        """Waits for the frames that make the next step, and returns their streams; none where all have ended."""
        patience: float | None = None  # until when a frame that is ready waits for those of other streams
        timeout_s: float | None = 0.0
        while True:
            self._take_news(timeout_s)
            now = self._clock.now()
            self._watch_silence(now)
            running = [stream for stream in self._streams if stream.ready or not stream.has_ended]
            if patience is None and any(stream.ready and not stream.is_in_step for stream in running):
                patience = now + self._max_wait_s
            batch = _due_together(running, now, patience)
            if batch or not running:
                return batch
            until = min([self._next_silence(now), math.inf if patience is None else patience])
            timeout_s = None if math.isinf(until) else min(max(0.0, until - now), _LONGEST_WAIT_S)

    def _take_news(self, timeout_s: float | None = 0.0) -> None:
        """Takes all that the pipelines have posted; where there is nothing, waits for the first, None: without end."""
        with contextlib.suppress(queue.Empty):
            self._take(self._inbox.get(timeout=timeout_s))
            while not self._inbox.empty():
                self._take(self._inbox.get())
        if self._is_to_stop and not self._is_stopped:
            self._is_stopped = True
            for stream in self._streams:
                stream.pipeline.stop()

    def _take(self, news: tuple[int, ReadyFrame | None] | None) -> None:
        if news is None:  # somebody wants to be looked at
            return
        number, ready = news
        stream = self._streams[number]
        if stream.has_ended:  # it was given up, and its pipeline had made one frame more
            return
        stream.ready = ready or stream.ready
        if ready is None:
            _end(stream)
        elif stream.pipeline.is_timed:
            stream.expected = ready.due + self._delta_s

    def _watch_silence(self, now: float) -> None:
        """Reports sources from which nothing comes any more, and those that are back."""
        for stream in self._watched:
            since = stream.pipeline.waits_since
            was_silent = stream.is_silent
            stream.is_silent = not stream.has_ended and since is not None and now - since >= self._options.stall_after_s
            if stream.is_silent and not was_silent:
                stream.statistics.stalls += 1
                _log.warning("%s: nothing has come for %g s.", stream.name, self._options.stall_after_s)
            elif was_silent and not stream.is_silent and not stream.has_ended:
                _log.warning("%s: it is back.", stream.name)

    def _next_silence(self, now: float) -> float:
        """Returns when the next source that is watched will have been silent for too long, if nothing comes."""
        since = [
            stream.pipeline.waits_since for stream in self._watched if not stream.has_ended and not stream.is_silent
        ]
        return min((now if one is None else one for one in since), default=math.inf) + self._options.stall_after_s

    def _predictions(self, batch: Sequence[_Stream]) -> Iterator[StreamPrediction]:
        """Makes one step, and yields what the model says of each stream."""
        taken = [(stream, self._frame_of(stream)) for stream in batch]
        resets = [self._cleared(stream, ready.clears) for stream, ready in taken]
        data = [ready.frame.data for _, ready in taken]
        begin = time.perf_counter_ns()
        predictions = self._classifier.step(
            data[0][None] if len(data) == 1 else np.stack(data), streams=[stream.pipeline.number for stream in batch]
        )
        inference_us = (time.perf_counter_ns() - begin) / 1000
        now = self._clock.now()
        self.statistics.inference.add(inference_us)
        # Lists from here on: NumPy takes longer for a few numbers, and lets other threads in at every turn.
        probabilities: list[list[float]] = predictions.probabilities.tolist()
        for row, (stream, ready) in enumerate(taken):
            if stream.pipeline.is_timed:
                latency_us = (now - ready.due) * 1e6
                stream.statistics.misses += now > ready.due + self._delta_s
            else:
                latency_us = ready.frame.preparation_us + inference_us
            if not all(map(math.isfinite, probabilities[row])):
                _give_up(stream, ready.frame)
                continue
            prediction = self._prediction(stream, ready.frame, probabilities[row], resets[row], latency_us)
            stream.statistics.predictions[prediction.label] += 1
            stream.statistics.last_us = prediction.t_us
            self.statistics.latency.add(latency_us)
            self.frame = ready.frame.data
            begin = time.perf_counter_ns()
            yield prediction
            self.statistics.output.add((time.perf_counter_ns() - begin) / 1000)

    def _frame_of(self, stream: _Stream) -> ReadyFrame:
        """Takes the frame of a stream, so that its pipeline makes the next one during the step."""
        ready, stream.ready = stream.ready, None
        assert ready is not None
        stream.pipeline.taken()
        return ready

    def _cleared(self, stream: _Stream, clears: bool) -> bool:
        """Clears the stream's memory where somebody wants it, and returns whether it was."""
        if stream.clears:
            stream.clears = False  # only here: what comes in between is for this same frame
            clears = True
        if clears:
            self._classifier.reset(stream.pipeline.number)
            stream.statistics.resets += 1
        return clears

    def _prediction(
        self,
        stream: _Stream,
        frame: Frame,
        probabilities: Sequence[float],
        reset: bool,
        latency_us: float,
    ) -> StreamPrediction:
        class_id = probabilities.index(max(probabilities))
        label = self._classifier.contract.labels[class_id]
        rounded = tuple([round(p, 6) for p in probabilities])
        return StreamPrediction(
            stream=stream.pipeline.number,
            source=stream.name,
            frame=frame.index,
            t_us=frame.end_us,
            class_id=class_id,
            label=label,
            score=rounded[class_id],
            accepted=label != BACKGROUND and rounded[class_id] >= self._options.threshold,
            probabilities=rounded,
            reset=reset,
            latency_us=latency_us,
        )


def run_streams(
    classifier: Classifier, sources: Sequence[FrameStream[Any]], options: StreamOptions | None = None
) -> Iterator[StreamPrediction]:
    """Runs the frames of some sources through a classifier; see `StreamRun`, which can do more.

    Yields:
        One prediction a frame and stream.

    Raises:
        UsageError: As `StreamRun`.
        EdgeclfError: Where the model fails, or at the end, where a source has failed.
    """
    run = StreamRun(classifier, sources, options)
    yield from run
    for failure in run.failures.values():
        raise failure


def _due_together(running: Sequence[_Stream], now: float, patience: float | None) -> list[_Stream]:
    """Returns the streams whose frames go into a step now; none where it is better to wait for more."""
    in_step = [stream for stream in running if stream.is_in_step]
    is_complete = bool(in_step) and all(stream.ready for stream in in_step)
    waits = patience is None or (patience > now and any(_is_awaited(stream, patience) for stream in running))
    return [stream for stream in running if stream.ready and (is_complete or not (waits or stream.is_in_step))]


def _is_awaited(stream: _Stream, until: float) -> bool:
    """Whether a frame of a stream may well come until then."""
    return not (stream.ready or stream.is_in_step or stream.has_ended or stream.is_silent) and stream.expected <= until


def _end(stream: _Stream) -> None:
    """Takes note that no more frames of a stream come."""
    stream.has_ended = True
    if stream.statistics.failure is not None:
        _log.warning("%s: this stream has failed: %s", stream.name, stream.statistics.failure)


def _give_up(stream: _Stream, frame: Frame) -> None:
    """Ends a stream whose frame is why its probabilities are no numbers.

    Raises:
        EdgeclfError: Where it is the model.
    """
    if np.isfinite(frame.data).all():
        raise EdgeclfError(
            f"{stream.name}: the model's probabilities for frame {frame.index} are not numbers: its weights are "
            "damaged; export another checkpoint."
        )
    stream.pipeline.fail(
        EdgeclfError(
            f"{stream.name}: frame {frame.index} holds values that are not finite, so its preprocessing is at fault; "
            "mend that."
        )
    )
    stream.pipeline.stop(discard=True)
    _end(stream)
