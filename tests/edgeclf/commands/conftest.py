"""Running the command line in this process."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from edgeclf.cli import main


class Ran(NamedTuple):
    """What a command left: its exit code, and what it wrote to standard output and standard error."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ran]]:
    """Runs `edgeclf` with the arguments given, as the console script does."""
    loggers = [logging.getLogger(name) for name in ("edgeclf", "edgeclf_export", "edgeclf_runtime")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]

    def ran(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["edgeclf", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Ran(int(ended.value.code or 0), *capsys.readouterr())

    yield ran
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
