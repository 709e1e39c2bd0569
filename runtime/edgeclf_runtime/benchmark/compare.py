"""Two benchmark runs beside each other: what got slower beyond what the runs themselves scatter by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeclf_runtime.benchmark.facts import VARYING
from edgeclf_runtime.benchmark.results import BenchReport, Limit, Ratio, Result, Setting
from edgeclf_runtime.benchmark.statistics import change
from edgeclf_runtime.errors import UsageError


@dataclass(frozen=True)
class Change:
    """A setting that both runs measured.

    Attributes:
        setting: What was measured.
        old_us: The older run's median step.
        new_us: The newer run's.
        times: Newer over older, by the medians of the bursts: over 1 is slower.
    """

    setting: Setting
    old_us: float
    new_us: float
    times: Ratio

    @property
    def is_slower(self) -> bool:
        """Whether it got slower beyond noise: the whole confidence interval says so."""
        return self.times.low > 1

    @property
    def is_faster(self) -> bool:
        """Whether it got faster beyond noise."""
        return self.times.high < 1

    @property
    def verdict(self) -> str:
        """What the two together say, for people."""
        if self.is_slower:
            return "slower"
        return "faster" if self.is_faster else "within noise"

    def to_dict(self) -> dict[str, Any]:
        """Returns what a JSON document says of it."""
        return {
            **vars(self.setting),
            "old_p50_us": self.old_us,
            "new_p50_us": self.new_us,
            "times": vars(self.times),
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Comparison:
    """Two runs compared.

    Attributes:
        changes: The settings that both measured, in the newer run's order.
        only_old: Those that the older run alone measured.
        only_new: Those that the newer run alone measured.
        lost: Those of `only_old` that the newer run was to measure and could not: a setting's name, and why.
        machine: By how many times the machine's own best rate changed, by device and threads; over 1 is faster. Where
            this is far from 1, the machine was another one or another's work held it up, and not the model is at fault.
        differences: Facts about the machine that differ: name, the older run's, the newer one's.
    """

    changes: Sequence[Change]
    only_old: Sequence[Setting]
    only_new: Sequence[Setting]
    lost: Sequence[tuple[str, str]]
    machine: Sequence[tuple[Limit, float]]
    differences: Sequence[tuple[str, str, str]]

    def slower_by(self, share: float) -> list[Change]:
        """Returns what got slower beyond noise and by more than a share, 0.1 being a tenth."""
        return [one for one in self.changes if one.is_slower and one.times.median > 1 + share]

    def to_dict(self) -> dict[str, Any]:
        """Returns the document of `bench --compare --json`."""
        return {
            "changes": [one.to_dict() for one in self.changes],
            "only_old": [vars(setting) for setting in self.only_old],
            "only_new": [vars(setting) for setting in self.only_new],
            "lost": [{"name": name, "reason": why} for name, why in self.lost],
            "machine": [
                {"device": limit.device, "threads": limit.threads, "times": times} for limit, times in self.machine
            ],
            "differences": [{"name": name, "old": before, "new": after} for name, before, after in self.differences],
        }


def compare(old: BenchReport, new: BenchReport) -> Comparison:
    """Compares two runs, setting by setting.

    Raises:
        UsageError: Where they have no setting in common, and the newer one failed with none of the older one's.
    """
    before, after = _by_setting(old), _by_setting(new)
    common = [setting for setting in after if setting in before]
    only_old = [setting for setting in before if setting not in after]
    lost = [(setting.name, why) for setting in only_old for name, why in new.left_out if _is_name_of(name, setting)]
    if not common and not lost:
        raise UsageError(
            "The two runs have no setting in common (model, backend, device, precision, threads, streams, pace); "
            "compare runs of the same models."
        )
    rates = {(limit.device, limit.threads): limit.gmacs_per_second for limit in old.limits}
    names = [name for name in {**old.machine, **new.machine} if name not in VARYING]
    return Comparison(
        [_changed(before[setting], after[setting]) for setting in common],
        only_old,
        [setting for setting in after if setting not in before],
        lost,
        [
            (limit, limit.gmacs_per_second / rates[limit.device, limit.threads])
            for limit in new.limits
            if rates.get((limit.device, limit.threads))
        ],
        [
            (name, str(old.machine.get(name)), str(new.machine.get(name)))
            for name in names
            if old.machine.get(name) != new.machine.get(name)
        ],
    )


def _is_name_of(left_out: str, setting: Setting) -> bool:
    """Whether a setting is one that a run has left out: at all paces, on whatever device it would have come up."""
    before, after = replace(setting, device="\0", pace="back-to-back").name.split("\0")
    return left_out.startswith(before) and left_out.endswith(after)


def _by_setting(report: BenchReport) -> dict[Setting, Result]:
    return {result.setting: result for result in report.results}


def _changed(old: Result, new: Result) -> Change:
    times = change(old.latencies.burst_p50_us, new.latencies.burst_p50_us)
    return Change(new.setting, old.latencies.p50_us, new.latencies.p50_us, times)
