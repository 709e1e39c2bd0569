from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeclf.data.conversion import FrameRecipe, convert_events
from edgeclf.data.raw_writer import write_recording
from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.events import Events, open_recording
from edgeclf_runtime.preprocessing import registry
from edgeclf_runtime.preprocessing.histo import Histo
from edgeclf_runtime.tensor_file import TensorFile

WIDTH, HEIGHT = 20, 12


def random_events(seed: int, count: int = 2000, start: int = 3_456) -> Events:
    """Events on few pixels, so that they saturate, with a silence of several frames in the middle."""
    rng = np.random.default_rng(seed)
    t = start + np.sort(rng.integers(0, 30_000, count))
    t[count // 2 :] += 25_000
    x, y = rng.integers(0, WIDTH, count), rng.integers(0, HEIGHT, count)
    return Events(t, x.astype(np.uint16), y.astype(np.uint16), rng.integers(0, 2, count).astype(np.uint8))


def plain_frames(events: Events, preprocess: str, limit: float, delta_t: int, start: int, duration: int | None):
    """One event after the other, saturating at once."""
    last = int(events.t[-1])
    if duration is not None:
        last = min(last, start + -(-duration // delta_t) * delta_t - 1)
    count = (last - start) // delta_t + 1
    frames = np.zeros((count, 2 if preprocess == "histo" else 1, HEIGHT, WIDTH))
    for t, x, y, p in zip(*(getattr(events, name).tolist() for name in "txyp"), strict=True):
        if not start <= t <= last:
            continue
        channel, step = (p, 1) if preprocess == "histo" else (0, 2 * p - 1)
        value = frames[(t - start) // delta_t, channel, y, x] + step / limit
        frames[(t - start) // delta_t, channel, y, x] = min(1.0, max(-1.0, value))
    return frames


@pytest.mark.parametrize("preprocess", ["histo", "diff"])
@pytest.mark.parametrize(
    ("start_ts", "duration"), [(None, None), (0, None), (10_001, None), (None, 17_500), (4_000, 5_000)]
)
def test_a_raw_file_becomes_the_frames_of_a_plain_loop(tmp_path: Path, preprocess: str, start_ts, duration) -> None:
    events = random_events(1)
    raw = tmp_path / "a b.raw"
    write_recording(raw, [events], (WIDTH, HEIGHT))
    recipe = FrameRecipe(preprocess, {"max_incr_per_pixel": 2.0}, 5_000)
    target = tmp_path / "new" / "a b.h5"
    recording = open_recording(raw)
    frames = convert_events(recording, recording.sensor_size, target, recipe, start_ts, duration)
    start = 3_456 // 5_000 * 5_000 if start_ts is None else start_ts
    expected = plain_frames(events, preprocess, 2.0, 5_000, start, duration)
    with TensorFile(target) as file:
        np.testing.assert_allclose(file.read(0, len(file)), expected, atol=1e-6)
        assert frames == len(expected)
        assert (file.attributes.start_ts, file.attributes.sensor_size) == (start, (WIDTH, HEIGHT))
        assert (file.attributes.preprocess, file.attributes.delta_t) == (preprocess, 5_000)
        assert file.attributes.preprocess_kwargs == {"max_incr_per_pixel": 2.0}
    assert [path.name for path in target.parent.iterdir()] == ["a b.h5"]


def test_the_batches_of_a_recording_make_no_difference(tmp_path: Path) -> None:
    events = random_events(2)
    recipe = FrameRecipe(delta_t=3_000)
    convert_events([events], (WIDTH, HEIGHT), tmp_path / "one.h5", recipe)
    parts = [events[:0], events[:1], events[1:777], events[777:]]
    convert_events(parts, (WIDTH, HEIGHT), tmp_path / "many.h5", recipe)
    with TensorFile(tmp_path / "one.h5") as one, TensorFile(tmp_path / "many.h5") as many:
        np.testing.assert_array_equal(one.read(0, 99), many.read(0, 99))


def test_frames_are_shrunk_by_area(tmp_path: Path) -> None:
    events = random_events(3)
    convert_events([events], (WIDTH, HEIGHT), tmp_path / "whole.h5", FrameRecipe())
    convert_events([events], (WIDTH, HEIGHT), tmp_path / "small.h5", FrameRecipe(frame_size=(5, 8)))
    with TensorFile(tmp_path / "whole.h5") as whole, TensorFile(tmp_path / "small.h5") as small:
        expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(whole.read(0, 99)), (5, 8))
        np.testing.assert_allclose(small.read(0, 99), expected, atol=1e-6)
        assert small.attributes.sensor_size == (WIDTH, HEIGHT)


def test_storing_as_uint8_rounds_to_the_nearest(tmp_path: Path) -> None:
    events = random_events(4)
    recipe = FrameRecipe(preprocess_kwargs={"max_incr_per_pixel": 7.0}, store_as_uint8=True)
    convert_events([events], (WIDTH, HEIGHT), tmp_path / "bytes.h5", recipe)
    convert_events(
        [events], (WIDTH, HEIGHT), tmp_path / "floats.h5", FrameRecipe(preprocess_kwargs=recipe.preprocess_kwargs)
    )
    with TensorFile(tmp_path / "bytes.h5") as stored, TensorFile(tmp_path / "floats.h5") as exact:
        assert stored.attributes.store_as_uint8
        np.testing.assert_allclose(stored.read(0, 99), exact.read(0, 99), atol=0.5 / 255 + 1e-6)
        assert np.abs(stored.read(0, 99) - exact.read(0, 99)).max() > 0


def test_diff_is_not_stored_as_uint8() -> None:
    with pytest.raises(UsageError, match="below 0 cannot be stored as uint8"):
        FrameRecipe("diff", store_as_uint8=True)


def test_values_of_a_users_preprocessing_that_uint8_cannot_hold_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doubled(Histo):
        name = "doubled"

        def __call__(self, events: Events, start_us: int) -> np.ndarray:
            return 2 * super().__call__(events, start_us)

    monkeypatch.setitem(registry._FACTORIES, "doubled", Doubled)
    events, target = random_events(5), tmp_path / "a.h5"
    convert_events([events], (WIDTH, HEIGHT), target, FrameRecipe("doubled", {"max_incr_per_pixel": 100}))
    before = target.read_bytes()
    with pytest.raises(UsageError, match=r"doubled made values from 0 to 2, and uint8 holds 0 to 1"):
        convert_events(
            [events], (WIDTH, HEIGHT), target, FrameRecipe("doubled", {"max_incr_per_pixel": 1}, store_as_uint8=True)
        )
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("batches", "start_ts"), [([], None), ([Events.empty()], 0), ([random_events(0)], 10**9)])
def test_a_recording_without_events_there_writes_nothing(tmp_path: Path, batches: list[Events], start_ts) -> None:
    with pytest.raises(InputFileError, match=r"a\.h5 is not written.*holds no events"):
        convert_events(batches, (WIDTH, HEIGHT), tmp_path / "a.h5", FrameRecipe(), start_ts)
    assert list(tmp_path.iterdir()) == []


def test_frames_larger_than_the_sensor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="would have to be enlarged"):
        convert_events([random_events(0)], (WIDTH, HEIGHT), tmp_path / "a.h5", FrameRecipe(frame_size=(24, 24)))
