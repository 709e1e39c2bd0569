"""Pages opened in a browser without a network, and what could be seen there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


def find_chromium() -> str | None:
    """Returns the browser: `EDGECLF_CHROMIUM`, else one on the PATH; None where there is none."""
    candidates = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("EDGECLF_CHROMIUM") or next(filter(None, map(shutil.which, candidates)), None)


@dataclass(frozen=True)
class OpenedPage:
    """A page as the browser shows it.

    Attributes:
        console: Errors and warnings of the console, and exceptions of scripts.
        requests: What it asked for besides itself and what it holds as data, on a network or beside it.
        pictures: Width and height of each picture's file in pixels; 0 where it could not be shown.
        overflow: By how many pixels it is wider than the window: over 0, it scrolls sideways.
        text: What a reader can read.
    """

    console: list[str]
    requests: list[str]
    pictures: list[tuple[int, int]]
    overflow: int
    text: str
    _save: Callable[[Path], None]

    def screenshot(self, path: Path) -> None:
        """Saves a picture (.png) of the page from top to bottom."""
        self._save(path)


class Browser:
    """A Chromium without a window.

    It is driven from a thread of its own: Playwright leaves an event loop running in the thread that it is used in, in
    which no other test could run one.

    Args:
        executable: Chromium or Chrome.
    """

    def __init__(self, executable: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="browser")
        self._playwright, self._browser = self._do(lambda: _launched(executable))
        self._contexts: list[Any] = []

    def open(self, path: Path, width: int = 1280, height: int = 900) -> OpenedPage:
        """Opens a file in a window of a size in pixels; it stays open until `close_pages`."""
        return self._do(lambda: self._open(path, width, height))

    def close_pages(self) -> None:
        """Closes what was opened."""
        while self._contexts:
            self._do(self._contexts.pop().close)

    def close(self) -> None:
        """Ends the browser."""
        self._do(self._browser.close)
        self._do(self._playwright.stop)
        self._thread.shutdown()

    def _do(self, work: Callable[[], Result]) -> Result:
        return self._thread.submit(work).result()

    def _open(self, path: Path, width: int, height: int) -> OpenedPage:
        context = self._browser.new_context(viewport={"width": width, "height": height}, offline=True)
        self._contexts.append(context)
        page = context.new_page()
        own, console, requests = path.resolve().as_uri(), list[str](), list[str]()
        page.on("console", lambda said: console.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: console.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith((own, "data:")) else requests.append(asked.url))

        def save(file: Path) -> None:
            self._do(lambda: page.screenshot(path=file, full_page=True))

        page.goto(own, wait_until="load")
        # A picture is there before it is decoded; one that cannot be refuses, and its size is 0.
        pictures = page.evaluate(
            "Promise.all([...document.images].map(async image => {"
            " await image.decode().catch(() => {}); return [image.naturalWidth, image.naturalHeight] }))"
        )
        return OpenedPage(
            console,
            requests,
            [(width, height) for width, height in pictures],
            page.evaluate("document.documentElement.scrollWidth - window.innerWidth"),
            page.inner_text("body"),
            save,
        )


def _launched(executable: str) -> tuple[Any, Any]:
    from playwright.sync_api import sync_playwright

    playwright = sync_playwright().start()
    try:
        # Chromium's own sandbox does not start for root, and pages here are ours.
        return playwright, playwright.chromium.launch(executable_path=executable, chromium_sandbox=False)
    except Exception:
        playwright.stop()
        raise
