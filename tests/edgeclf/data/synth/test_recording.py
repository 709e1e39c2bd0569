from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeclf.data.synth import GESTURES, SAMPLE_CONFIG, GestureRecording, PixelConfig, SynthConfig, simulate_recording
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.events.batch import Events

SMALL = SynthConfig(width=80, height=64, step_us=2000, gesture_us=(150_000, 200_000), pause_us=(50_000, 80_000))


def digest(recording: GestureRecording) -> str:
    events = recording.events
    parts = [a.tobytes() for a in (events.t, events.x, events.y, events.p)]
    return hashlib.sha256(b"".join([*parts, repr(recording.segments).encode()])).hexdigest()


def rate(events: Events, start_us: int, end_us: int) -> float:
    """Events a second in a part of a recording."""
    first, last = np.searchsorted(events.t, [start_us, end_us])
    return float(last - first) / (end_us - start_us) * 1e6


@pytest.fixture(scope="module")
def full() -> GestureRecording:
    return simulate_recording(2, gestures=[0, 2])


def test_the_names_of_the_gestures_stand_in_the_order_of_their_ids() -> None:
    assert GESTURES == ("paper", "rock", "scissors")


def test_a_seed_gives_the_same_recording_in_another_process() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_recording as t;"
        "print(t.digest(t.simulate_recording(11, config=t.SMALL)))"
    )
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    other = subprocess.run(
        [sys.executable, "-c", program, here], env=environment, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == digest(simulate_recording(11, config=SMALL))


def test_seeds_differ() -> None:
    assert len({digest(simulate_recording(seed, [1], SMALL)) for seed in range(4)}) == 4


def test_a_seed_sequence_is_not_used_up_and_a_number_stands_for_one() -> None:
    sequence = np.random.SeedSequence(5)
    first = digest(simulate_recording(sequence, config=SMALL))
    assert digest(simulate_recording(sequence, config=SMALL)) == first
    assert digest(simulate_recording(5, config=SMALL)) == first
    assert sequence.n_children_spawned == 0
    children = np.random.SeedSequence(5).spawn(2)
    assert len({first, *(digest(simulate_recording(child, config=SMALL)) for child in children)}) == 3


def test_gestures_are_those_named_in_order() -> None:
    recording = simulate_recording(0, [2, 0, 0, 1], SMALL)
    assert [segment.class_id for segment in recording.segments] == [2, 0, 0, 1]
    ends = [0, *(segment.end_us for segment in recording.segments)]
    for segment, previous_end in zip(recording.segments, ends, strict=False):
        assert previous_end < segment.start_us < segment.end_us <= recording.duration_us


def test_gestures_that_are_not_named_are_drawn_all_of_them() -> None:
    config = dataclasses.replace(SMALL, num_gestures=5, step_us=15_000, pixel=PixelConfig(shot_noise_rate_hz=0.0))
    drawn = [tuple(s.class_id for s in simulate_recording(seed, config=config).segments) for seed in range(6)]
    assert {len(d) for d in drawn} == {5}
    assert {g for d in drawn for g in d} == {0, 1, 2}
    assert len(set(drawn)) > 1


def test_other_pixels_see_the_same_scene() -> None:
    noisy = dataclasses.replace(SMALL, pixel=PixelConfig(shot_noise_rate_hz=20.0, threshold_on=0.4))
    quiet, loud = simulate_recording(3, config=SMALL), simulate_recording(3, config=noisy)
    assert quiet.segments == loud.segments
    assert quiet.duration_us == loud.duration_us
    assert len(quiet.events) != len(loud.events)


def test_events_are_in_order_on_the_sensor_and_within_the_recording(full: GestureRecording) -> None:
    events = full.events
    assert (np.diff(events.t) >= 0).all()
    assert events.t[0] >= 0
    assert events.t[-1] < full.duration_us
    assert events.x.max() < 320
    assert events.y.max() < 320
    assert (events.t.dtype, events.x.dtype, events.y.dtype, events.p.dtype) == (
        np.int64,
        np.uint16,
        np.uint16,
        np.uint8,
    )
    assert set(np.unique(events.p)) == {0, 1}


def test_rates_are_those_of_a_camera_before_a_moving_hand(full: GestureRecording) -> None:
    pixel = PixelConfig()
    noise = 320 * 320 * (pixel.leak_rate_hz + pixel.shot_noise_rate_hz)
    # The first hand comes in no earlier than the shortest pause's end.
    assert rate(full.events, 0, 200_000) == pytest.approx(noise, rel=0.1)
    for segment in full.segments:
        assert 4 * noise < rate(full.events, segment.start_us, segment.end_us) < 3e6
    assert 2e5 < len(full.events) < 1.5e6
    assert 300_000 < full.segments[0].end_us - full.segments[0].start_us < 900_000


def test_events_are_where_the_labels_say_that_a_hand_is(full: GestureRecording) -> None:
    bounds = [0, *(t for s in full.segments for t in (s.start_us, s.end_us)), full.duration_us]
    for start, end, shown in zip(bounds, bounds[1:], [False, True, False, True, False], strict=False):
        times = np.arange(start + 150_000, end - 150_000, 10_000)
        rates = [rate(full.events, int(t), int(t) + 10_000) for t in times]
        if shown:
            assert np.median(rates) > 40_000
        elif rates:
            assert np.median(rates) < 25_000


def test_a_sample_recording_is_small_as_a_file() -> None:
    recording = simulate_recording(0, [1, 0, 2], SAMPLE_CONFIG)
    events = recording.events
    # EVT3 without its vectors: a word an event, and one for each change of row and of time.
    words = 3 + len(events) + np.count_nonzero(np.diff(events.t)) + np.count_nonzero(np.diff(events.y.astype(int)))
    words += int(recording.duration_us) >> 12
    assert 2 * words < 2_500_000
    assert len(events) > 50_000
    assert recording.duration_us < 2_000_000
    assert [s.class_id for s in recording.segments] == [1, 0, 2]


def test_a_recording_may_show_nothing_but_background() -> None:
    recording = simulate_recording(0, [], SMALL)
    assert recording.segments == ()
    assert 50_000 <= recording.duration_us <= 80_000
    assert rate(recording.events, 0, recording.duration_us) < 5 * 80 * 64 * 0.15


@pytest.mark.parametrize("gestures", [[3], [0, -1]])
def test_an_unknown_gesture_is_refused_with_the_ones_there_are(gestures: list[int]) -> None:
    with pytest.raises(UsageError, match=r"no gesture -?\d; choose from 0 \(paper\), 1 \(rock\), 2 \(scissors\)"):
        simulate_recording(0, gestures, SMALL)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(UsageError, match="The seed is -1"):
        simulate_recording(-1, config=SMALL)
