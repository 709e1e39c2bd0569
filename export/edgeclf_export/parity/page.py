"""The page of a parity check: the verdict, the KPIs, and where, when and how the two sides part company."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from pathlib import Path

from matplotlib.figure import Figure

from edgeclf.page import Page
from edgeclf_export.parity.pictures import (
    CURVES_SHOWN,
    MARKED_CELLS,
    draw_confusion,
    draw_confusion_difference,
    draw_drift,
    draw_precision_recall,
    draw_roc,
    draw_times_to_prediction,
    frames_text,
    times_to_prediction,
)
from edgeclf_export.parity.report import Drift, KpiComparison, McNemar, ParityReport, Parting
from edgeclf_export.parity.timeline import Timeline, draw_timeline, worst_timelines

NOTHING = "–"
"""Stands where there is no value."""


def write_parity_page(
    path: Path,
    report: ParityReport,
    facts: Sequence[tuple[str, str]],
    stream: tuple[Figure, str] | None = None,
) -> None:
    """Writes what a parity check found as one HTML file that needs nothing beside it.

    Args:
        path: The `.html` file.
        report: What the comparison found.
        facts: What was compared, name and value.
        stream: A picture to show before anything else, and its caption.

    Raises:
        UsageError: Where nothing can be written there.
    """
    page = Page("KPI parity", bool(report))
    page.facts([*facts, *_found(report)])
    if stream is not None:
        page.heading("The stream")
        page.figures(stream)
    _add_kpis(page, report)
    _add_parting(page, report)
    page.heading("Which side is right more often", mcnemar_text(report.mcnemar))
    _add_confusion(page, report)
    _add_curves(page, report)
    page.heading("Time to prediction", _never_recognised_text(report))
    page.figures((draw_times_to_prediction(report), "Filled: the reference. Outline: the exported file."))
    _add_drift(page, report)
    _add_timelines(page, report)
    page.write(path)


def mcnemar_text(test: McNemar) -> str:
    """Returns what McNemar's test says, in words."""
    reference, exported = test.only_reference_right, test.only_exported_right
    if not reference + exported:
        return "There is no labelled frame that one side alone names rightly, so neither is the better one."
    verdict = (
        "So uneven a split is hardly chance: one side is the better classifier here."
        if test.p_value < 0.05
        else "So uneven a split may well be chance: neither is shown to be the better classifier."
    )
    return (
        f"Of the labelled frames, the reference alone names {reference} rightly and the exported file alone {exported}."
        f" McNemar's test, exact and two-sided: p = {test.p_value:.2g}. {verdict}"
    )


def drift_text(drift: Drift | None) -> str:
    """Returns in words how far the states are apart, and whether that grows with time."""
    if drift is None:
        return "One of the two sides keeps its state to itself, or has none, so there is nothing to compare."
    explained = (
        "How far the two sides' state is apart after each frame, over all tensors, as a share of the reference's state."
    )
    if not (drift.largest > 0).any():
        return f"{explained} It is the same to the last bit, in every frame of every recording."
    grows = "it grows with time" if drift.grows else "it does not grow with time"
    return f"{explained} The median is {drift.early:.1e} early in a recording and {drift.late:.1e} late in it: {grows}."


def _found(report: ParityReport) -> list[tuple[str, str]]:
    found = [
        ("compared", f"{frames_text(report.frames)} of {len(report.reference.recordings)} recordings"),
        ("same class", f"{report.top1_agreement:.4%} of the frames"),
        (
            "other class",
            f"{frames_text(report.disagreements)}, {report.ties} of which are ties: the reference itself is undecided",
        ),
        ("largest difference of a logit", f"{report.max_abs_logit_difference:.3g}"),
    ]
    return found if report.disagreements else [row for row in found if row[0] != "other class"]


def _add_kpis(page: Page, report: ParityReport) -> None:
    undefined = any(isnan(kpi.reference) or isnan(kpi.exported) for kpi in report.kpis.values())
    failed = sum(not kpi.passed for kpi in report.kpis.values())
    page.heading(
        "KPIs",
        (f"{failed} of {len(report.kpis)} differ beyond their tolerance. " if failed else "All are within tolerance. ")
        + f"Reference: {report.reference.name}. Exported: {report.exported.name}. Both ran over every frame of the "
        "same recordings, each with its own memory."
        + (f" {NOTHING}: not defined on this split; it passes where neither side is." if undefined else ""),
    )
    page.table(
        ("KPI", "reference", "exported", "difference", "tolerance", ""),
        [_kpi_row(name, kpi) for name, kpi in report.kpis.items()],
    )


def _kpi_row(name: str, kpi: KpiComparison) -> tuple[str, ...]:
    difference = NOTHING if isnan(kpi.reference) or isnan(kpi.exported) else kpi.difference_text
    return (
        name,
        _value(name, kpi.reference),
        _value(name, kpi.exported),
        difference,
        f"{kpi.tolerance:.2g}",
        "passed" if kpi.passed else "failed",
    )


def _value(name: str, value: float) -> str:
    if isnan(value):
        return NOTHING
    return f"{value:.1f}" if name.endswith("_ms") else f"{value:g}" if name.endswith("_recognised") else f"{value:.4f}"


def _add_parting(page: Page, report: ParityReport) -> None:
    parting, largest = report.first_parting, report.largest_parting
    title = "Where they first part company"
    if parting is None:
        page.heading(
            title,
            "They never do: both name the same class in every frame. Their probabilities differ most in "
            f"{_place(largest)}, where they are:",
        )
        _add_probabilities(page, largest)
        return
    furthest = "" if _same_frame(parting, largest) else f" Probabilities differ most in {_place(largest)}."
    page.heading(
        title,
        f"In {_place(parting)}. The reference names {parting.reference_label}, the exported file "
        f"{parting.exported_label}. The probabilities there are below.{furthest}",
    )
    _add_probabilities(page, parting)


def _same_frame(one: Parting, other: Parting) -> bool:
    return (one.recording, one.frame) == (other.recording, other.frame)


def _place(parting: Parting) -> str:
    time = "" if parting.t_us is None else f", which ends at {parting.t_us / 1e6:.3f} s"
    return f"frame {parting.frame} of {parting.recording}{time}"


def _add_probabilities(page: Page, parting: Parting) -> None:
    page.table(
        ("class", "reference", "exported", "difference"),
        [
            (label, f"{value:.4f}", f"{parting.exported[label]:.4f}", f"{parting.exported[label] - value:+.1e}")
            for label, value in parting.reference.items()
        ],
    )


def _add_confusion(page: Page, report: ParityReport) -> None:
    numbers = "Numbers are frames. " if len(report.labels) <= MARKED_CELLS else ""
    page.heading(
        "Confusion",
        f"{numbers}Rows are the right classes, columns the named ones; colours are shares of the row, and in the "
        "difference frames: red where the exported file has more, blue where it has fewer.",
    )
    page.figures(
        (draw_confusion(report.reference, report.labels), "The reference."),
        (draw_confusion(report.exported, report.labels), "The exported file."),
        (draw_confusion_difference(report), "Exported minus reference."),
    )


def _add_curves(page: Page, report: ParityReport) -> None:
    count = len(report.labels)
    which = (
        f" Of {count} classes, the {CURVES_SHOWN} whose areas differ most are drawn." if count > CURVES_SHOWN else ""
    )
    page.heading(
        "Curves of each class against all others",
        f"The exported file's is dashed and lies over the reference's: equal curves show as one.{which}",
    )
    page.figures(
        (draw_roc(report), "Receiver operating characteristic; AUC is the area under it."),
        (draw_precision_recall(report), "Precision over recall; AP is the average precision."),
    )


def _never_recognised_text(report: ParityReport) -> str:
    reference, exported = times_to_prediction(report)
    if not reference.gestures:
        return "There is no gesture in the labels of this split."
    never = reference.never_recognised, exported.never_recognised
    if not any(never):
        return f"Of {reference.gestures} gestures, both sides recognise every one before its end."
    return (
        f"Of {reference.gestures} gestures, the reference never recognises {never[0]} and the exported file {never[1]}."
        " These are not in the picture."
    )


def _add_drift(page: Page, report: ParityReport) -> None:
    page.heading("Drift of the state", drift_text(report.drift))
    if report.drift is not None and (report.drift.largest > 0).any():
        page.figures((draw_drift(report.drift, report.delta_t), "Over all recordings, on a logarithmic axis."))


def _add_timelines(page: Page, report: ParityReport) -> None:
    worst = worst_timelines(report)
    highest = max(float(line.difference.max()) for line in worst)
    page.heading(
        "The recordings that differ most",
        "From top to bottom: what is right, what each side names, a mark wherever they name different classes, and the "
        "largest difference of a probability in each frame, to one scale in all. Frames without a label are hatched. "
        "First come the recordings with most such marks, then those whose probabilities differ most, then those that "
        "are named wrongly most.",
    )
    page.figures(*((draw_timeline(line, report.labels, highest), _accuracy_text(line)) for line in worst))


def _accuracy_text(line: Timeline) -> str:
    if isnan(line.accuracy):
        return f"{line.name}: no frame is labelled."
    return f"{line.name}: the exported file names {line.accuracy:.1%} of the labelled frames rightly."
