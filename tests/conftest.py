"""What tests share: the real recordings, and small trained-looking classifiers and data sets made once a process."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Tests run in as many processes as there are cores; more threads in each would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Puts back what a command that runs in this process sets, so that no other test sees it."""
    loggers = [logging.getLogger(name) for name in ("edgeclf", "edgeclf_export", "edgeclf_runtime")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings; the test is skipped, saying so, where it is not there."""
    folder = Path(os.environ.get("EDGECLF_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real recordings are not at {folder}; set EDGECLF_TEST_DATA to their folder")
    return folder
