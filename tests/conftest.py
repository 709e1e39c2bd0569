"""What tests share: the real recordings, and small trained-looking classifiers and data sets made once a process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.browser import Browser, OpenedPage, find_chromium

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


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser for the whole session; the tests are skipped, saying so, where there is none, but fail in CI."""
    executable = find_chromium()
    if executable is None:
        missing = "no Chromium is on the PATH; install it, or set EDGECLF_CHROMIUM to one"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    started = Browser(executable)
    yield started
    started.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., OpenedPage]]:
    """Opens a page: `open_page(path, width=1280, height=900)`; see `OpenedPage` for what is known of it then."""
    yield browser.open
    browser.close_pages()
