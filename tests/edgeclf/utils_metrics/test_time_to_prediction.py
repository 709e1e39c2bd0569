from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgeclf.utils_metrics import calculate_time_to_prediction, get_1st_nonzeros
from edgeclf_runtime.errors import EdgeclfError, UsageError


@pytest.mark.parametrize(
    ("labels", "predictions", "latencies", "missed"),
    [
        ([1, 1, 1], [1, 0, 1], [10], 0),
        ([0, 1, 1, 1, 0], [1, 0, 0, 1, 1], [30], 0),
        ([1, 1, 2, 2], [2, 2, 1, 1], [], 2),  # right only after its end is not right
        ([1, 1, 2, 2], [1, 1, 1, 2], [10, 20], 0),  # one gesture right after another
        ([1, 0, 1], [1, 0, 0], [10], 1),  # the same gesture twice
        ([1, -1, -1, 1], [0, 1, 0, 1], [40], 0),  # frames left out: looked through, time passes
        ([-1, 1, -1, 2], [1, 1, 2, 2], [10, 10], 0),
        ([0, 0], [1, 0], [], 0),
        ([-1], [1], [], 0),
        ([], [], [], 0),  # a data sample without frames
    ],
)
def test_time_to_prediction(labels, predictions, latencies, missed):
    as_tensor = lambda values: torch.tensor(values, dtype=torch.int64)  # noqa: E731
    time = calculate_time_to_prediction([as_tensor(predictions)], [as_tensor(labels)])
    assert time.latencies_ms.tolist() == latencies
    assert (time.gestures, time.never_recognised) == (len(latencies) + missed, missed)


def test_time_to_prediction_statistics():
    labels = [torch.tensor([1] * 9)] * 4
    predictions = [torch.tensor([0] * k + [1] * (9 - k)) for k in (0, 1, 3, 8)]
    time = calculate_time_to_prediction(predictions, labels, delta_t=500)
    assert time.latencies_ms.tolist() == [0.5, 1, 2, 4.5]
    assert time.median_ms == 1.5  # of the middle two; the lower one would be 1
    assert time.std_ms == pytest.approx(np.std([0.5, 1, 2, 4.5]))
    assert calculate_time_to_prediction(predictions[:1], labels[:1]).std_ms == 0
    none = calculate_time_to_prediction(predictions[:1], [torch.zeros(9)])
    assert (none.gestures, none.never_recognised) == (0, 0)
    assert all(math.isnan(value) for value in (none.median_ms, none.std_ms, none.never_recognised_rate))


def test_time_to_prediction_needs_as_many_predictions_as_labels():
    with pytest.raises(EdgeclfError, match="differ"):
        calculate_time_to_prediction([torch.zeros(2)], [torch.zeros(3)])
    with pytest.raises(EdgeclfError, match="differ"):
        calculate_time_to_prediction([torch.zeros(2)], [])
    with pytest.raises(EdgeclfError, match="no data sample"):
        calculate_time_to_prediction([], [])


def test_get_1st_nonzeros():
    rows = torch.tensor([[0, 0, 3, 1], [0, 0, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 2]])
    expected = [2, 3, 0, 3]
    assert get_1st_nonzeros(rows).tolist() == expected
    assert get_1st_nonzeros(rows * 0.1).tolist() == expected
    assert get_1st_nonzeros(rows != 0).tolist() == expected
    assert get_1st_nonzeros(rows.reshape(2, 2, 4)).tolist() == [[2, 3], [0, 3]]
    assert get_1st_nonzeros(rows[0]).item() == 2
    for nothing in (torch.empty(3, 0), torch.tensor(1)):
        with pytest.raises(EdgeclfError, match="empty"):
            get_1st_nonzeros(nothing)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 101])
def test_median_and_deviation_are_numpys(count):
    waits = np.random.default_rng(count).integers(0, 50, count)
    labels = [torch.tensor([1] * 60)] * count
    predictions = [torch.tensor([0] * k + [1] * (60 - k)) for k in waits]
    time = calculate_time_to_prediction(predictions, labels, delta_t=20_000)
    assert time.median_ms == np.median((waits + 1) * 20)
    assert time.std_ms == pytest.approx(np.std((waits + 1) * 20))


def test_a_gesture_never_recognised_does_not_pass_for_a_fast_one():
    labels = [torch.tensor([1, 1, 1, 0, 2, 2]), torch.tensor([0, 0]), torch.tensor([1, 1])]
    predictions = [torch.tensor([0, 0, 0, 0, 0, 2]), torch.tensor([0, 1]), torch.tensor([2, 2])]
    time = calculate_time_to_prediction(predictions, labels)
    assert time.median_ms == 20
    assert (time.gestures, time.never_recognised) == (3, 2)
    assert time.never_recognised_rate == pytest.approx(2 / 3)
    assert time.latency_seq == ((math.inf, 20.0), (), (math.inf,))


def test_without_a_duration_there_are_no_times():
    time = calculate_time_to_prediction([torch.tensor([1, 0])], [torch.tensor([1, 2])], delta_t=None)
    assert math.isnan(time.median_ms)
    assert math.isnan(time.std_ms)
    assert (time.gestures, time.never_recognised) == (2, 1)
    assert math.isnan(time.latency_seq[0][0])
    assert time.latency_seq[0][1] == math.inf


def test_plain_lists_do():
    assert calculate_time_to_prediction([[0, 1]], [[0, 1]]).median_ms == 10
    assert get_1st_nonzeros([0, 1]) == 1


def test_histogram_counts_every_gesture(tmp_path: Path):
    labels = [torch.tensor([1] * 9)] * 6
    predictions = [torch.tensor([0] * k + [1] * (9 - k)) for k in (0, 0, 0, 3, 8, 9)]
    time = calculate_time_to_prediction(predictions, labels, delta_t=500)
    figure = time.plot(tmp_path / "t2p.png")
    times, missed = figure.axes
    bars = [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_height()) for bar in times.patches]
    drawn = {round((left + right) / 2, 6): height for left, right, height in bars if height}
    assert drawn == {0.5: 3, 2.0: 1, 4.5: 1}, "each time in the middle of a bar"
    assert {round(right - left, 6) for left, right, _ in bars} == {0.5}
    assert missed.patches[0].get_height() == pytest.approx(100 / 6)
    assert "median 0.5 ms" in [text.get_text() for text in times.get_legend().get_texts()]
    with Image.open(tmp_path / "t2p.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 24)) > 10


@pytest.mark.parametrize(
    ("labels", "delta_t", "says"),
    [([0, 0], 500, "no gesture was recognised"), ([1, 1], None, "no fixed duration")],
)
def test_a_histogram_without_times_says_why(labels, delta_t, says):
    predictions = [torch.tensor([1, 1])]
    figure = calculate_time_to_prediction(predictions, [torch.tensor(labels)], delta_t=delta_t).plot()
    assert says in " ".join(text.get_text() for text in figure.axes[0].texts)


def test_a_picture_that_cannot_be_is_a_sentence(tmp_path: Path):
    time = calculate_time_to_prediction([torch.tensor([1, 1])], [torch.tensor([1, 1])])
    with pytest.raises(UsageError, match="ends in one of"):
        time.plot(tmp_path / "t2p.xyz")
    assert list(tmp_path.iterdir()) == []
