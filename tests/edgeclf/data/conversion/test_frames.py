from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from edgeclf.data.conversion.frames import FrameRecipe, complete_arguments, convert_events
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


@pytest.mark.parametrize(
    ("preprocess", "arguments", "values"),
    [
        ("diff", {}, "-1 to 1"),
        ("diff_quantized", {"normalization_quantized": True}, "-1 to 0.992188"),
        ("histo_quantized", {}, "0 to 15"),
        ("event_cube", {"split_polarity": False}, "-1 to 1"),
        ("timesurface", {"normed": False}, "0 to 9999"),
    ],
)
def test_values_that_uint8_cannot_hold_are_refused_before_the_work(preprocess: str, arguments, values: str) -> None:
    recipe = FrameRecipe(preprocess, arguments, store_as_uint8=True)
    with pytest.raises(UsageError, match=f"values of {preprocess} go from {values}, .* cannot be stored as uint8"):
        recipe.check((WIDTH, HEIGHT))


@pytest.mark.parametrize(
    ("preprocess", "arguments"),
    [("histo", {}), ("histo_quantized", {"normalization_quantized": True}), ("event_cube", {}), ("timesurface", {})],
)
def test_values_from_0_to_1_are_stored_as_uint8(tmp_path: Path, preprocess: str, arguments) -> None:
    recipe = FrameRecipe(preprocess, arguments, store_as_uint8=True)
    convert_events([random_events(1)], (WIDTH, HEIGHT), tmp_path / "bytes.h5", recipe)
    convert_events([random_events(1)], (WIDTH, HEIGHT), tmp_path / "floats.h5", FrameRecipe(preprocess, arguments))
    with h5py.File(tmp_path / "bytes.h5") as stored, h5py.File(tmp_path / "floats.h5") as exact:
        assert (stored["data"].dtype, stored["data"][:].max() > 0) == (np.uint8, True)
        np.testing.assert_allclose(stored["data"][:] / 255, exact["data"][:], atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize(
    ("mode", "n_events", "says"), [("n_events", 0, "give --n-events"), ("delta_t", 5, "add --mode n_events")]
)
def test_mode_and_number_of_events_must_agree(mode: str, n_events: int, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        FrameRecipe(mode=mode, n_events=n_events)


def test_complete_arguments() -> None:
    given = {"max_incr_per_pixel": 2}
    assert complete_arguments("histo", given) == {"max_incr_per_pixel": 2, "downsampling_factor": 0}
    with pytest.raises(UsageError, match="timesurface does not take max_incr_per_pixel; it takes downsampling_factor"):
        complete_arguments("timesurface", given)


# --- frames of a number of events


def real_events(path: Path) -> list[tuple[int, int, int, int]]:
    """The events of a recording as Prophesee's own decoder gives them."""
    with np.load(path) as content:
        return list(zip(*(content[name].tolist() for name in "txyp"), strict=True))


@pytest.mark.parametrize(
    ("name", "size", "n_events", "start", "duration_ms"),
    [
        ("evt2", (640, 480), 50_000, None, None),
        ("evt3", (1280, 720), 7_001, None, None),
        ("evt2", (640, 480), 30_000, 17_777, None),
        ("evt3", (1280, 720), 20_000, None, 7),
        ("evt2", (640, 480), 12_345, 11_000, 9),
    ],
)
def test_frames_of_a_number_of_events_equal_a_plain_loop(
    tmp_path: Path, shared_data: Path, name: str, size: tuple[int, int], n_events: int, start, duration_ms
) -> None:
    events = real_events(shared_data / "recordings" / f"{name}_sample.npz")
    first = events[0][0]
    if start is not None:
        start += first
    duration = None if duration_ms is None else duration_ms * 1000
    target = tmp_path / "a.h5"
    recipe = FrameRecipe("histo", {"max_incr_per_pixel": 2.0}, mode="n_events", n_events=n_events)
    recording = open_recording(shared_data / "recordings" / f"{name}_sample.raw", size)
    frames = convert_events(recording, size, target, recipe, start, duration)

    counts: list[int] = []
    lasts: list[int] = []
    sums: list[np.ndarray] = []
    begin = first if start is None else start
    for t, x, y, p in events:
        if t < begin or (duration is not None and t >= begin + duration):
            continue
        if not counts or counts[-1] == n_events:
            counts.append(0)
            lasts.append(0)
            sums.append(np.zeros((2, size[1], size[0]), np.float32))
        counts[-1] += 1
        lasts[-1] = t
        sums[-1][p, y, x] = min(1.0, sums[-1][p, y, x] + 0.5)

    assert frames == len(counts) > 1
    assert counts[:-1] == [n_events] * (frames - 1)
    with h5py.File(target) as file:  # as Metavision's documentation describes the file
        data = file["data"]
        assert (data.shape, data.chunks) == ((frames, *sums[0].shape), (1, *sums[0].shape))
        for index, expected in enumerate(sums):
            np.testing.assert_allclose(data[index], expected, atol=1e-6)
        assert file["last_timestamps"][:].tolist() == lasts
        made = dict(data.attrs)
    assert made.pop("shape").tolist() == list(sums[0].shape)
    assert made == {
        "events_to_tensor": "histo", "mode": "n_events", "n_events": n_events, "delta_t": 10_000, "start_ts": begin,
        "event_input_width": size[0], "event_input_height": size[1], "store_as_uint8": False,
        "max_incr_per_pixel": 2.0,
    }  # fmt: skip


def test_a_frame_of_a_number_of_events_measures_time_by_its_own_duration(tmp_path: Path) -> None:
    events = random_events(6, count=90)
    recipe = FrameRecipe("timesurface", mode="n_events", n_events=40)
    assert convert_events([events], (WIDTH, HEIGHT), tmp_path / "a.h5", recipe) == 3
    expected = np.zeros((3, 2, HEIGHT, WIDTH))
    t = events.t.tolist()
    for i in range(90):
        held = t[i // 40 * 40 : (i // 40 + 1) * 40]
        expected[i // 40, events.p[i], events.y[i], events.x[i]] = (t[i] - held[0]) / (held[-1] + 1 - held[0])
    with TensorFile(tmp_path / "a.h5") as file:
        np.testing.assert_allclose(file.read(0, 3), expected, atol=1e-6)


def test_values_of_a_users_preprocessing_that_uint8_cannot_hold_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doubled(Histo):
        name = "doubled"
        value_range = (-np.inf, np.inf)  # as of a preprocessing that does not state its own

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
