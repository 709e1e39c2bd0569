from __future__ import annotations

import numpy as np
import pytest

from edgeclf_export.stream_picture import FRAMES_SHOWN, stream_picture
from edgeclf_runtime.streaming import StreamPrediction

LABELS = ("background", "paper", "rock")


def stream(count):
    rng = np.random.default_rng(0)
    frames = list(rng.random((count, 2, 8, 10)).astype(np.float32))
    probabilities = rng.dirichlet(np.ones(3), count)
    predictions = [
        StreamPrediction(
            stream=0, source="a.raw", frame=k, t_us=20_000 * (k + 1), class_id=int(p.argmax()),
            label=LABELS[p.argmax()], score=float(p.max()), accepted=True, probabilities=p.tolist(), reset=k == 0,
            latency_us=1,
        )
        for k, p in enumerate(probabilities)
    ]  # fmt: skip
    return frames, predictions


@pytest.mark.parametrize("count", [1, 3, 40])
def test_frames_along_the_time_axis_stand_above_the_probabilities(count):
    frames, predictions = stream(count)
    *images, axes = stream_picture(frames, predictions, LABELS).axes
    assert len(images) == min(count, FRAMES_SHOWN)
    assert [image.get_title().split("\n")[1] for image in (images[0], images[-1])] == [
        predictions[0].label,
        predictions[-1].label,
    ]
    drawn = np.stack([line.get_ydata() for line in axes.lines], axis=1)
    np.testing.assert_array_equal(drawn, [p.probabilities for p in predictions])
    assert axes.lines[0].get_xdata()[-1] == pytest.approx(count * 0.02)
