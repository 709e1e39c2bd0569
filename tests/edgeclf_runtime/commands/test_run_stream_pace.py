"""What time does to streams, and when their memory is cleared."""

from __future__ import annotations

import itertools
import json
import threading

import numpy as np
import pytest

from edgeclf_runtime.session import Classifier


@pytest.fixture
def model(write_model):
    """A model that takes frames as they are."""
    return write_model(frame_shape=(2, 24, 32), state=())


@pytest.fixture
def frames_of(by_loop):
    """The frames of events from 0 to a time, as they are at the sensor's size."""
    return lambda events, stop: by_loop(events, 0, stop)


def probabilities_of(lines):
    return np.array([line["probabilities"] for line in lines])


# Time.


def test_realtime_changes_no_prediction(edgeclf, write_model, recording, tensors, lines_of, without_latency):
    given = ["run-stream", write_model(), recording, tensors]
    plain, timed = (without_latency(lines_of(edgeclf(*given, *options).out)) for options in ([], ["--realtime"]))
    for stream, frames in enumerate((6, 4)):
        one, other = ([line for line in lines if line["stream"] == stream] for lines in (plain, timed))
        assert one == other
        assert len(one) == frames


@pytest.fixture
def slow_first_step(monkeypatch):
    """The first step ends when the recording has been read to its end."""
    step = Classifier.step

    def slow(classifier, frames, **given):
        for thread in threading.enumerate():
            if thread.name.startswith("edgeclf-read"):
                thread.join(20)
                assert not thread.is_alive()
        return step(classifier, frames, **given)

    monkeypatch.setattr(Classifier, "step", slow)


@pytest.mark.parametrize("policy", ["drop-oldest", "merge"])
def test_every_slice_that_is_late_is_counted(
    edgeclf, model, write_dat, random_events, frames_of, outputs_by_hand, slow_first_step, tmp_path, lines_of, policy
):
    del slow_first_step
    events = random_events(600, 90_000, 1)
    ended = edgeclf(
        "run-stream", model, write_dat("a.dat", events), "--realtime", "--when-late", policy,
        "--json", tmp_path / "a.json",
    )  # fmt: skip
    found = lines_of(ended.out)
    (stream,) = json.loads((tmp_path / "a.json").read_text())["streams"]
    assert ended.code == 0
    numbers = [line["frame"] for line in found]
    assert numbers[-1] == 8
    assert [line["t_us"] for line in found] == [10_000 * (k + 1) for k in numbers]
    assert len(found) + stream["drops"] + stream["merges"] == 9
    assert (stream["drops" if policy == "drop-oldest" else "merges"] > 0, stream["misses"] > 0) == (True, True)
    assert f"  {stream['misses']}       {stream['drops']}      {stream['merges']}       1       0       " in ended.err
    if policy == "drop-oldest":
        assert stream["merges"] == 0
        expected = frames_of(events, 90_000)[numbers]
    else:
        assert stream["drops"] == 0
        # A frame holds the events of all slices since the one before it.
        since = dict(zip(numbers, [-1, *numbers], strict=False))
        slots = {k: number for number in numbers for k in range(since[number] + 1, number + 1)}
        moved = [(10_000 * slots[t // 10_000], x, y, p) for t, x, y, p in events]
        expected = frames_of(moved, 90_000)[numbers]
    np.testing.assert_allclose(probabilities_of(found), outputs_of_each(outputs_by_hand, expected), atol=1e-5)


def outputs_of_each(outputs_by_hand, frames):
    """The probabilities of a model without memory."""
    return outputs_by_hand(frames, resets=range(len(frames)))[1]


# Memory.


def cleared_by_loop(policy, frames):
    """The frames before which a policy clears the memory, the first one included."""
    name, *numbers = policy.split(":")
    cleared, quiet = [0], 0
    for k, frame in enumerate(frames):
        if name == "every" and k % int(numbers[0]) == 0:
            cleared.append(k)
        if name == "low-activity":
            active = sum(frame[:, y, x].any() for y, x in itertools.product(range(12), range(16)))
            quiet = quiet + 1 if active / (12 * 16) < float(numbers[1]) else 0
            if quiet == int(numbers[0]):
                cleared.append(k)
    return sorted(set(cleared))


@pytest.fixture
def busy_and_quiet(random_events):
    """Events of 20 frames, every third to fifth one quiet, two of them in a row twice."""
    quiet = {3, 4, 9, 10, 11, 12, 16}
    return [event for k in range(20) for event in random_events(6 if k in quiet else 120, 10_000, k, start=10_000 * k)]


@pytest.mark.parametrize("policy", ["never", "every:1", "every:7", "low-activity:2:0.1", "low-activity:4:0.1"])
def test_memory_policies(
    edgeclf, write_model, write_dat, busy_and_quiet, by_loop, outputs_by_hand, lines_of, policy, tmp_path
):
    path = write_dat("a.dat", busy_and_quiet)
    ended = edgeclf("run-stream", write_model(), path, "--memory", policy, "--json", tmp_path / "a.json")
    whole = by_loop(busy_and_quiet, 0, 200_000)
    frames = whole.reshape(20, 2, 12, 2, 16, 2).mean(axis=(3, 5))
    resets = cleared_by_loop(policy, frames)
    found = lines_of(ended.out)
    assert (
        len(resets)
        == {"never": 1, "every:1": 20, "every:7": 3, "low-activity:2:0.1": 3, "low-activity:4:0.1": 2}[policy]
    )
    assert [line["frame"] for line in found if line["reset"]] == resets
    np.testing.assert_allclose(probabilities_of(found), outputs_by_hand(frames, resets)[1], atol=1e-5)
    (stream,) = json.loads((tmp_path / "a.json").read_text())["streams"]
    assert (stream["memory"], stream["resets"]) == (policy.split(":")[0], len(resets))


def test_memory_policies_of_each_source(edgeclf, write_model, write_dat, busy_and_quiet, lines_of):
    paths = [write_dat(name, busy_and_quiet) for name in ("a.dat", "b.dat", "c.dat")]
    policies = ["never", "every:7", "low-activity:4:0.1"]
    given = [option for policy in policies for option in ("--memory", policy)]
    ended = edgeclf("run-stream", write_model(), *paths, *given)
    resets = [
        [line["frame"] for line in lines_of(ended.out) if line["stream"] == i and line["reset"]] for i in range(3)
    ]
    assert resets == [[0], [0, 7, 14], [0, 12]]
    for path, policy in zip(paths, ("never", "every 7 frames", "low-activity (under 10 % active"), strict=True):
        assert f"{path}: memory policy {policy}" in ended.err


def test_as_many_memory_policies_as_sources(edgeclf, write_model, recording):
    ended = edgeclf("run-stream", write_model(), recording, "--memory", "never", "--memory", "every:3")
    assert (ended.code, ended.out) == (2, "")
    assert "1 sources and 2 memory policies" in ended.error


# The rolling window.


@pytest.mark.parametrize("window", [1, 3, 30])
@pytest.mark.parametrize("policy", ["never", "every:5"])
def test_rolling_window_is_a_plain_mean(edgeclf, model, write_dat, busy_and_quiet, lines_of, window, policy):
    given = ["run-stream", model, write_dat("a.dat", busy_and_quiet), "--memory", policy]
    plain = probabilities_of(lines_of(edgeclf(*given).out))
    rolled = lines_of(edgeclf(*given, "--rolling-window", window).out)
    start = 0
    for k, line in enumerate(rolled):
        start = k if line["reset"] else start
        mean = plain[max(start, k - window + 1) : k + 1].mean(axis=0)
        np.testing.assert_allclose(line["probabilities"], mean, atol=2e-6)
        assert line["class_id"] == mean.argmax()
        assert line["score"] == max(line["probabilities"])
    assert [line["frame"] for line in rolled if line["reset"]] == ([0] if policy == "never" else [0, 5, 10, 15])
