"""`edgeclf bench`: how fast a model is on this machine, beside other ways to run it."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from edgeclf.data.dataset import Split
from edgeclf_export.benchmark.advice import AdviceRequest, advise
from edgeclf_export.benchmark.page import check_can_draw, write_bench_page
from edgeclf_export.benchmark.request import Against, BenchRequest
from edgeclf_export.benchmark.run import Progress, check_runtime, run_bench
from edgeclf_export.benchmark.text import (
    Table,
    as_markdown,
    as_text,
    comparison_table,
    recommendation_table,
    remarks_of,
    tables_of,
)
from edgeclf_export.commands.bench_options import (
    beside_options,
    how_much_options,
    mode_of,
    recommend_options,
    results_options,
)
from edgeclf_export.shipped import find_samples
from edgeclf_runtime.backends import DeviceOptions
from edgeclf_runtime.benchmark.compare import Comparison, compare
from edgeclf_runtime.benchmark.document import read_document, to_document
from edgeclf_runtime.benchmark.results import BenchReport
from edgeclf_runtime.benchmark.run import Plan
from edgeclf_runtime.commands.option_groups import device_options as where_options
from edgeclf_runtime.commands.targets import check_targets
from edgeclf_runtime.console import (
    clear_live,
    json_option,
    say,
    show_live,
    verbosity_options,
    write_json,
)
from edgeclf_runtime.contract_file import model_file
from edgeclf_runtime.errors import CheckFailedError, UsageError
from edgeclf_runtime.files import written_whole
from edgeclf_runtime.machine.cores import usable_cores
from edgeclf_runtime.profile import write_profile

_log = logging.getLogger(__name__)

Request = TypeVar("Request")
Found = TypeVar("Found")


@click.command()
@click.argument("model", nargs=-1, type=click.Path(path_type=Path))
@beside_options
@where_options(with_threads=False)
@how_much_options
@recommend_options
@results_options
@json_option
@verbosity_options
def bench(
    model: tuple[Path, ...],
    against: tuple[Against, ...],
    checkpoint: Path | None,
    baseline: str,
    device_options: DeviceOptions,
    also_on: tuple[str, ...],
    thread_counts: tuple[int, ...],
    streams: tuple[int, ...],
    plan: Plan,
    source: Path | None,
    no_limit: bool,
    markdown: Path | None,
    report: Path | None,
    recommend: Path | None,
    split: Split,
    tolerance: float,
    profile: Path | None,
    show: Path | None,
    compared: tuple[Path, Path] | None,
    fail_over: float | None,
    json_path: str | None,
) -> None:
    """Measure how fast MODEL is on this machine, beside other ways to run it.

    Each candidate has processes of its own, whose bursts take turns in shuffled order; the frames are real, the state
    is fed back, and no step is left out of the percentiles.

    Example: edgeclf bench best.onnx --against ort --against eager --checkpoint best.ckpt --report bench
    """
    mode = mode_of(click.get_current_context())
    if json_path == "-" and str(markdown) == "-":
        raise UsageError("--json and --markdown cannot both go to standard output; give one of them a file.")
    page = None if report is None else report / "bench.html"
    if page is not None:
        check_can_draw()
    files = [model_file(path) for path in model]
    if mode == "recommend":
        profile = profile or files[0].with_name(f"{files[0].stem}.profile.json")
    read = [path for path in (*files, show, *(compared or ()), checkpoint, source) if path is not None]
    check_targets((json_path, markdown, page, profile), read)

    if compared is not None:
        old, new = map(read_document, compared)
        _compare(old, new, fail_over, json_path, markdown)
    elif show is not None:
        _write(read_document(show), json_path, markdown, page)
    elif recommend is not None and profile is not None:
        wanted = AdviceRequest(
            files, recommend, source or find_samples().recording, split, tolerance, device_options.device,
            thread_counts or None, plan,
        )  # fmt: skip
        _recommend(wanted, profile, json_path, markdown)
    else:
        request = BenchRequest(
            files,
            source or find_samples().recording,
            against=tuple(dict.fromkeys(against)),
            checkpoint=checkpoint,
            options=device_options,
            also_on=also_on,
            threads=tuple(dict.fromkeys(thread_counts)) or (usable_cores(),),
            streams=tuple(dict.fromkeys(streams)),
            plan=plan,
            baseline=baseline,
            with_limit=not no_limit,
        )
        found = _watched(run_bench, request)
        _write(found, json_path, markdown, page)
        check_runtime(found)


def _watched(work: Callable[[Request, Progress], Found], request: Request) -> Found:
    """Does some work, and says how far it is."""
    try:
        return work(request, _show_progress)
    finally:
        clear_live()


def _show_progress(what: str, done: int, of: int) -> None:
    show_live(f"{what}: {done} of {of} ({done / max(of, 1):.0%})")


def _write(found: BenchReport, json_path: str | None, markdown: Path | None, page: Path | None) -> None:
    if json_path is not None:
        write_json(json_path, to_document(found))
    if page is not None:
        write_bench_page(page, found)
        say(f"the page: {page}")
    _write_text(tables_of(found), json_path, markdown, remarks_of(found))
    for name, why in found.left_out:
        _log.warning("Left out: %s: %s", name, why)


def _write_text(
    tables: Sequence[Table], json_path: str | None, markdown: Path | None, remarks: Sequence[str] = ()
) -> None:
    if markdown is not None and str(markdown) != "-":
        with written_whole(markdown) as temporary:
            temporary.write_text(as_markdown(tables, remarks), encoding="utf-8")
    if json_path != "-":
        click.echo(as_markdown(tables, remarks) if str(markdown) == "-" else as_text(tables, remarks))


def _recommend(request: AdviceRequest, profile: Path, json_path: str | None, markdown: Path | None) -> None:
    found = _watched(advise, request)
    best = found.row
    write_profile(profile, best.choice.path, best.choice.options, found.measured)
    if json_path is not None:
        write_json(json_path, found.to_dict() | {"profile": str(profile)})
    _write_text([recommendation_table(found)], json_path, markdown)
    for row in found.rows:
        if row.verdict == "refused":
            say(f"{row.choice} is refused: {row.why}.")
    say(f"Recommended: {best.choice}. Run it with: edgeclf run-stream --profile {shlex.quote(str(profile))} SOURCE")


def _compare(
    old: BenchReport, new: BenchReport, fail_over: float | None, json_path: str | None, markdown: Path | None
) -> None:
    found = compare(old, new)
    if json_path is not None:
        write_json(json_path, found.to_dict())
    _write_text([comparison_table(found)], json_path, markdown)
    for sentence in _remarks(found):
        say(sentence)
    if fail_over is None:
        return
    failed = [f"{one.setting.name} ({one.times.median:.2f} times as long)" for one in found.slower_by(fail_over)]
    failed += [f"{name} (not measured any more)" for name, _ in found.lost]
    if failed:
        raise CheckFailedError(f"Slower by more than {fail_over:.0%}, beyond noise: {'; '.join(failed)}.")


def _remarks(found: Comparison) -> list[str]:
    """Returns what has to be known to read a comparison."""
    said = [f"{name}: {before} before, {after} now." for name, before, after in found.differences]
    said += [
        f"The machine's own best rate on {limit.device} with {limit.threads} threads is {times:.2f} times that of the "
        "older run."
        for limit, times in found.machine
    ]
    said += [f"Not measured in the newer run: {name}: {why}" for name, why in found.lost]
    for settings, which in ((found.only_old, "older"), (found.only_new, "newer")):
        if settings:
            names = "; ".join(one.name for one in settings)
            said.append(f"Only in the {which} run: {names}.")
    return said
