from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeclf.evaluation import RecordingLogits
from edgeclf_export.parity.timeline import COLUMNS, draw_timeline, timelines, worst_timelines
from tests.edgeclf_export.parity.made_up import FOUR, made_up, report_of


def named(name: str, classes: list[int], labels: list[int], sure: float = 5.0, ends: list[int] | None = None):
    """A recording whose frames are named so."""
    logits = torch.zeros(len(classes), 4)
    logits[torch.arange(len(classes)), torch.tensor(classes)] = sure
    end_us = None if ends is None else torch.tensor(ends)
    return RecordingLogits(name, torch.tensor(labels), logits, "", end_us)


def test_a_timeline_holds_what_both_sides_give() -> None:
    report = made_up(FOUR)
    for line, one, other in zip(
        timelines(report), report.reference.recordings, report.exported.recordings, strict=True
    ):
        softmax = [np.exp(r.logits.numpy()) / np.exp(r.logits.numpy()).sum(1, keepdims=True) for r in (one, other)]
        np.testing.assert_allclose(line.difference, abs(softmax[0] - softmax[1]).max(1), atol=1e-6)
        np.testing.assert_array_equal(line.reference, one.logits.numpy().argmax(1))
        np.testing.assert_array_equal(line.exported, other.logits.numpy().argmax(1))
        np.testing.assert_allclose(line.edges[1:], one.end_us.numpy() / 1e6)
        assert line.edges[0] == pytest.approx(1.0)
    assert sum(line.disagreements for line in timelines(report)) == report.disagreements


def test_the_worst_come_first_by_disagreements_then_difference_then_accuracy() -> None:
    right = [0, 1, 1, 0]
    reference = [
        named("fine", right, right),
        named("wrong on both sides", [0, 2, 2, 0], right),
        named("noisy", right, right),
        named("one apart", right, right),
        named("two apart", right, right),
        named("no label", right, [-1] * 4),
    ]
    exported = [
        reference[0],
        replace(reference[1], logits=reference[1].logits + 1e-6),
        named("noisy", right, right, sure=2.0),
        named("one apart", [0, 1, 1, 3], right),
        named("two apart", [0, 1, 2, 3], right),
        reference[5],
    ]
    report = report_of(reference, exported, FOUR)
    names = [line.name for line in worst_timelines(report)]
    assert names == ["two apart", "one apart", "noisy", "wrong on both sides", "fine", "no label"]
    assert [line.name for line in worst_timelines(report, 2)] == names[:2]


def test_a_probability_that_is_no_number_differs_as_much_as_can_be() -> None:
    reference = named("a", [0, 1], [0, 1])
    broken = replace(reference, logits=torch.tensor([[5.0, 0, 0, 0], [torch.nan] * 4]))
    (line,) = timelines(report_of([reference], [replace(reference)], FOUR))
    assert line.difference.max() == 0
    report = replace(made_up(FOUR), reference=replace(made_up(FOUR).reference, recordings=[reference]))
    (line,) = timelines(replace(report, exported=replace(report.exported, recordings=[broken])))
    assert line.difference.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("ends", "edges", "unit"),
    [
        ([120_000, 140_000], [0.1, 0.12, 0.14], "s"),
        ([120_000, 150_000], [0.09, 0.12, 0.15], "s"),
        (None, [0, 1, 2], "frames"),
    ],
)
def test_time_is_the_recordings_own_where_it_is_known(ends, edges, unit) -> None:
    one = named("a", [0, 1], [0, 1], ends=ends)
    (line,) = timelines(report_of([one], [one], FOUR))
    assert line.edges.tolist() == pytest.approx(edges)
    assert line.unit == unit


def test_a_long_recording_is_drawn_in_columns_that_lose_no_disagreement() -> None:
    frames = 50_000
    reference = named("long", [0] * frames, [0] * frames)
    logits = reference.logits.clone()
    logits[31_234] = torch.tensor([0, 0, 0, 5.0])
    logits[31_235] = torch.tensor([1, 0, 0.9, 0])  # as far from the reference as from a class of its own, but alike
    (line,) = timelines(report_of([reference], [replace(reference, logits=logits)], FOUR))
    drawn = line.drawn()
    assert len(drawn.labels) == COLUMNS
    assert drawn.disagreements == line.disagreements == 1
    assert drawn.difference.max() == line.difference.max()
    assert (drawn.edges[0], drawn.edges[-1]) == (line.edges[0], line.edges[-1])
    (column,) = np.flatnonzero(drawn.exported == 3)
    assert drawn.edges[column] <= line.edges[31_234] < drawn.edges[column + 1]


def test_strips_are_runs_of_classes_and_marks_where_they_differ() -> None:
    reference = named("a", [0, 1, 1, 0], [-1, 1, 1, 0])
    exported = named("a", [0, 1, 2, 0], [-1, 1, 1, 0])
    (line,) = timelines(report_of([reference], [exported], FOUR))
    strips, curve = draw_timeline(line, FOUR, 1.0).axes
    assert strips.get_title(loc="left") == "a: 1 frame named differently"
    # Labels: left out, background, paper; reference: background, paper; exported: these and rock.
    assert len(strips.patches) == 3 + 2 + 3
    background = strips.patches[3].get_path()
    assert len(background.vertices) == 2 * 5  # two runs, one at each end
    (mark,) = strips.lines
    assert mark.get_xdata().tolist() == pytest.approx([2.5])
    np.testing.assert_allclose(curve.patches[0].get_data().values, line.difference)


def test_recordings_on_which_both_agree_have_no_marks() -> None:
    one = named("a", [0, 1], [0, 1])
    (line,) = timelines(report_of([one], [one], FOUR))
    strips = draw_timeline(line, FOUR, 0.0).axes[0]
    assert strips.get_title(loc="left") == "a: every frame named alike"
    assert not strips.lines
