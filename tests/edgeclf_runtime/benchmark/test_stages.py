from __future__ import annotations

import json
import os

import numpy as np
import pytest

from edgeclf_runtime.backends import DeviceOptions
from edgeclf_runtime.benchmark import stages
from edgeclf_runtime.benchmark.stages import measure_stages
from edgeclf_runtime.errors import EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file

CPU = DeviceOptions("cpu", threads=1)


def check(found):
    assert list(found.stages) == ["decode", "preprocess", "inference", "output"]
    for percentiles in found.stages.values():
        assert list(percentiles) == ["p50_us", "p95_us", "p99_us", "max_us"]
        values = list(percentiles.values())
        assert values == sorted(values)
        assert values[0] > 0


def test_a_real_recording_in_a_process_of_its_own(write_model, shared_data):
    model = write_model()
    found = measure_stages(model, shared_data / "recordings" / "evt3_sample.raw", CPU, 5)
    assert (found.model, found.threads, found.delta_t) == ("tiny", 1, 10_000)
    assert found.frames >= 5
    check(found)


@pytest.fixture
def here(monkeypatch):
    """The lines that measuring in this process writes."""
    lines = []

    class Output(stages.JsonLinesOutput):
        def __init__(self, path):
            assert path == os.devnull
            super().__init__(path)
            usual = self._write

            def write(line):
                lines.append(json.loads(line))
                return usual(line)

            self._write = write

    monkeypatch.setattr(stages, "JsonLinesOutput", Output)
    return lines


def test_a_recording_that_is_too_short_is_streamed_again(write_model, write_dat, random_events, here):
    recording = write_dat("short.dat", random_events(200, 40_000, 1))
    found = stages._measure(write_model(), recording, CPU, 9)
    assert found.frames == len(here)
    assert [line["frame"] for line in here[:8]] == [0, 1, 2, 3] * 2
    assert [line["frame"] for line in here[8:]] == list(range(found.frames - 8))
    # Each time over, the memory starts anew.
    assert [line["probabilities"] for line in here[:4]] == [line["probabilities"] for line in here[4:8]]
    check(found)


def test_a_long_recording_is_not_streamed_to_its_end(write_model, write_dat, random_events, here):
    recording = write_dat("long.dat", random_events(20_000, 10_000_000, 1))
    found = stages._measure(write_model(), recording, CPU, 3)
    assert 3 <= found.frames == len(here) < 20


def test_a_recording_of_a_smaller_sensor_than_the_frames_is_scaled(write_model, write_dat, random_events, here):
    small = [(t, x // 4, y // 3, p) for t, x, y, p in random_events(200, 40_000, 1)]
    found = stages._measure(write_model(), write_dat("small.dat", small, size=(8, 8)), CPU, 4)
    assert found.frames == len(here)
    check(found)
    # The same as of events in the places that they are scaled to.
    lines = list(here)
    here.clear()
    large = [(t, x * 4, y * 3, p) for t, x, y, p in small]
    stages._measure(write_model(), write_dat("large.dat", large), CPU, 4)
    assert [line["probabilities"] for line in lines[:4]] == [line["probabilities"] for line in here[:4]]


def test_frames_that_do_not_fit(write_model, tmp_path):
    made = TensorAttributes("histo", 10_000, (32, 24), preprocess_kwargs={"max_incr_per_pixel": 2})
    write_tensor_file(tmp_path / "small.h5", np.ones((3, 2, 8, 8), np.float32), made)
    with pytest.raises(EdgeclfError, match=r"small\.h5 does not fit the model\. Frames of 8×8"):
        measure_stages(write_model(), tmp_path / "small.h5", CPU, 3)


def test_a_recording_without_events(write_model, write_dat):
    with pytest.raises(InputFileError, match="it holds no events"):
        stages._measure(write_model(), write_dat("empty.dat", []), CPU, 3)


def test_nothing_to_measure(write_model, write_dat):
    with pytest.raises(UsageError, match="one frame at least, not 0"):
        measure_stages(write_model(), write_dat("empty.dat", []), CPU, 0)


class Ends(str):
    """The name of a model that ends the process that gets to know it."""

    __slots__ = ()

    def __reduce__(self):
        return os._exit, (3,)


def test_a_process_that_ends():
    with pytest.raises(EdgeclfError, match=r"^Its process ended by itself, with exit code 3\.$"):
        measure_stages(Ends("big.onnx"), "recording.raw", CPU, 3)
