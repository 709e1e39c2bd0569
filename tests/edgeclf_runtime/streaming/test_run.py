from __future__ import annotations

import dataclasses
import logging
import os
import signal
import threading

import numpy as np
import pytest

from edgeclf_runtime.errors import DamagedInputError, EdgeclfError, UsageError
from edgeclf_runtime.frames import frames_of
from edgeclf_runtime.session import Classifier, Predictions
from edgeclf_runtime.sources import FrameSource
from edgeclf_runtime.streaming import ClearEvery, ClearOnLowActivity, NeverClear, StreamOptions, StreamRun, run_streams
from edgeclf_runtime.tensor_file import TensorAttributes


class Given(FrameSource):
    """Frames from memory; ends with `error`, where one is given."""

    made = TensorAttributes("histo", 10_000, (32, 24), 40_000, {"max_incr_per_pixel": 2})
    frame_shape = (2, 12, 16)
    sensor_size = (32, 24)

    def __init__(self, name, frames, start=0, error=None):
        self.name = name
        self._given = (frames, start, error)

    def __iter__(self):
        frames, start, error = self._given
        for k, data in enumerate(frames):
            yield start + (k + 1) * 10_000, data
        if error is not None:
            raise error


def random_frames(count, seed=0):
    return np.random.default_rng(seed).random((count, 2, 12, 16)).astype(np.float32)


@pytest.fixture
def classifier(write_model):
    """Returns a classifier of the tiny model for so many streams."""
    return lambda streams=1, **changes: Classifier.load(write_model(**changes), "cpu", streams, threads=1)


@pytest.fixture
def given(tiny):
    """Returns the frames of a source in memory."""
    return lambda *args, **kwargs: frames_of(Given(*args, **kwargs), tiny)


def without_latency(predictions):
    return [dataclasses.replace(p, latency_us=0.0) for p in predictions]


def places(predictions):
    return [(p.stream, p.frame) for p in predictions]


# What a prediction says.


def test_fields(classifier, given, outputs_by_hand):
    frames = random_frames(12) * np.resize([[0, 0], [1, 0.2], [0, 1], [0.1, 0]], (12, 2, 1, 1)).astype(np.float32)
    _, probabilities = outputs_by_hand(frames)
    options = StreamOptions(threshold=0.5)
    found = list(run_streams(classifier(), [given("a b/ä.raw", frames, start=130_000)], options))
    assert len(found) == 12
    for k, prediction in enumerate(found):
        line = prediction.to_dict()
        latency = line.pop("latency_us")
        assert type(latency) is int
        assert 0 < latency < 10_000_000
        best = int(probabilities[k].argmax())
        label = ("background", "paper", "rock", "scissors")[best]
        assert line == {
            "stream": 0,
            "source": "a b/ä.raw",
            "frame": k,
            "t_us": 130_000 + (k + 1) * 10_000,
            "class_id": best,
            "label": label,
            "score": pytest.approx(float(probabilities[k, best]), abs=2e-6),
            "accepted": label != "background" and bool(probabilities[k, best] >= 0.5),
            "probabilities": pytest.approx(probabilities[k].tolist(), abs=2e-6),
            "reset": k == 0,
        }
        assert line["score"] == max(line["probabilities"])
        assert line["probabilities"] == [round(p, 6) for p in line["probabilities"]]
    # Otherwise the above would say little: all cases of `accepted`, and some classes.
    assert {(p.label != "background", p.score >= 0.5) for p in found} >= {(True, True), (True, False), (False, False)}
    assert len({p.class_id for p in found}) > 2


@pytest.mark.parametrize("label", ["background", "not"])
def test_background_is_never_accepted(classifier, given, label):
    # With the labels in this order, the same output is background in one case only.
    frames = random_frames(6)
    plain = list(run_streams(classifier(), [given("a", frames)]))
    best = plain[0].class_id
    labels = [f"class {i}" for i in range(4)]
    if label == "background":
        labels[best] = label
    found = list(run_streams(classifier(labels=tuple(labels)), [given("a", frames)]))
    assert [p.accepted for p in found] == [label == "not" or p.class_id != best for p in found]
    assert found[0].label == labels[best]


def test_score_at_the_threshold_is_accepted(classifier, given):
    frames = random_frames(6)
    one = classifier(labels=("a", "b", "c", "d"))

    def accepted(threshold):
        return [p.accepted for p in run_streams(one, [given("a", frames)], StreamOptions(threshold=threshold))]

    scores = [p.score for p in run_streams(one, [given("a", frames)])]
    for threshold in scores:  # as a user reads it in the output
        assert accepted(threshold) == [score >= threshold for score in scores]
    assert not any(accepted(max(scores) + 1e-6))


def test_frame_of_the_prediction(classifier, given):
    frames = [random_frames(3, 1), random_frames(3, 2)]
    run = StreamRun(classifier(2), [given("a", frames[0]), given("b", frames[1])])
    for prediction in run:
        np.testing.assert_array_equal(run.frame, frames[prediction.stream][prediction.frame])


# Recordings that are read as fast as they go.


def test_streams_are_as_each_alone(classifier, given):
    counts = [5, 1, 9, 0, 9]

    def sources():
        return [given(f"{i}.raw", random_frames(count, i), start=i * 1000) for i, count in enumerate(counts)]

    together = list(run_streams(classifier(5), sources()))
    assert places(together) == [(i, k) for k in range(9) for i, count in enumerate(counts) if k < count]
    for i, source in enumerate(sources()):
        alone = [dataclasses.replace(p, stream=i) for p in run_streams(classifier(), [source])]
        assert without_latency(p for p in together if p.stream == i) == without_latency(alone)


def test_frame_k_of_all_makes_one_batch(held_model, fed):
    model = held_model(3)
    sources = [fed("abc"[i]).feed(count).end() for i, count in enumerate([4, 2, 3])]
    list(run_streams(model, sources))
    assert model.batches == [[0, 1, 2], [0, 1, 2], [0, 2], [0]]
    assert model.seen == [[0, 0, 0], [1, 1, 1], [2, 2], [3]]


def test_classifier_is_reset_first(classifier, given):
    one = classifier()
    frames = random_frames(4)
    first, second = (without_latency(run_streams(one, [given("a", frames)])) for _ in range(2))
    assert first == second


def test_no_sources(held_model):
    assert list(run_streams(held_model(), [])) == []


def test_more_sources_than_streams(held_model, fed):
    with pytest.raises(UsageError, match="keeps 1 streams, and there are 2 sources"):
        StreamRun(held_model(), [fed(), fed()])


def test_one_source_is_not_two_streams(held_model, fed):
    with pytest.raises(UsageError, match="open it twice"):
        StreamRun(held_model(2), [fed()] * 2)


def test_a_run_goes_once(held_model, fed):
    run = StreamRun(held_model(), [fed().end()])
    assert list(run) == []
    with pytest.raises(UsageError, match="make another"):
        list(run)


def test_a_recording_loses_nothing_whatever_is_said_of_lateness(held_model, fed):
    model = held_model()
    options = StreamOptions(when_late="drop-oldest", queue=1)
    source = fed().feed(50).end()
    assert places(run_streams(model, [source], options)) == [(0, k) for k in range(50)]


# Streams that fail, end or fall silent, and models that fail.


def test_a_source_that_fails_leaves_the_others_alone(classifier, given):
    sources = [given("a", random_frames(5)), given("b", random_frames(2), error=DamagedInputError("b is damaged."))]
    run = StreamRun(classifier(2), sources)
    assert places(run) == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (0, 3), (0, 4)]
    assert {stream: str(error) for stream, error in run.failures.items()} == {1: "b is damaged."}
    assert [stream["failure"] for stream in run.statistics.to_dict()["streams"]] == [None, "b is damaged."]


def test_error_of_a_source_comes_after_all_predictions(classifier, given):
    sources = [given("a", random_frames(2)), given("b", random_frames(1), error=DamagedInputError("b is damaged."))]
    found = []
    with pytest.raises(DamagedInputError, match="b is damaged"):
        found.extend(run_streams(classifier(2), sources))
    assert places(found) == [(0, 0), (1, 0), (0, 1)]


def test_preprocessing_that_fails_ends_one_stream(held_model, fed):
    sources = [fed("a").feed(9), fed("b").feed(4).end()]  # the first never ends by itself
    sources[0].fails_at = 1
    run = StreamRun(held_model(2), sources)
    assert places(run) == [(0, 0), (1, 0), (1, 1), (1, 2), (1, 3)]
    assert [type(error) for error in run.failures.values()] == [ZeroDivisionError]
    assert sources[0].source.closed.is_set()


def test_a_policy_that_fails_ends_one_stream(held_model, fed):
    class Broken(NeverClear):
        def start(self):
            return lambda frame: 1 / (frame.sum() - 2) > 9

    options = StreamOptions(memory=[Broken(), NeverClear()])
    with np.errstate(divide="raise"):
        run = StreamRun(held_model(2), [fed("a").feed(4).end(), fed("b").feed(4).end()], options)
        found = places(run)
    assert [place for place in found if place[0] == 1] == [(1, k) for k in range(4)]


def test_a_model_that_fails_ends_all(held_model, fed):
    model = held_model(2)

    def fail():
        if len(model.batches) == 2:
            raise EdgeclfError("no memory left")

    model.before = fail
    sources = [fed("a").feed(9), fed("b", is_live=True).feed(9)]
    found = []
    with pytest.raises(EdgeclfError, match="no memory left"):
        found.extend(StreamRun(model, sources))
    assert len(found) >= 1
    assert all(source.source.closed.is_set() for source in sources)


def test_a_frame_of_no_numbers_ends_its_stream_alone(classifier, given):
    frames = random_frames(3)
    frames[1, 0, 0, 0] = np.nan
    run = StreamRun(classifier(2), [given("a.raw", frames), given("b.raw", random_frames(3, 1))])
    assert places(run) == [(0, 0), (1, 0), (1, 1), (1, 2)]
    assert str(run.failures[0]).startswith("a.raw: frame 1 holds values that are not finite")


def test_what_was_made_of_a_stream_that_is_given_up_is_left_out(held_model, fed):
    """The frame after the one of no numbers is there already: it is not the model's fault either."""
    model, source = held_model(), fed("a.raw").feed(3).end()
    make = source.make

    def spoiled(piece):
        frame = make(piece)
        return dataclasses.replace(frame, data=frame.data * np.nan) if piece.index == 1 else frame

    source.make = spoiled

    def step(frames, **_):
        if not np.isfinite(frames).all():
            source.wait(lambda one: 2 in one.made)
        spoils = np.float32(np.nan) if 1 in source.made and len(found) else np.float32(0)
        numbers = np.full((1, 4), 0.25, np.float32) + spoils
        return Predictions(numbers, numbers)

    found = []
    model.step = step
    run = StreamRun(model, [source])
    for prediction in run:
        found.append(prediction)
    assert places(found) == [(0, 0)]
    assert str(run.failures[0]).startswith("a.raw: frame 1 holds values that are not finite")


def test_a_model_of_no_numbers_ends_all(held_model, fed):
    model, found = held_model(2), []

    def damaged(frames, **_):
        numbers = np.full((len(frames), 4), np.nan if len(found) >= 2 else 0.25, np.float32)
        return Predictions(numbers, numbers)

    model.step = damaged
    with pytest.raises(EdgeclfError, match=r"^a\.raw: the model's probabilities for frame 1 are not numbers") as raised:
        found.extend(run_streams(model, [fed("a.raw").feed(3).end(), fed("b.raw").feed(3).end()]))
    assert raised.value.exit_code == 1


def test_the_cause_of_a_failure_is_kept(held_model, fed):
    source = fed("a.raw", is_live=True).feed(2)
    source.fails_at = 1
    source.source.when_closed = lambda: source.end(ValueError("read of a closed device"))
    run = StreamRun(held_model(), [source])
    assert places(run) == [(0, 0)]
    assert isinstance(run.failures[0], ZeroDivisionError)


def test_a_source_that_cannot_be_closed_leaves_no_thread(held_model, fed):
    sources = [fed(f"{i}.raw", is_live=True).feed() for i in range(2)]

    def gone():
        sources[0].end()
        raise RuntimeError("usb gone")

    sources[0].source.when_closed = gone
    with StreamRun(held_model(2), sources) as run:
        next(iter(run))
    assert isinstance(run.failures[0], RuntimeError)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgeclf-")]


def test_closing_twice_is_closing_once(held_model, fed, held_clock):
    with StreamRun(held_model(), [fed().feed(2).end()], clock=held_clock) as run:
        assert len(list(run)) == 2
        ended = run.statistics.duration_s
    assert run.statistics.duration_s == ended


def test_a_recording_that_hangs_is_reported(held_model, held_clock, fed, consume, caplog):
    stuck, other = fed("stuck.raw").feed(), fed("b.raw").feed(2).end()
    model = held_model(2)
    consumer = consume(StreamRun(model, [stuck, other], StreamOptions(stall_after_s=0.01), held_clock))
    model.wait_for_steps(1)
    stuck.wait(lambda one: one.asked == 2)
    held_clock.move_to(1)
    while "stuck.raw: nothing has come for 0.01 s." not in caplog.messages:
        threading.Event().wait(0.005)
    stuck.feed().end()
    assert places(consumer.finish()) == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_silence_may_be_awaited_for_ever(held_model, fed, consume):
    source = fed(is_live=True).feed()
    consumer = consume(StreamRun(held_model(), [source], StreamOptions(stall_after_s=1e10)))
    source.wait(lambda one: one.asked == 2)
    source.feed().end()
    assert len(consumer.finish()) == 2


def test_nobody_waits_for_a_silent_source(held_model, held_clock, fed, consume, caplog):
    model, is_reported = held_model(2), threading.Event()

    def watch(record):
        if "nothing has come" in record.getMessage():
            is_reported.set()
        return True

    caplog.handler.addFilter(watch)
    silent, other = fed("silent", is_live=True), fed("other").feed(30)
    run = StreamRun(model, [silent, other], StreamOptions(stall_after_s=0.02), held_clock)
    consumer = consume(run)
    model.wait_for_steps(30)
    assert not is_reported.is_set()
    held_clock.move_to(0.03)
    assert is_reported.wait(20)
    other.feed().end()
    model.wait_for_steps(31)
    silent.feed()
    model.wait_for_steps(32)
    silent.end()
    caplog.handler.removeFilter(watch)
    assert places(consumer.finish()) == [(1, k) for k in range(31)] + [(0, 0)]
    told = [message for message in caplog.messages if message.startswith("silent")]
    assert told == ["silent: nothing has come for 0.02 s.", "silent: it is back."]
    assert run.statistics.streams[0].stalls == 1


def test_a_source_that_is_held_up_is_not_silent(held_model, held_clock, fed, consume):
    model = held_model()
    model.gate.clear()
    run = StreamRun(model, [fed(is_live=True).feed(9).end()], StreamOptions(queue=2), held_clock)
    consumer = consume(run)
    held_clock.wait_for_pieces(5)  # one is with the model, one ready, two wait, and the fifth finds no room
    held_clock.move_to(100)
    model.gate.set()
    assert len(consumer.finish()) == 9
    assert run.statistics.streams[0].stalls == 0


def test_a_source_that_does_not_let_go_is_left_behind(held_model, fed, consume, monkeypatch, caplog):
    monkeypatch.setattr("edgeclf_runtime.streaming.run._JOIN_S", 0.01)
    model = held_model()
    source = fed("stuck", is_live=True).feed()
    source.source.when_closed = lambda: None
    with StreamRun(model, [source]) as run:
        consumer = consume(run)
        model.wait_for_steps(1)
        run.stop()
        assert places(consumer.finish()) == [(0, 0)]
    assert caplog.messages.count("stuck: it does not stop being read; it is left behind.") == 1
    source.end()
    for thread in threading.enumerate():
        if thread.name.startswith("edgeclf-"):
            thread.join(20)


# Time: recordings at the sensor's speed, live sources, deadlines.


def test_a_recording_is_held_back(held_model, held_clock, fed, consume):
    model = held_model()
    at = []
    model.before = lambda: at.append(held_clock.now() - 1000)
    consumer = consume(StreamRun(model, [fed().feed(3).end()], StreamOptions(realtime=True), held_clock))
    for k in range(3):
        held_clock.wait_until_held((k + 1) * 0.01)
        assert len(model.batches) <= k
        held_clock.move_to((k + 1) * 0.01 + 0.002)
        model.wait_for_steps(k + 1)
    found = consumer.finish()
    assert at == pytest.approx([0.012, 0.022, 0.032])
    assert [p.latency_us for p in found] == pytest.approx([2000] * 3)


def test_deadlines(held_model, held_clock, fed, consume):
    model = held_model()
    model.gate.clear()
    run = StreamRun(model, [fed().feed(3).end()], StreamOptions(realtime=True), held_clock)
    consumer = consume(run)
    held_clock.move_to(0.010)
    model.wait_for_steps(1)
    held_clock.move_to(0.0205)  # 10.5 ms for the first frame, and half a ms gone by for the second
    model.gate.set()
    model.wait_for_steps(2)
    held_clock.move_to(0.030)
    found = consumer.finish()
    assert found[0].latency_us == pytest.approx(10_500)
    assert run.statistics.streams[0].misses == 1
    assert run.statistics.to_dict()["latency"]["max_us"] == pytest.approx(10_500)


def test_latency_of_a_live_source_counts_its_waiting(held_model, held_clock, fed, consume):
    model = held_model()
    model.gate.clear()
    source = fed(is_live=True).feed(3).end()
    run = StreamRun(model, [source], clock=held_clock)
    consumer = consume(run)
    source.wait(lambda s: s.asked == 4)  # all were there at once
    held_clock.move_to(0.025)
    model.gate.set()
    assert [p.latency_us for p in consumer.finish()] == pytest.approx([25_000] * 3)
    assert run.statistics.streams[0].misses == 3


@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.parametrize(
    ("when_late", "frames", "seen", "drops", "merges"),
    [
        ("block", [0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6], 0, 0),
        ("drop-oldest", [0, 1, 5, 6], [0, 1, 5, 6], 3, 0),
        ("merge", [0, 1, 2, 6], [0, 1, 2, 3 + 4 + 5 + 6], 0, 3),
    ],
)
def test_when_late(held_model, held_clock, fed, consume, is_live, when_late, frames, seen, drops, merges):
    model = held_model()
    model.gate.clear()
    source = fed(is_live=is_live).feed()
    run = StreamRun(model, [source], StreamOptions(realtime=True, when_late=when_late, queue=2), held_clock)
    consumer = consume(run)
    held_clock.wait_until_held(0.01) if not is_live else None
    held_clock.move_to(1.0)  # all of a recording is due
    model.wait_for_steps(1)
    source.feed()
    source.wait(lambda s: s.made == [0, 1])  # one ahead of the step, and no further
    source.feed(5)
    # Two wait in the queue; where the source waits, one more is in its hand.
    source.wait(lambda s: s.asked == (5 if when_late == "block" else 8))
    assert source.made == [0, 1]
    model.gate.set()
    source.end()
    found = consumer.finish()
    assert [p.frame for p in found] == frames
    assert [sum(values) for values in model.seen] == seen
    counts = run.statistics.streams[0]
    assert (counts.drops, counts.merges) == (drops, merges)
    assert found[-1].t_us == 70_000


def test_the_first_frame_resets_also_where_frame_0_was_dropped(held_model, held_clock, fed, consume):
    model = held_model(2)
    model.gate.clear()
    first, second = fed("a", is_live=True).feed(), fed("b", is_live=True)
    run = StreamRun(model, [first, second], StreamOptions(when_late="drop-oldest", queue=1), held_clock)
    consumer = consume(run)
    model.wait_for_steps(1)
    second.feed(4)
    second.wait(lambda s: s.asked == 5)
    model.gate.set()
    first.end()
    second.end()
    found = [p for p in consumer.finish() if p.stream == 1]
    assert [p.reset for p in found] == [True] + [False] * (len(found) - 1)


def test_frames_that_are_due_together_make_one_batch(held_model, held_clock, fed, consume):
    model = held_model(2)
    sources = [fed("a", is_live=True), fed("b", is_live=True)]
    run = StreamRun(model, sources, StreamOptions(max_wait_s=0.005), held_clock)
    consumer = consume(run)
    sources[0].feed()
    model.wait_for_steps(1)  # nobody knows yet when the other one will start
    held_clock.move_to(0.001)
    sources[1].feed()
    model.wait_for_steps(2)  # the first one is due at 0.010 only
    held_clock.move_to(0.0095)
    sources[0].feed()
    sources[0].wait(lambda s: s.made == [0, 1])
    sources[1].feed()
    model.wait_for_steps(3)
    assert model.batches == [[0], [1], [0, 1]]
    sources[0].end()
    sources[1].feed()
    model.wait_for_steps(4)
    sources[1].end()
    consumer.finish()
    assert model.batches[3] == [1]


def test_nobody_waits_for_a_frame_that_is_not_due(held_model, held_clock, fed, consume):
    model = held_model(2)
    sources = [fed("a", is_live=True), fed("b", is_live=True)]
    consumer = consume(StreamRun(model, sources, clock=held_clock))
    for step, at in enumerate(np.arange(10) * 0.005):  # in turn; the clock would stand still if one waited
        held_clock.move_to(at)
        sources[step % 2].feed()
        model.wait_for_steps(step + 1)
    for source in sources:
        source.end()
    consumer.finish()
    assert model.batches == [[0], [1]] * 5


def test_recordings_at_the_sensors_speed_are_due_together(held_model, held_clock, fed, consume):
    model = held_model(3)
    sources = [fed(name).feed(count).end() for name, count in (("a", 3), ("b", 1), ("c", 3))]
    consumer = consume(StreamRun(model, sources, StreamOptions(realtime=True, max_wait_s=60), held_clock))
    for k in range(3):
        held_clock.wait_until_held((k + 1) * 0.01)
        held_clock.move_to((k + 1) * 0.01)
        model.wait_for_steps(k + 1)
    consumer.finish()
    assert sorted(place for batch in model.batches for place in batch) == [0, 0, 0, 1, 2, 2, 2]
    assert model.batches[0] == [0, 1, 2]


# Memory.


def test_streams_reset_at_different_times_are_as_each_alone(classifier, given, outputs_by_hand):
    frames = [random_frames(12, seed) for seed in range(4)]
    frames[2][3:8] = 0
    policies = [ClearEvery(5), NeverClear(), ClearOnLowActivity(0.5, 3), ClearEvery(3)]
    resets = [(0, 5, 10), (0,), (0, 5), (0, 3, 6, 9)]
    run = StreamRun(classifier(4), [given(str(i), frames[i]) for i in range(4)], StreamOptions(memory=policies))
    found = list(run)
    for stream in range(4):
        own = [p for p in found if p.stream == stream]
        _, probabilities = outputs_by_hand(frames[stream], resets[stream])
        np.testing.assert_allclose([p.probabilities for p in own], probabilities, atol=2e-6)
        assert tuple(p.frame for p in own if p.reset) == resets[stream]
    assert [stream.resets for stream in run.statistics.streams] == [3, 1, 2, 4]
    assert [stream.memory for stream in run.statistics.streams] == ["every", "never", "low-activity", "every"]


def test_memory_policies_are_logged_once_a_stream(held_model, fed, caplog):
    caplog.set_level(logging.INFO)
    options = StreamOptions(memory=[ClearEvery(2), ClearOnLowActivity(0.015, 9)])
    list(run_streams(held_model(2), [fed("a").feed(5).end(), fed("b").feed(5).end()], options))
    assert [record.getMessage() for record in caplog.records if "memory" in record.getMessage()] == [
        "a: memory policy every 2 frames.",
        "b: memory policy low-activity (under 1.5 % active pixels for 9 frames).",
    ]


@pytest.mark.parametrize(("stream", "reset"), [(1, [1]), (None, [0, 1])])
def test_reset_on_demand(held_model, fed, stream, reset):
    model = held_model(2)
    run = StreamRun(model, [fed("a").feed(6).end(), fed("b").feed(6).end()])
    found = []
    for prediction in run:
        found.append(prediction)
        if places([prediction]) == [(1, 2)]:
            run.reset(stream)
    assert [(p.stream, p.frame) for p in found if p.reset] == [(0, 0), (1, 0), *((i, 3) for i in reset)]
    assert model.resets == [(0, 0), (0, 1), *((3, i) for i in reset)]


# Ending.


def test_stop_from_another_thread(held_model, fed, consume):
    model = held_model(2)
    sources = [fed("a", is_live=True).feed(3), fed("b", is_live=True)]
    run = StreamRun(model, sources)
    consumer = consume(run)
    model.wait_for_steps(3)
    run.stop()
    run.stop()
    assert places(consumer.finish()) == [(0, 0), (0, 1), (0, 2)]
    assert all(source.source.closed.is_set() for source in sources)
    assert run.failures == {}


def test_what_was_read_before_the_stop_is_predicted(held_model, fed, consume):
    model = held_model()
    model.gate.clear()
    source = fed(is_live=True).feed(9)
    run = StreamRun(model, [source], StreamOptions(queue=2))
    consumer = consume(run)
    source.wait(lambda s: s.asked == 5 and s.made == [0, 1])
    run.stop()
    model.gate.set()
    # One in the model, one ahead of it, two in the queue; what was in the reader's hand may be left out.
    assert places(consumer.finish()) in ([(0, k) for k in range(4)], [(0, k) for k in range(5)])


def test_stop_while_a_recording_is_held_back(held_model, held_clock, fed, consume):
    run = StreamRun(held_model(), [fed().feed(3)], StreamOptions(realtime=True), held_clock)
    consumer = consume(run)
    held_clock.wait_until_held(0.01)
    run.stop()
    assert consumer.finish() == []


def test_stop_from_a_signal_handler(held_model, fed):
    model = held_model()
    source = fed(is_live=True).feed(2)
    run = StreamRun(model, [source])
    before = signal.signal(signal.SIGINT, lambda *_: run.stop())
    try:
        for prediction in run:
            if prediction.frame == 1:  # while the run waits for the next one
                threading.Timer(0.02, os.kill, [os.getpid(), signal.SIGINT]).start()
    finally:
        signal.signal(signal.SIGINT, before)
    assert [len(batch) for batch in model.batches] == [1, 1]


def test_stop_before_the_start(held_model, fed):
    run = StreamRun(held_model(), [fed(is_live=True)])
    run.stop()
    assert list(run) == []


def test_leaving_the_iteration_ends_the_threads(held_model, fed):
    sources = [fed("a").feed(9), fed("b", is_live=True)]
    predictions = iter(StreamRun(held_model(2), sources))
    next(predictions)
    predictions.close()
    assert all(source.source.closed.is_set() for source in sources)


def test_leaving_the_with_block_ends_the_threads(held_model, fed):
    source = fed("a").feed(9)
    with StreamRun(held_model(), [source]) as run:
        predictions = iter(run)
        next(predictions)
    assert source.source.closed.is_set()


def test_a_recording_that_ended_by_itself_can_be_read_again(held_model, fed):
    source = fed().feed(2).end()
    list(run_streams(held_model(), [source]))
    assert not source.source.closed.is_set()


def test_summary_of_a_run(held_model, fed):
    run = StreamRun(held_model(2), [fed("a").feed(5).end(), fed("b").feed(3).end()])
    list(run)
    found = run.statistics.to_dict()
    assert found["frames"] == found["latency"]["frames"] == 8
    stages = {name: stage["frames"] for name, stage in found["stages"].items()}
    assert stages == {"decode": 8, "preprocess": 8, "inference": 5, "output": 8}
    assert [stream["frames"] for stream in found["streams"]] == [5, 3]
    assert [stream["predictions"] for stream in found["streams"]] == [{"paper": 5}, {"paper": 3}]
    assert found["real_time_factor"] == pytest.approx(0.05 / found["duration_s"], rel=1e-3)
