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
    times_to_prediction,
)
from edgeclf_export.parity.report import ParityReport, Parting
from edgeclf_export.parity.text import (
    KPI_HEADINGS,
    NOTHING,
    drift_text,
    findings,
    kpi_rows,
    kpis_text,
    mcnemar_text,
    parting_text,
    probability_text,
    reasons_text,
)
from edgeclf_export.parity.timeline import Timeline, draw_timeline, worst_timelines


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
    why = [] if report else [("why it failed", reasons_text(report))]
    page.facts([*why, *facts, *findings(report)])
    if stream is not None:
        page.heading("The stream")
        page.figures(stream)
    _add_kpis(page, report)
    _add_parting(page, report)
    page.heading("Which side is right more often", mcnemar_text(report))
    _add_confusion(page, report)
    _add_curves(page, report)
    page.heading("Time to prediction", _never_recognised_text(report))
    page.figures((draw_times_to_prediction(report), "Filled: the reference. Outline: the exported file."))
    _add_drift(page, report)
    _add_timelines(page, report)
    page.write(path)


def _add_kpis(page: Page, report: ParityReport) -> None:
    page.heading(
        "KPIs",
        f"{kpis_text(report)} Reference: {report.reference.name}. Exported: {report.exported.name}. Both ran over "
        "every frame of the same recordings, each with its own memory.",
    )
    page.table(KPI_HEADINGS, kpi_rows(report))


def _add_parting(page: Page, report: ParityReport) -> None:
    first = report.first_parting
    which = "where probabilities differ most" if first is None else "where they first part company"
    page.heading("Where they first part company", f"{parting_text(report)} The table is of the frame {which}.")
    parting = first or report.largest_parting
    page.table(
        ("class", "reference", "exported", "difference"),
        [_probabilities(parting, label) for label in report.labels],
    )


def _probabilities(parting: Parting, label: str) -> tuple[str, ...]:
    reference, exported = parting.reference[label], parting.exported[label]
    difference = exported - reference
    return (
        label,
        probability_text(reference),
        probability_text(exported),
        NOTHING if isnan(difference) else f"{difference:+.1e}",
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
    drift = report.drift
    if drift is None or not (drift.largest != 0).any():
        page.heading("Drift of the state", drift_text(report))
        return
    page.heading(
        "Drift of the state",
        f"{drift_text(report)} Relative: the difference after a frame, over all tensors, as a share of the reference's "
        "state.",
    )
    page.figures((draw_drift(drift, report.delta_t), "Over all recordings, on a logarithmic axis."))


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
