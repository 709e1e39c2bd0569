"""Parity: is the exported file still the same classifier, over a whole split of a data set?"""

from __future__ import annotations

from edgeclf_export.parity.check import ParityCheck, check_parity, compare
from edgeclf_export.parity.report import KpiComparison, ParityReport

__all__ = ["KpiComparison", "ParityCheck", "ParityReport", "check_parity", "compare"]
