from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import numpy as np
import pytest

from edgeclf_runtime.errors import DamagedInputError, EdgeclfError, UsageError
from edgeclf_runtime.session import Classifier
from edgeclf_runtime.sources import Frame, FrameSource
from edgeclf_runtime.stream import run_streams


class Given(FrameSource):
    """Frames from memory; ends with `error`, where one is given."""

    def __init__(self, name, frames, start=0, error=None):
        self.path = Path(name)
        self._given = (frames, start, error)

    @property
    def problems(self):
        return []

    def __iter__(self):
        frames, start, error = self._given
        for k, data in enumerate(frames):
            yield Frame(k, start + (k + 1) * 10_000, data, 300.0)
        if error is not None:
            raise error


def frames_of(count, seed=0):
    return np.random.default_rng(seed).random((count, 2, 12, 16)).astype(np.float32)


@pytest.fixture
def classifier(write_model):
    """Returns a classifier of the tiny model for so many streams."""
    return lambda streams=1, **changes: Classifier.load(write_model(**changes), "cpu", streams, threads=1)


def without_latency(predictions):
    return [dataclasses.replace(p, latency_us=0.0) for p in predictions]


def test_fields(classifier, outputs_by_hand):
    frames = frames_of(12) * np.resize([[0, 0], [1, 0.2], [0, 1], [0.1, 0]], (12, 2, 1, 1)).astype(np.float32)
    _, probabilities = outputs_by_hand(frames)
    found = list(run_streams(classifier(), [Given("a b/ä.raw", frames, start=130_000)], threshold=0.5))
    assert len(found) == 12
    for k, prediction in enumerate(found):
        line = prediction.to_dict()
        latency = line.pop("latency_us")
        assert type(latency) is int
        assert 300 < latency < 1_000_000  # preparation and inference
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
def test_background_is_never_accepted(classifier, label):
    # With the labels in this order, the same output is background in one case only.
    frames = frames_of(6)
    plain = list(run_streams(classifier(), [Given("a", frames)]))
    best = plain[0].class_id
    labels = [f"class {i}" for i in range(4)]
    if label == "background":
        labels[best] = label
    found = list(run_streams(classifier(labels=tuple(labels)), [Given("a", frames)]))
    assert [p.accepted for p in found] == [label == "not" or p.class_id != best for p in found]
    assert found[0].label == labels[best]


def test_score_at_the_threshold_is_accepted(classifier):
    frames = frames_of(6)
    labels = ("a", "b", "c", "d")
    scores = [p.score for p in run_streams(classifier(labels=labels), [Given("a", frames)])]
    for threshold in scores:  # as a user reads it in the output
        found = list(run_streams(classifier(labels=labels), [Given("a", frames)], threshold))
        assert [p.accepted for p in found] == [score >= threshold for score in scores]
        assert any(p.accepted for p in found)
    assert not any(p.accepted for p in run_streams(classifier(labels=labels), [Given("a", frames)], max(scores) + 1e-6))


def test_streams_are_as_each_alone(classifier):
    given = [Given(f"{i}.raw", frames_of(count, i), start=i * 1000) for i, count in enumerate([5, 1, 9, 0, 9])]
    together = list(run_streams(classifier(5), given))
    assert [(p.frame, p.stream) for p in together] == [
        (k, i) for k in range(9) for i, count in enumerate([5, 1, 9, 0, 9]) if k < count
    ]
    for i, source in enumerate(given):
        alone = [dataclasses.replace(p, stream=i) for p in run_streams(classifier(), [source])]
        assert without_latency(p for p in together if p.stream == i) == without_latency(alone)


def test_one_source_twice_is_two_streams(classifier):
    source = Given("a", frames_of(4))
    found = without_latency(run_streams(classifier(2), [source, source]))
    assert [dataclasses.replace(p, stream=0) for p in found[1::2]] == found[::2]


def test_classifier_is_reset_first(classifier):
    one = classifier()
    source = Given("a", frames_of(4))
    assert without_latency(run_streams(one, [source])) == without_latency(run_streams(one, [source]))


def test_no_sources(classifier):
    assert list(run_streams(classifier(), [])) == []


def test_more_sources_than_streams(classifier):
    with pytest.raises(UsageError, match="keeps 1 streams, and there are 2 sources"):
        next(run_streams(classifier(), [Given("a", frames_of(1))] * 2))


def test_error_of_a_source_comes_after_what_was_before_it(classifier):
    given = [Given("a", frames_of(5)), Given("b", frames_of(2), error=DamagedInputError("b is damaged."))]
    found = []
    with pytest.raises(DamagedInputError, match="b is damaged"):
        found.extend(run_streams(classifier(2), given))
    assert [(p.frame, p.stream) for p in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_probabilities_that_are_no_numbers(classifier):
    frames = frames_of(3)
    frames[1, 0, 0, 0] = np.nan
    found = []
    with pytest.raises(EdgeclfError, match="probabilities for frame 1 are not numbers") as raised:
        found.extend(run_streams(classifier(), [Given("a", frames)]))
    assert raised.value.exit_code == 1
    assert len(found) == 1


def test_realtime_keeps_the_sensors_pace(classifier):
    one, seen = classifier(), []
    begin = time.monotonic()
    for _ in run_streams(one, [Given("a", frames_of(12))], realtime=True):
        seen.append(time.monotonic() - begin)
    # A frame is not there before its slice is over; how much later depends on the machine.
    assert all(at >= (k + 1) * 0.01 - 1e-4 for k, at in enumerate(seen))


def test_full_speed_does_not_wait(classifier, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("slept"))
    assert len(list(run_streams(classifier(), [Given("a", frames_of(12))]))) == 12
