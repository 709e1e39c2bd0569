from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from edgeclf.figures import new_figure
from edgeclf.page import Page
from edgeclf_export.parity.page import write_parity_page
from edgeclf_export.parity.report import Drift, DriftVerdict, KpiComparison, ParityReport
from edgeclf_export.parity.text import drift_text, mcnemar_text, parting_text, reasons_text
from tests.browser import OpenedPage
from tests.edgeclf_export.parity.made_up import ELEVEN, FOUR, made_up, recording, report_of

FACTS = [("checkpoint", "best.ckpt"), ("exported", "<best> & newest.onnx")]


@pytest.fixture(scope="module", params=["4 classes", pytest.param("400 recordings", marks=pytest.mark.slow)])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ParityReport]:
    """A page with all its pictures, and what it shows."""
    path = tmp_path_factory.mktemp("page") / "parity.html"
    report = made_up(FOUR) if request.param == "4 classes" else made_up(ELEVEN, recordings=400, frames=30)
    write_parity_page(path, report, FACTS, (new_figure(3, 2), "the stream's picture"))
    return path, report


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_reads_in_a_browser_without_a_network(
    width: int, written: tuple[Path, ParityReport], open_page: Callable[..., OpenedPage]
) -> None:
    path, report = written
    page = open_page(path, width=width)
    assert page.console == []
    assert page.requests == []
    assert page.overflow == 0
    assert len(page.pictures) == 1 + 3 + 2 + 1 + 1 + 6  # stream, confusion, curves, times, drift, worst recordings
    assert all(min(size) > 0 for size in page.pictures)
    parting = report.first_parting
    assert parting is not None
    in_order = (
        "KPI parity: failed",
        "<best> & newest.onnx",
        f"{report.frames} frames of {len(report.reference.recordings)} recordings",
        "The stream",
        "the stream's picture",
        "KPIs",
        "recall_background",
        f"frame {parting.frame} of {parting.recording}",
        f"the reference names {parting.reference_label}",
        "Which side is right more often",
        "Confusion",
        "Exported minus reference",
        "Curves of each class",
        "Time to prediction",
        "Drift of the state",
        "The recordings that differ most",
    )
    places = [page.text.find(part) for part in in_order]
    assert -1 not in places, in_order[places.index(-1)]
    assert places == sorted(places)


def test_a_page_stays_small_however_many_recordings_it_is_about(written: tuple[Path, ParityReport]) -> None:
    assert written[0].stat().st_size < 2e6


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves a page's pictures out, which are most of the work, but not their captions."""

    def captions(page: Page, *figures: tuple[Figure, str]) -> None:
        page.table(("picture",), [(caption,) for _, caption in figures])

    monkeypatch.setattr(Page, "figures", captions)


def text_of(report: ParityReport, path: Path) -> str:
    write_parity_page(path, report, FACTS)
    return path.read_text(encoding="utf-8")


@pytest.mark.usefixtures("bare")
def test_a_pass_says_that_they_never_part_and_where_they_differ_most(tmp_path: Path) -> None:
    report = made_up(FOUR, noise=1e-6)
    text = text_of(report, tmp_path / "parity.html")
    assert 'parity: <span class="passed">passed</span>' in text
    assert "All are within tolerance." in text
    assert "Both name the same class in every frame." in text
    assert f"frame {report.largest_parting.frame} of {report.largest_parting.recording}" in text
    assert "why it failed" not in text


@pytest.mark.usefixtures("bare")
def test_a_kpi_without_a_value_is_a_dash_with_a_note(tmp_path: Path) -> None:
    report = made_up(FOUR)
    kpis = {
        "recall_rock": KpiComparison(math.nan, math.nan, 1e-3),
        "auroc_rock": KpiComparison(0.5, math.nan, 1e-3),
        "t2p_median_ms": KpiComparison(40.0, 60.0, 1.0),
    }
    text = text_of(replace(report, kpis=kpis), tmp_path / "parity.html")
    table = text.replace("<wbr>", "").split("<h2>KPIs")[1].split("<tbody>")[1].split("</tbody>")[0]
    cells = [[cell.split(">")[-1] for cell in row.split("</td>")[:-1]] for row in table.split("</tr>")[:-1]]
    assert cells == [
        ["recall_rock", "–", "–", "–", "0.001", "passed"],
        ["auroc_rock", "0.5000", "–", "–", "0.001", "failed"],
        ["t2p_median_ms", "40.0", "60.0", "+2.0e+01", "1", "failed"],
    ]
    assert "nan" not in text.split("<h2>Confusion")[0].split("<body>")[1]
    assert "–: not defined on this split" in text
    assert "2 of 3 differ beyond their tolerance" in text


@pytest.mark.usefixtures("bare")
def test_the_page_says_what_the_terminal_does(tmp_path: Path) -> None:
    """Of what is in words: the terminal's lines are tested beside the command."""
    report = replace(made_up(FOUR), problems=("the state is not finite in recording_001",), drift=None, no_drift="why")
    text = text_of(report, tmp_path / "parity.html")
    for said in (reasons_text(report), mcnemar_text(report), drift_text(report), parting_text(report)):
        assert escape(said) in text
    assert "<td>why it failed</td>" in text
    assert "the state is not finite in recording_001</td>" in text


def drift(early: float, late: float, verdict: DriftVerdict = "even") -> Drift:
    values = np.array([early] * 4 + [late])
    return Drift(values, values, np.full(5, 3), early, late, verdict)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("found", "pictures"),
    [(None, 0), (drift(0, 0), 0), (drift(1e-6, 2e-6), 1), (drift(0, np.inf, "apart"), 1), (drift(0, np.nan), 1)],
)
def test_drift_has_a_picture_where_there_is_something_to_see(
    found: Drift | None, pictures: int, tmp_path: Path
) -> None:
    text = text_of(replace(made_up(FOUR, recordings=2), drift=found), tmp_path / "parity.html")
    section = text.split("<h2>Drift of the state")[1].split("<h2>")[0]
    assert section.count("on a logarithmic axis") == pictures


@pytest.mark.parametrize("broken", [math.inf, math.nan])
def test_a_broken_model_has_a_page(broken: float, tmp_path: Path) -> None:
    """As one that overflows in half precision, from the middle of a recording on."""
    reference = [recording(f"{k}", 30, 4, np.random.default_rng(k)) for k in range(3)]
    logits = reference[1].logits.clone()
    logits[15:] = broken
    report = report_of(reference, [reference[0], replace(reference[1], logits=logits), reference[2]], FOUR)
    assert report.drift is not None
    largest = np.where(np.arange(30) < 15, 1e-3, broken)
    report = replace(report, drift=replace(report.drift, largest=largest, verdict="apart"))
    text = text_of(report, tmp_path / "parity.html")
    assert "not a number" in text.split("<h2>Where they first")[1].split("<h2>")[0]
    assert "In 15 of 30 frames it is not finite in some recording." in text


@pytest.mark.usefixtures("bare")
def test_recordings_without_times_and_frames_without_a_duration_have_a_page(tmp_path: Path) -> None:
    report = made_up(FOUR, recordings=2)
    sides = [
        replace(side, recordings=[replace(r, end_us=None) for r in side.recordings])
        for side in (report.reference, report.exported)
    ]
    parting = replace(report.largest_parting, t_us=None)
    untimed = replace(
        report, reference=sides[0], exported=sides[1], delta_t=None, first_parting=parting, largest_parting=parting
    )
    text = text_of(untimed, tmp_path / "parity.html")
    assert "which ends at" not in text
    assert "Probabilities differ most" not in text  # it is the same frame
