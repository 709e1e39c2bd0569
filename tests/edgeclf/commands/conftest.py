"""Running the command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from edgeclf.cli import main


class Ran(NamedTuple):
    """What a command left: its exit code, and what it wrote to standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs `edgeclf` with the arguments given, as the console script does."""

    def ran(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["edgeclf", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Ran(int(ended.value.code or 0), *capsys.readouterr())

    return ran
