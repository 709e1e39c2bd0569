from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn import metrics

from edgeclf.utils_metrics import Curve
from edgeclf_export.parity.pictures import (
    ClassCurves,
    confusion_difference,
    draw_confusion,
    draw_confusion_difference,
    draw_drift,
    draw_precision_recall,
    draw_roc,
    draw_times_to_prediction,
    most_different,
    precision_recall_curves,
    roc_curves,
    side_confusion,
    thinned,
    times_to_prediction,
)
from edgeclf_export.parity.report import Drift, ParityReport, Side
from tests.edgeclf_export.parity.made_up import DELTA_T, ELEVEN, FOUR, made_up, recording, report_of, with_noise

MANY = ("background", *(f"gesture {k}" for k in range(19)))


@pytest.fixture(scope="module", params=[FOUR, ELEVEN, MANY], ids=["4 classes", "11 classes", "20 classes"])
def report(request: pytest.FixtureRequest) -> ParityReport:
    return made_up(request.param, recordings=12)


def frames_of(side: Side) -> tuple[np.ndarray, np.ndarray]:
    """Right classes and probabilities of the labelled frames."""
    labels = np.concatenate([r.labels.numpy() for r in side.recordings])
    logits = np.concatenate([r.logits.double().numpy() for r in side.recordings])
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels[labels >= 0], scores[labels >= 0]


def numbers_in(axes) -> dict[tuple[int, int], int]:
    return {tuple(map(int, text.get_position()[::-1])): int(text.get_text().replace("−", "-")) for text in axes.texts}


def test_confusion_and_its_difference_are_scikit_learns(report: ParityReport) -> None:
    sides = []
    for side in (report.reference, report.exported):
        labels, scores = frames_of(side)
        sides.append(metrics.confusion_matrix(labels, scores.argmax(1), labels=range(len(report.labels))))
        np.testing.assert_array_equal(side_confusion(side, report.labels), sides[-1])
    assert (sides[0] != sides[1]).any()
    np.testing.assert_array_equal(confusion_difference(report), sides[1] - sides[0])


def test_the_difference_is_drawn_in_signed_frames_on_a_scale_around_zero(report: ParityReport) -> None:
    axes = draw_confusion_difference(report).axes[0]
    difference = confusion_difference(report)
    image = axes.images[0]
    np.testing.assert_array_equal(image.get_array(), difference)
    assert image.norm.vmin == -image.norm.vmax == -abs(difference).max()
    if len(report.labels) <= 12:
        assert numbers_in(axes) == {(r, c): difference[r, c] for r, c in np.argwhere(difference).tolist()}
    else:  # numbers would not fit: the scale of the colours stands in for them
        assert not axes.texts
        assert len(axes.figure.axes) == 2


def test_the_confusion_of_a_side_shows_its_frames() -> None:
    report = made_up(FOUR)
    counts = side_confusion(report.exported, FOUR)
    axes = draw_confusion(report.exported, FOUR).axes[0]
    assert numbers_in(axes) == {(r, c): counts[r, c] for r, c in np.argwhere(counts).tolist()}
    assert f"of {counts.sum()} labelled frames" in axes.get_title()


def test_equal_sides_have_no_difference() -> None:
    figure = draw_confusion_difference(made_up(FOUR, noise=0.0))
    assert figure.axes[0].get_title() == "no difference in any cell"
    assert not figure.axes[0].texts


def test_areas_under_the_curves_are_scikit_learns(report: ParityReport) -> None:
    labels, reference = frames_of(report.reference)
    _, exported = frames_of(report.exported)
    for curves, area in (
        (roc_curves(report), metrics.roc_auc_score),
        (precision_recall_curves(report), metrics.average_precision_score),
    ):
        assert [curve.label for curve in curves] == list(report.labels)
        for k, curve in enumerate(curves):
            if not (labels == k).any():
                assert curve.reference.missing
                assert curve.exported.missing
                continue
            assert curve.reference.area == pytest.approx(area(labels == k, reference[:, k]), abs=1e-5)
            assert curve.exported.area == pytest.approx(area(labels == k, exported[:, k]), abs=1e-5)


@pytest.mark.parametrize("draw", [draw_roc, draw_precision_recall])
def test_a_panel_for_each_class_has_the_reference_solid_and_the_exported_file_dashed(draw) -> None:
    report = made_up(ELEVEN, recordings=60)
    figure = draw(report)
    assert len(figure.axes) == len(ELEVEN)
    for axes, label in zip(figure.axes, ELEVEN, strict=True):
        assert axes.get_title().startswith(f"{label}\n")
        assert [line.get_linestyle() for line in axes.lines] == ["-", "--"]
    same = draw(made_up(ELEVEN, recordings=60, noise=0.0))
    for axes in same.axes:
        np.testing.assert_array_equal(axes.lines[0].get_xydata(), axes.lines[1].get_xydata())
        assert "→" not in axes.get_title()


def test_a_class_without_a_frame_says_why_it_has_no_curve() -> None:
    report = made_up(FOUR, recordings=1)  # one gesture: two classes are in no label
    missing = [axes for axes in draw_roc(report).axes if not axes.lines]
    assert len(missing) == 2
    assert all("in no label" in axes.texts[0].get_text() for axes in missing)


def test_of_many_classes_those_that_differ_most_are_drawn() -> None:
    def curve(area: float) -> Curve:
        return Curve(torch.zeros(2), torch.zeros(2), area)

    curves = [ClassCurves(str(k), curve(0.5), curve(0.5 + 0.01 * (k % 15))) for k in range(20)]
    curves[3] = ClassCurves("3", curve(0.5), curve(float("nan")))  # one side alone has no curve
    assert [found.label for found in most_different(curves)] == ["3", *map(str, range(4, 15))]
    assert len(draw_roc(made_up(MANY)).axes) == 12


def test_a_thinned_curve_is_short_and_nowhere_far_from_the_whole_one() -> None:
    rng = np.random.default_rng(0)
    steps = np.sort(rng.random((2, 50_000)), axis=1)
    curve = Curve(torch.from_numpy(steps[0]), torch.from_numpy(steps[1]), 0.5)
    x, y = thinned(curve)
    assert len(x) < 5000
    assert (x[0], y[0], x[-1], y[-1]) == (steps[0, 0], steps[1, 0], steps[0, -1], steps[1, -1])
    assert abs(np.interp(steps[0], x, y) - steps[1]).max() < 1 / 250


def test_histograms_of_the_times_count_every_recognised_gesture_of_both_sides() -> None:
    report = made_up(FOUR, recordings=40)
    sides = times_to_prediction(report)
    for time, side in zip(sides, (report.reference, report.exported), strict=True):
        assert time.median_ms == side.kpis["t2p_median_ms"]
    axes = draw_times_to_prediction(report).axes[0]
    heights = [patch.get_data().values for patch in axes.patches]
    assert [h.sum() for h in heights] == [len(time.latencies_ms) for time in sides]
    assert (heights[0] != heights[1]).any()


def test_rare_times_get_a_log_axis_and_times_without_a_duration_count_frames() -> None:
    rng = np.random.default_rng(0)
    reference = [recording(f"{k}", 10, 4, rng) for k in range(200)]
    reference = [replace(r, logits=torch.eye(4)[r.labels.clamp(min=0)] * 9) for r in reference]
    late = reference[0].logits.clone()
    late[2:6] = torch.tensor([9.0, 0, 0, 0])  # the gesture is in frames 2 to 7
    exported = [replace(reference[0], logits=late), *reference[1:]]
    for delta_t, unit, longest in ((DELTA_T, "ms", 100), (None, "frames", 5)):
        report = report_of(reference, exported, FOUR, delta_t)
        assert float(times_to_prediction(report)[1].latencies_ms.max()) == longest
        axes = draw_times_to_prediction(report).axes[0]
        assert axes.get_xlabel().endswith(unit)
        assert axes.get_yscale() == "log"


def test_gestures_that_are_never_recognised_leave_a_sentence_for_a_picture() -> None:
    rng = np.random.default_rng(0)
    reference = [replace(r, logits=torch.tensor([9.0, 0, 0, 0]).expand(20, 4)) for r in [recording("a", 20, 4, rng)]]
    report = report_of(reference, reference, FOUR)
    assert times_to_prediction(report)[0].never_recognised == 1
    assert draw_times_to_prediction(report).axes[0].texts[0].get_text() == "no gesture was recognised"


@pytest.mark.parametrize(("delta_t", "last"), [(DELTA_T, 0.08), (None, 4)])
def test_drift_is_drawn_over_time_with_frames_that_are_equal_left_out(delta_t: int | None, last: float) -> None:
    values = np.array([0.0, 1e-6, 2e-6, 3e-6])
    drift = Drift(values, 2 * values, np.array([4, 4, 2, 1]), 1e-6, 3e-6)
    axes = draw_drift(drift, delta_t).axes[0]
    assert axes.get_yscale() == "log"
    largest, median, half = axes.lines
    np.testing.assert_array_equal(median.get_ydata(), [np.nan, 1e-6, 2e-6, 3e-6])
    np.testing.assert_array_equal(largest.get_ydata(), [np.nan, 2e-6, 4e-6, 6e-6])
    assert median.get_xdata()[-1] == pytest.approx(last)
    assert half.get_xdata()[0] == pytest.approx(last * 3 / 4)


@pytest.mark.parametrize(
    ("largest", "marked"),
    [
        ([1e-6, 2e-6, np.inf, np.inf], [0.06, 0.08]),
        ([np.nan, 2e-6, 4e-6, np.inf], [0.02, 0.08]),
        ([np.inf] * 4, [0.02, 0.04, 0.06, 0.08]),
        ([np.nan] * 4, [0.02, 0.04, 0.06, 0.08]),
    ],
)
def test_frames_whose_drift_is_not_finite_are_marked_and_the_axis_is_of_the_others(
    largest: list[float], marked: list[float]
) -> None:
    values = np.array(largest)
    figure = draw_drift(Drift(values, values, np.full(4, 2), 1e-6, np.inf), DELTA_T)
    axes = figure.axes[0]
    (marks,) = [line for line in axes.lines if line.get_label() == "not finite"]
    np.testing.assert_allclose(marks.get_xdata(), marked)
    assert "not finite" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert np.isfinite(axes.get_ylim()).all()
    seen = values[np.isfinite(values)]
    if len(seen):
        assert axes.get_ylim() == pytest.approx((1e-6, 1e-5))
    figure.canvas.draw()


def test_of_many_frames_that_are_not_finite_as_many_are_marked_as_can_be_told_apart() -> None:
    values = np.full(50_000, np.inf)
    marks = draw_drift(Drift(values, values, np.full(50_000, 2), np.inf, np.inf), DELTA_T).axes[0].lines[-1]
    assert 400 < len(marks.get_xdata()) < 1000


def test_noise_changes_what_the_second_side_gives() -> None:
    """What the tests above stand on."""
    rng = np.random.default_rng(0)
    one = recording("a", 30, 4, rng)
    assert (with_noise(one, 0.1, rng).logits != one.logits).any()
