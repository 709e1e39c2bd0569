from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from edgeclf.figures import class_colours
from edgeclf.utils_metrics.recording_picture import RecordingVectors, draw_recording, evenly_over_time
from edgeclf_runtime.errors import EdgeclfError, InputFileError
from edgeclf_runtime.outputs.event_image import event_image

LABELS = ["background", "paper", "rock", "scissors"]


class Frames:
    """Frames in memory."""

    def __init__(self, data):
        self.data = data

    def read(self, start, stop):
        return self.data[start:stop]

    def close(self):
        pass


def drawn(count, seed=0, labels=LABELS, step=20_000, channels=2):
    rng = np.random.default_rng(seed)
    right = np.repeat(rng.integers(-1, len(labels), count), 4)[:count]
    predictions = np.where(rng.random(count) < 0.3, rng.integers(0, len(labels), count), right.clip(0))
    ends = 1_000_000 + np.cumsum(rng.integers(1, 2 * step, count))
    vectors = RecordingVectors.of("a.h5", (ends, predictions, right), len(labels))
    data = rng.random((count, channels, 6, 8)).astype(np.float32)
    return draw_recording(Path("a.h5"), Frames(data), vectors, labels), vectors, data


def boxes(axes):
    """The bars of the bands: left, bottom, right, top and colour of each."""
    for collection in axes.collections:
        for path in collection.get_paths():
            (left, bottom), (right, top) = path.get_extents().get_points()
            yield left, bottom, right, top, tuple(collection.get_facecolor()[0][:3])


def colour_at(axes, x, y):
    return [c for left, bottom, right, top, c in boxes(axes) if left < x < right and bottom < y < top]


@pytest.mark.parametrize(("count", "labels"), [(1, LABELS), (2, LABELS), (60, LABELS[:2]), (90, LABELS)])
def test_bands_show_every_frame_at_its_time(count, labels):
    figure, vectors, _ = drawn(count, labels=labels)
    bands = figure.axes[-1]
    edges = np.concatenate([[2 * vectors.timestamps_us[0] - vectors.timestamps_us[1]] if count > 1
                            else [vectors.timestamps_us[0] - 1], vectors.timestamps_us])  # fmt: skip
    unit = 1e6 if edges[-1] - edges[0] >= 1e6 else 1e3
    assert bands.get_xlabel() == ("time in s" if unit == 1e6 else "time in ms")
    colours = class_colours(labels)
    for k in range(count):
        middle = (edges[k] + edges[k + 1]) / 2 / unit
        label, prediction = vectors.labels[k], vectors.predictions[k]
        assert colour_at(bands, middle, 1) == [colours[prediction]]
        assert colour_at(bands, middle, 2) == [to_rgb("white") if label < 0 else colours[label]]
        assert len(colour_at(bands, middle, 0.3)) == (label >= 0 and label != prediction)
    assert bands.get_xlim() == pytest.approx((edges[0] / unit, edges[-1] / unit))


@pytest.mark.parametrize("seed", range(4))
def test_legend_names_what_is_seen_and_nothing_else(seed):
    figure, vectors, _ = drawn(4, seed)
    names = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    seen = {*vectors.labels.tolist(), *vectors.predictions.tolist()}
    assert len(seen) < 5
    assert names == [LABELS[k] for k in sorted(seen - {-1})] + (["left out"] if -1 in seen else [])


@pytest.mark.parametrize("count", [1, 3, 10, 77])
def test_images_stand_over_their_time(count):
    figure, vectors, data = drawn(count)
    *images, bands = figure.axes
    assert len(images) == min(10, count)
    low, high = bands.get_xlim()
    left, width = bands.get_position().x0, bands.get_position().width
    ends = vectors.timestamps_us
    scale = np.percentile(np.abs(np.concatenate([axes_frame(axes, data, ends) for axes in images])), 90)
    for axes in images:
        at = axes.get_position().x0 + axes.get_position().width / 2
        time = (low + (at - left) / width * (high - low)) * (1e6 if high < 100 else 1e3)
        index = int(np.searchsorted(ends, time))
        shown = axes.images[0].get_array()
        np.testing.assert_allclose(shown, event_image(data[index], scale), atol=1e-6)


def axes_frame(axes, data, ends):
    """The frame that a title speaks of: it says when the frame ended."""
    value, unit = axes.get_title().split()
    time = float(value) * (1e6 if unit == "s" else 1e3)
    return data[int(np.abs(ends - time).argmin())].ravel()


@pytest.mark.parametrize(
    ("edges", "count", "expected"),
    [
        ([0, 10, 20, 30, 40], 2, [1, 3]),
        ([0, 10, 20, 30, 40], 4, [0, 1, 2, 3]),
        ([0, 10, 20], 10, [0, 1]),
        ([5, 6], 10, [0]),
        ([0, 1, 2, 3, 100], 2, [3, 3]),  # a frame that lasts
    ],
)
def test_frames_are_picked_evenly_over_time(edges, count, expected):
    assert evenly_over_time(np.array(edges), count) == expected


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_frames_without_events_are_white(channels):
    vectors = RecordingVectors.of("a.h5", ([10, 20], [0, 1], [0, 0]), 4)
    figure = draw_recording(Path("a.h5"), Frames(np.zeros((2, channels, 6, 8), np.float32)), vectors, LABELS)
    assert (figure.axes[0].images[0].get_array() == 1).all()
    figure.canvas.draw()


def test_frames_that_end_at_the_same_time_can_be_drawn():
    vectors = RecordingVectors.of("a.h5", ([10, 10, 10], [0, 1, 1], [-1, -1, -1]), 4)
    figure = draw_recording(Path("a.h5"), Frames(np.ones((3, 2, 6, 8), np.float32)), vectors, LABELS)
    figure.canvas.draw()
    assert "not labelled" in figure.get_suptitle()


@pytest.mark.parametrize("frames", [1, 3])
def test_another_number_of_frames_is_a_sentence(frames):
    vectors = RecordingVectors.of("a.h5", ([10, 20], [0, 1], [0, 0]), 4)
    with pytest.raises(InputFileError, match=r"a\.h5: 2 frames of it were predicted"):
        draw_recording(Path("a.h5"), Frames(np.ones((frames, 2, 6, 8), np.float32)), vectors, LABELS)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (([10, 20], [0, 1]), "holds 2 vectors"),
        (([10, 20], [0, 1], [0]), "an entry for each frame"),
        (([], [], []), "an entry for each frame"),
        (([[10]], [[0]], [[0]]), "an entry for each frame"),
        (([20, 10], [0, 1], [0, 1]), "in order"),
        (([10, 20], [0, 4], [0, 1]), "predictions go from 0 to 4"),
    ],
)
def test_vectors_that_cannot_be_are_a_sentence(given, says):
    with pytest.raises(EdgeclfError, match=rf"a\.h5.*{says}"):
        RecordingVectors.of("a.h5", given, 4)
