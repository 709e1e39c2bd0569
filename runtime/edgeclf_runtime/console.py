"""What every command shares: how much it says, and where results go."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import click

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.files import as_text, written_whole

T = TypeVar("T")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_LOGGERS = ("edgeclf", "edgeclf_export", "edgeclf_runtime")
_VERBOSITY = f"{__name__}.verbosity"


def verbosity_options(command: Decorated) -> Decorated:
    """Adds `-q` and `-v` to a command; they act at once and are not passed on. Both together are wrong usage."""

    def set_once(context: click.Context, name: str, level: int) -> None:
        if context.meta.setdefault(_VERBOSITY, name) != name:
            raise click.UsageError("Give one of -q and -v, not both.", context)
        _set_level(level)

    def quiet(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            set_once(context, "-q", logging.ERROR)

    def verbose(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            set_once(context, "-v", logging.DEBUG)

    command = click.option(
        "-q", "--quiet", is_flag=True, expose_value=False, callback=quiet, help="Say nothing but errors."
    )(command)
    return click.option("-v", "--verbose", is_flag=True, expose_value=False, callback=verbose, help="Say more.")(
        command
    )


def check_can_write(target: str | Path) -> None:
    """Raises where a file cannot be written, before the work whose result it shall hold. Nothing is made or changed.

    Folders that are missing are no hindrance, as writing makes them; `-` is standard output, and what is no regular
    file (`/dev/null`, a named pipe) is asked for its rights alone.

    Raises:
        UsageError: Where it is a folder, or where it or the folder that it would stand in may not be written to.
    """
    path = Path(target)
    if str(target) == "-":
        return
    try:
        if path.is_dir():
            raise UsageError(f"{path}: this is a folder; give the name of a file to write.")
        place = path
        if path.is_file() or not path.exists():  # a regular file is replaced, so its folder's rights count
            place = next(folder for folder in path.resolve().parents if folder.exists())
            if not place.is_dir():
                raise UsageError(f"{path}: it cannot be written there, as {place} is no folder; choose another place.")
    except (OSError, RuntimeError) as error:  # names that are too long, links that lead to themselves
        raise UsageError(f"{path}: it cannot be written there ({error}); choose another place.") from error
    if not os.access(place, os.W_OK):
        raise UsageError(f"{path}: it cannot be written there (no right to write to {place}); choose another place.")


def _checked_target(context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not context.resilient_parsing:
        check_can_write(value)
    return value


# Commands work for minutes before they write the document, so where it goes is checked as the command line is read.
json_option = click.option(
    "--json",
    "json_path",
    metavar="FILE",
    callback=_checked_target,
    help="Write what is shown as one JSON document; - for standard output.",
)


def start_logging() -> None:
    """Sends what edgeclf logs to standard error as plain sentences, from INFO on."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [_StandardError()]
        logger.propagate = False
    _set_level(logging.INFO)


def is_quiet() -> bool:
    """Whether `-q` was given."""
    return not logging.getLogger(_LOGGERS[0]).isEnabledFor(logging.INFO)


def say(text: str) -> None:
    """Writes a line for people to standard error, unless `-q`."""
    if not is_quiet():
        _terminal.write_line(text)


def write_json(target: str, document: Any) -> None:
    """Writes a JSON document to a file, or to standard output where `target` is `-`; NaN, which JSON lacks, is null."""
    text = json.dumps(_as_json(document), ensure_ascii=False, indent=2, allow_nan=False)
    if target == "-":
        click.echo(text)
        return
    with written_whole(Path(target)) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, str):
        return as_text(value)
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(header: Sequence[str], rows: Iterable[Sequence[object]], of_words: bool = False) -> str:
    """Returns a table of text: the first column to the left, the others to the right; of words, all to the left."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 or of_words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def progress(items: Iterable[T], label: str, length: int | None = None) -> AbstractContextManager[Iterable[T]]:
    """Returns a progress bar over `items`, on standard error; silent where that is no terminal, and with `-q`."""
    return click.progressbar(items, label=label, length=length, file=sys.stderr, hidden=not _is_watched())


def show_live(text: str) -> None:
    """Shows a text at the bottom of the terminal in place of the one before, cut off where the terminal ends.

    The next thing that `say` or the log writes takes its place. Silent where standard error is no terminal, and with
    `-q`.
    """
    if _is_watched():
        _terminal.show(fitted(text, _columns() - 1))


def clear_live() -> None:
    """Takes the text away that `show_live` has left, if any."""
    _terminal.clear()


def fitted(text: str, columns: int) -> str:
    """Returns a text without control characters that is no wider than `columns` of a terminal.

    Example:
        >>> fitted("rock 0.93", 4), fitted("石头", 3)
        ('rock', '石')
    """
    kept = ""
    for character in text:
        columns -= 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if columns < 0:
            break
        kept += character if character.isprintable() else "?"
    return kept


def _is_watched() -> bool:
    """Whether standard error is a terminal, and `-q` was not given; a service may have no standard error at all."""
    return not is_quiet() and sys.stderr is not None and sys.stderr.isatty()


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80  # a serial line does not know
    except OSError:
        return 80


class _Terminal:
    """Standard error: lines that stay, and below them one text that is written over again and again."""

    _CLEAR = "\r\x1b[K"

    def __init__(self) -> None:
        self._lock = threading.RLock()  # the log may come from any thread, and from a signal handler amid a line
        self._shows_text = False

    def write_line(self, text: str) -> None:
        with self._writing():
            self.clear()
            click.echo(text, err=True)

    def show(self, text: str) -> None:
        with self._writing():
            self._shows_text = True
            sys.stderr.write(self._CLEAR + text)
            sys.stderr.flush()

    def clear(self) -> None:
        with self._writing():
            if self._shows_text:
                self._shows_text = False
                sys.stderr.write(self._CLEAR)
                sys.stderr.flush()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        # Whoever read it may have gone, or its disk be full: no reason for the work to end.
        with self._lock, contextlib.suppress(OSError):
            yield


_terminal = _Terminal()


def _set_level(level: int) -> None:
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(level)


class _StandardError(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.capitalize()}: "
        _terminal.write_line(prefix + record.getMessage())
