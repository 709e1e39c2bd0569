from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from sklearn import metrics
from sklearn.calibration import calibration_curve

from edgeclf.utils_metrics import (
    confusion_matrix,
    plot_cm,
    plot_precision_recall_curve,
    plot_reliability,
    plot_roc,
)
from edgeclf_runtime.errors import EdgeclfError, UsageError

NAMES = {
    2: ["background", "wave"],
    4: ["background", "paper", "rock", "scissors"],
    20: ["background", "a rather long gesture's name", "costs $5 or $6", *(f"gesture_{i}" for i in range(17))],
}
OF_PROBABILITIES = [plot_cm, plot_precision_recall_curve, plot_roc, plot_reliability]


def frames(classes, count=300, seed=0):
    """Labels, some left out and one class missing, and probabilities that are right more often than not."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), labels] += 1.5
    if classes > 2:
        labels[labels == 2] = 1
    labels[rng.random(count) < 0.1] = -1
    return torch.from_numpy(logits).softmax(1), torch.from_numpy(labels)


def kept(probabilities, labels):
    return probabilities[labels >= 0].numpy(), labels[labels >= 0].numpy()


def cells(axes):
    """The numbers that stand in a matrix: percentage and count by row and column."""
    found = {}
    for text in axes.texts:
        column, row = text.get_position()
        share, count = text.get_text().split("%\n")
        found[int(row), int(column)] = (float(share), int(count))
    return found


@pytest.mark.parametrize("classes", [2, 4, 20])
def test_confusion_is_scikit_learns_in_numbers_and_colours(classes):
    probabilities, labels = frames(classes)
    figure = plot_cm(probabilities, labels, NAMES[classes])
    confusion, errors = figure.axes[:2]
    scores, right = kept(probabilities, labels)
    counts = metrics.confusion_matrix(right, scores.argmax(1), labels=range(classes))
    sums = counts.sum(1)
    expected = {(r, c): (100 * counts[r, c] / sums[r], counts[r, c]) for r, c in np.argwhere(counts > 0).tolist()}
    for axes, wanted in (
        (confusion, expected),
        (errors, {(r, c): value for (r, c), value in expected.items() if r != c}),
    ):
        shown = cells(axes)
        assert {at: count for at, (_, count) in shown.items()} == {at: count for at, (_, count) in wanted.items()}
        assert [shown[at][0] for at in wanted] == pytest.approx([share for share, _ in wanted.values()], rel=0.06)
    drawn = confusion.images[0].get_array()
    assert np.ma.getmaskarray(drawn).any(axis=1).tolist() == (sums == 0).tolist()
    np.testing.assert_allclose(drawn[sums > 0], counts[sums > 0] / sums[sums > 0, None])
    masked = np.ma.getmaskarray(errors.images[0].get_array())
    assert (masked == (np.eye(classes, dtype=bool) | (sums == 0)[:, None])).all()


def test_predicted_classes_and_probabilities_give_the_same_confusion():
    probabilities, labels = frames(4)
    by_class = confusion_matrix(probabilities.argmax(1), labels, 4)
    assert (confusion_matrix(probabilities, labels, 4) == by_class).all()
    assert (confusion_matrix(probabilities.view(3, 100, 4), labels.view(3, 100), 4) == by_class).all()


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [([0, 1, 1], [0, 1, 1]), ([0, 1, 1], [1, 0, 0]), ([1], [1]), ([1], [0]), ([0, 0], [1, 1])],
    ids=["all right", "all wrong", "one frame, right", "one frame, wrong", "no frame of one class"],
)
def test_confusion_of_few_frames(labels, predictions):
    labels, predictions = torch.tensor(labels), torch.tensor(predictions)
    found = confusion_matrix(predictions, labels, 2)
    assert (found == metrics.confusion_matrix(labels, predictions, labels=[0, 1])).all()
    shown = cells(plot_cm(predictions, labels, NAMES[2]).axes[0])
    assert {at: count for at, (_, count) in shown.items()} == {
        (r, c): found[r, c] for r, c in np.argwhere(found > 0).tolist()
    }


@pytest.mark.parametrize("classes", [2, 4, 20])
@pytest.mark.parametrize(
    ("plot", "name", "score"),
    [(plot_roc, "AUC", metrics.roc_auc_score), (plot_precision_recall_curve, "AP", metrics.average_precision_score)],
)
def test_a_panel_for_each_class_says_scikit_learns_area(plot, name, score, classes):
    probabilities, labels = frames(classes)
    figure = plot(probabilities, labels, NAMES[classes])
    assert len(figure.axes) == classes
    scores, right = kept(probabilities, labels)
    for k, axes in enumerate(figure.axes):
        if classes > 2 and k == 2:  # in no label
            assert "in no label" in axes.texts[0].get_text()
            assert axes.get_legend() is None
            continue
        assert axes.get_legend().get_texts()[0].get_text() == f"{name} {score(right == k, scores[:, k]):.3f}"
        drawn = next(line for line in axes.lines if line.get_label().startswith(name))
        curve = metrics.roc_curve if name == "AUC" else metrics.precision_recall_curve
        options = {"drop_intermediate": False}
        first, second, _ = curve(right == k, scores[:, k], **options)
        x, y = (first, second) if name == "AUC" else (second, first)
        np.testing.assert_allclose(drawn.get_xydata(), np.stack([x, y], 1), atol=1e-6)


def test_reliability_shows_scikit_learns_bins():
    probabilities, labels = frames(4, 2000)
    diagram, histogram = plot_reliability(probabilities, labels, NAMES[4], bins=10).axes
    scores, right = kept(probabilities, labels)
    confidence, is_right = scores.max(1), scores.argmax(1) == right
    shares, means = calibration_curve(is_right, confidence, n_bins=10)
    assert [bar.get_height() for bar in diagram.patches] == pytest.approx(shares)
    (dots,) = [line for line in diagram.lines if line.get_label() == "confidence"]
    assert dots.get_ydata() == pytest.approx(means)
    counts, _ = np.histogram(confidence, bins=10, range=(0, 1))
    assert [bar.get_height() for bar in histogram.patches] == pytest.approx(counts / counts.sum())
    assert f"{len(right)} frames" in histogram.get_title()


@pytest.mark.parametrize("classes", [2, 20])
@pytest.mark.parametrize("plot", OF_PROBABILITIES)
def test_saves_the_picture_that_it_returns(plot, classes, tmp_path: Path):
    probabilities, labels = frames(classes)
    path = tmp_path / "neu é" / "a.png"
    figure = plot(probabilities, labels, NAMES[classes], path=path)
    assert isinstance(figure.canvas, FigureCanvasAgg)
    plot(probabilities, labels, NAMES[classes]).savefig(tmp_path / "returned.png")
    with Image.open(path) as saved, Image.open(tmp_path / "returned.png") as returned:
        assert saved.size == tuple(round(inches * figure.dpi) for inches in figure.get_size_inches())
        assert np.array_equal(np.asarray(saved), np.asarray(returned))
        assert len(saved.convert("RGB").getcolors(1 << 24)) > 10
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("plot", OF_PROBABILITIES)
def test_one_frame_is_enough(plot):
    plot(torch.tensor([[0.25, 0.75]]), torch.tensor([1]), NAMES[2]).canvas.draw()


def test_needs_no_display_and_leaves_pyplot_alone(tmp_path: Path):
    code = (
        "import sys, torch, matplotlib\n"
        "matplotlib.use('svg')\n"
        "from matplotlib import pyplot\n"
        "from edgeclf.utils_metrics import plot_roc\n"
        "plot_roc(torch.tensor([[0.2, 0.8], [0.7, 0.3]]), torch.tensor([1, 0]), ['a', 'b'], path=sys.argv[1])\n"
        "assert pyplot.get_fignums() == []\n"
        "assert matplotlib.get_backend() == 'svg'\n"
    )
    environment = {"OMP_NUM_THREADS": "1", "MPLCONFIGDIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "roc.png"], capture_output=True, text=True, check=False, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "roc.png").stat().st_size > 1000


PROBABILITIES = torch.tensor([[0.2, 0.8], [0.7, 0.3]])


@pytest.mark.parametrize("plot", OF_PROBABILITIES)
@pytest.mark.parametrize(
    ("preds", "labels", "says"),
    [
        (PROBABILITIES, [-1, -1], "no labelled frame"),
        (torch.empty(0, 2), [], "no labelled frame"),
        (PROBABILITIES, [0, 2], "labels go from 0 to 2"),
        (PROBABILITIES, [0, 1, 1], "do not belong to labels of shape"),
        (PROBABILITIES[:, :1], [0, 1], "do not belong to labels of shape"),
    ],
)
def test_what_does_not_fit_is_a_sentence(plot, preds, labels, says):
    with pytest.raises(EdgeclfError, match=says):
        plot(preds, torch.tensor(labels, dtype=torch.int64), NAMES[2])


@pytest.mark.parametrize("plot", OF_PROBABILITIES[1:])
def test_logits_are_no_probabilities(plot):
    with pytest.raises(EdgeclfError, match="apply softmax"):
        plot(torch.tensor([[3.0, -2.0], [0.0, 1.0]]), torch.tensor([0, 1]), NAMES[2])


def test_predictions_that_are_no_outputs_are_a_sentence():
    with pytest.raises(EdgeclfError, match="predictions go from 0 to 2"):
        plot_cm(torch.tensor([0, 2]), torch.tensor([0, 1]), NAMES[2])
    with pytest.raises(EdgeclfError, match="no outputs"):
        plot_cm(torch.tensor([0.4, 0.2]), torch.tensor([0, 1]), NAMES[2])


def test_probabilities_that_are_no_numbers_have_no_curve():
    broken = torch.full((2, 2), torch.nan)
    for plot in (plot_roc, plot_precision_recall_curve):
        axes = plot(broken, torch.tensor([0, 1]), NAMES[2]).axes
        assert all("not a number" in panel.texts[0].get_text() for panel in axes)


def test_probabilities_that_are_no_numbers_have_no_reliability():
    broken = torch.tensor([[0.2, 0.8], [torch.nan, torch.nan]])
    figure = plot_reliability(broken, torch.tensor([0, 1]), NAMES[2])
    figure.canvas.draw()
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == ["no diagram:\na probability is not a number"]
        assert axes.get_title() == ""


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path):
    (tmp_path / "file").touch()
    for path, says in ((tmp_path, "ends in one of"), (tmp_path / "file" / "a.png", "cannot be written there")):
        with pytest.raises(UsageError, match=says):
            plot_roc(PROBABILITIES, torch.tensor([1, 0]), NAMES[2], path=path)
