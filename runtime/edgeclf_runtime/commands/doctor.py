"""`edgeclf doctor`: what this machine can run, what is in the way, and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import click

from edgeclf_runtime.backends.base import Device
from edgeclf_runtime.console import json_option, progress, verbosity_options, write_json
from edgeclf_runtime.errors import DeviceError
from edgeclf_runtime.machine.examination import CHECKS, Finding, Machine


@click.command()
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), default="auto", show_default=True,
              help="What must work, else the exit code is 1. auto: CUDA where it starts, or the CPU.")  # fmt: skip
@json_option
@verbosity_options
def doctor(device: Device, json_path: str | None) -> None:
    """Show what this machine can run: packages, execution providers that really start, what is wrong, how to mend it.

    Example: edgeclf doctor --device cuda
    """
    machine = Machine(device)
    with progress(CHECKS, "Examining") as checks:
        findings = [finding for check in checks for finding in check(machine)]
    problems = [finding for finding in findings if finding.status == "problem"]
    if json_path is not None:
        write_json(
            json_path,
            {"device": device, "works": not problems, "findings": [asdict(finding) for finding in findings]},
        )
    else:
        click.echo(_text(findings))
    if problems:
        raise DeviceError(" ".join(f"{problem.found}; {problem.remedy}." for problem in problems))


def _text(findings: Sequence[Finding]) -> str:
    """Returns a line a finding, and one more for what to do about it."""
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:<9}{finding.subject:<{width}}  {finding.found}")
        if finding.remedy:
            lines.append(f"{'':<9}{'':<{width}}  -> {finding.remedy}")
    return "\n".join(lines)
