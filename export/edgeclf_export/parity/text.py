"""What a parity check found, in words: the terminal and the page say the same."""

from __future__ import annotations

from math import isfinite, isnan

import numpy as np

from edgeclf_export.parity.report import KpiComparison, McNemar, ParityReport, Parting

NOTHING = "–"
"""Stands where there is no value."""
KPI_HEADINGS = ("KPI", "reference", "exported", "difference", "tolerance", "")

_NAMED = 3  # KPIs that a sentence names; the table has them all
_HARDLY_CHANCE = 0.05
_DRIFTS = {
    "even": "it does not go on growing",
    "grows": "it goes on growing",
    "apart": "more than the file's precision explains",
}


def verdict(passed: bool) -> str:
    """Returns how a check, or one KPI of it, came out."""
    return "passed" if passed else "failed"


def frames_text(count: int) -> str:
    """Returns a number of frames in words."""
    return _counted(count, "frame")


def kpi_rows(report: ParityReport) -> list[tuple[str, ...]]:
    """Returns a row under `KPI_HEADINGS` for each KPI."""
    return [_kpi_row(name, kpi) for name, kpi in report.kpis.items()]


def kpis_text(report: ParityReport) -> str:
    """Returns how many KPIs failed, and what a KPI without a value means where there is one."""
    failed = len(report.failed)
    text = f"{failed} of {len(report.kpis)} differ beyond their tolerance." if failed else "All are within tolerance."
    if any(isnan(kpi.reference) or isnan(kpi.exported) for kpi in report.kpis.values()):
        text += f" {NOTHING}: not defined on this split; it passes where neither side is."
    return text


def reasons_text(report: ParityReport) -> str:
    """Returns why the exported file is not the same classifier, as clauses; nothing where it is."""
    failed = report.failed
    more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
    differ = f"{', '.join(failed[:_NAMED])}{more} {'differs' if len(failed) == 1 else 'differ'} beyond tolerance"
    return "; ".join([*([differ] if failed else []), *report.problems])


def findings(report: ParityReport) -> list[tuple[str, str]]:
    """Returns what was compared and how far it is the same, name and value."""
    recordings = _counted(len(report.reference.recordings), "recording")
    return [
        ("compared", f"{report.reference.name} and {report.exported.name}"),
        ("over", f"{frames_text(report.frames)} of {recordings}"),
        ("same class", _same_class_text(report)),
        ("largest difference of a logit", f"{report.max_abs_logit_difference:.2g}"),
    ]


def parting_text(report: ParityReport) -> str:
    """Returns where the two sides first name different classes, and where their probabilities differ most."""
    first, largest = report.first_parting, report.largest_parting
    if first is None:
        return f"Both name the same class in every frame. Their probabilities differ most in {_place(largest)}."
    said = (
        f"In {_place(first)}, the reference names {first.reference_label} "
        f"({probability_text(first.reference[first.reference_label])}) and the exported file {first.exported_label} "
        f"({probability_text(first.exported[first.exported_label])})."
    )
    if (first.recording, first.frame) == (largest.recording, largest.frame):
        return said
    return f"{said} Probabilities differ most in {_place(largest)}."


def probability_text(value: float) -> str:
    """Returns a probability; a broken model gives what is no number."""
    return "not a number" if isnan(value) else f"{value:.4f}"


def mcnemar_text(report: ParityReport) -> str:
    """Returns whether one side is right more often than the other by more than chance.

    The recordings decide: each is a case of its own, and the frames of one are not.
    """
    return f"{_by_recordings_text(report.recordings_mcnemar)} {_by_frames_text(report.mcnemar)}"


def drift_text(report: ParityReport) -> str:
    """Returns how far the states are apart, and whether that grows with time; or why they were not compared."""
    drift = report.drift
    if drift is None:
        return f"Not compared: {report.no_drift}."
    if not (drift.largest != 0).any():  # what is no number is not 0 either
        return "It is the same to the last bit, in every frame of every recording."
    text = (
        f"The relative difference of the states is {_share(drift.early)} early in the median recording and "
        f"{_share(drift.late)} late in it: {_DRIFTS[drift.verdict]}."
    )
    broken = int((~np.isfinite(drift.largest)).sum())
    if not broken:
        return text
    return f"{text} In {broken} of {frames_text(len(drift.largest))} it is not finite in some recording."


def _kpi_row(name: str, kpi: KpiComparison) -> tuple[str, ...]:
    undefined = isnan(kpi.reference) or isnan(kpi.exported)
    return (
        name,
        _value(name, kpi.reference),
        _value(name, kpi.exported),
        NOTHING if undefined else kpi.difference_text,
        f"{kpi.tolerance:.3g}",
        verdict(kpi.passed),
    )


def _value(name: str, value: float) -> str:
    if isnan(value):
        return NOTHING
    return f"{value:.1f}" if name.endswith("_ms") else f"{value:g}" if name.endswith("_recognised") else f"{value:.4f}"


def _same_class_text(report: ParityReport) -> str:
    text = f"{report.top1_agreement:.4%} of the frames"
    if not report.disagreements:
        return text
    return f"{text}, all but {report.disagreements}; {report.ties} of those are ties: the reference itself is undecided"


def _place(parting: Parting) -> str:
    time = "" if parting.t_us is None else f", which ends at {parting.t_us / 1e6:.3f} s"
    return f"frame {parting.frame} of {parting.recording}{time}"


def _by_recordings_text(test: McNemar) -> str:
    reference, exported = test.only_reference_right, test.only_exported_right
    if not reference + exported:
        return "No recording is named rightly by one side alone, so neither is shown to be the better classifier."
    better = "the reference" if reference > exported else "the exported file"
    conclusion = (
        f"So uneven a split is hardly chance: {better} is the better classifier here."
        if test.p_value < _HARDLY_CHANCE
        else "So uneven a split may well be chance: neither is shown to be the better classifier."
    )
    return (
        f"By majority vote, the reference alone names {_counted(reference, 'recording')} rightly and the exported file "
        f"alone {exported}; McNemar's test, exact and two-sided: p = {test.p_value:.2g}. {conclusion}"
    )


def _by_frames_text(test: McNemar) -> str:
    reference, exported = test.only_reference_right, test.only_exported_right
    if not reference + exported:
        return "No labelled frame is named rightly by one side alone."
    return (
        f"Of the labelled frames, it is {reference} and {exported} (p = {test.p_value:.2g}); but frames of one "
        "recording are not independent of each other, so that this p-value overstates the difference."
    )


def _share(value: float) -> str:
    return f"{value:.1e}" if isfinite(value) else "not finite"


def _counted(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"
