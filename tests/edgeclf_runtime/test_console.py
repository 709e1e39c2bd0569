from __future__ import annotations

import io
import json
import logging
import os
import sys

import click
import pytest
from click.testing import CliRunner

from edgeclf_runtime import console
from edgeclf_runtime.errors import UsageError

NAMES = ("edgeclf", "edgeclf_export", "edgeclf_runtime")


@click.command()
@console.json_option
@console.verbosity_options
def speaks(json_path):
    console.say("said")
    for name in NAMES:
        log = logging.getLogger(f"{name}.deep.inside")
        log.debug("debug")
        log.info("info %s", name)
        log.warning("careful")
        log.error("broken")
    click.echo(f"json {json_path}, quiet {console.is_quiet()}")


def run(*arguments):
    console.start_logging()
    return CliRunner().invoke(speaks, arguments)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), ["info {}", "Warning: careful", "Error: broken"]),
        (("-v",), ["debug", "info {}", "Warning: careful", "Error: broken"]),
        (("--verbose",), ["debug", "info {}", "Warning: careful", "Error: broken"]),
        (("-q",), ["Error: broken"]),
        (("--quiet",), ["Error: broken"]),
    ],
)
def test_what_is_said(options, expected):
    result = run(*options)
    quiet = "-q" in options or "--quiet" in options
    said = [] if quiet else ["said"]
    assert result.stderr.splitlines() == said + [line.format(name) for name in NAMES for line in expected]
    assert result.stdout == f"json None, quiet {quiet}\n"
    assert result.exit_code == 0


def test_quiet_and_verbose_together_are_wrong_usage():
    for options in (("-q", "-v"), ("-v", "-q"), ("-qv",)):
        result = run(*options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "Give one of -q and -v, not both." in result.stderr


@pytest.mark.parametrize("options", [("-q", "-q"), ("-v", "--verbose")])
def test_one_of_them_twice_is_that_one(options):
    assert run(*options).exit_code == 0


def test_json_option():
    assert "json a b.json" in run("--json", "a b.json").stdout


def test_start_logging_twice_says_things_once():
    console.start_logging()
    assert run("-q").stderr.count("broken") == len(NAMES)


def test_json_to_standard_output(capsys):
    console.write_json("-", {"ä": [1, "µ"]})
    out = capsys.readouterr().out
    assert json.loads(out) == {"ä": [1, "µ"]}
    assert out.endswith("}\n")
    assert "ä" in out


def test_json_to_a_file(tmp_path):
    path = tmp_path / "new" / "ä b.json"
    console.write_json(str(path), {"a": (1, 2)})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": [1, 2]}
    assert [file.name for file in path.parent.iterdir()] == ["ä b.json"]


def test_where_json_cannot_be_written_is_said_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for target, says in (
        (tmp_path, "this is a folder"),
        (tmp_path / "file" / "new" / "a.json", "file is no folder"),
        (tmp_path / ("n" * 300), "cannot be written there"),
        (tmp_path / "loop", "cannot be written there"),
    ):
        result = run("--json", str(target))
        assert isinstance(result.exception, UsageError), target
        assert says in str(result.exception)
        assert (result.stdout, result.stderr) == ("", ""), "the command has not begun"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "loop"}


def test_no_right_to_write_is_said_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(console.os, "access", lambda path, mode: (path, mode) != (tmp_path, os.W_OK))
    with pytest.raises(UsageError, match="no right to write"):
        console.check_can_write(tmp_path / "new" / "a.json")


@pytest.mark.parametrize("target", ["-", "/dev/null", "/dev/stdout"])
def test_special_targets_can_be_written(target):
    console.check_can_write(target)


def test_checking_makes_nothing(tmp_path):
    console.check_can_write(tmp_path / "new" / "folder" / "a.json")
    (tmp_path / "old.json").write_text("old")
    console.check_can_write(tmp_path / "old.json")
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "old"


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        console.write_json(str(path), {"a": object()})
    assert path.read_text() == "old"


def test_json_has_null_for_what_is_no_number(capsys):
    console.write_json("-", {"a": float("nan"), "b": [float("inf"), (1.5, -float("inf"))], "c": True})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, [1.5, None]], "c": True}


def test_table():
    rows = [("rock", 7, "x"), ("scissors", 1234, "yy")]
    assert console.table(("name", "n", "z"), rows).splitlines() == [
        "name         n   z",
        "rock         7   x",
        "scissors  1234  yy",
    ]
    assert console.table(("name", "n"), []) == "name  n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_silent_without_a_terminal(capsys):
    with console.progress([1, 2, 3], "frames") as items:
        assert list(items) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("quiet", [False, True])
def test_progress_on_a_terminal(monkeypatch, capsys, quiet):
    console.start_logging()
    logging.getLogger("edgeclf").setLevel(logging.ERROR if quiet else logging.INFO)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with console.progress(iter([1, 2, 3]), "frames", length=3) as items:
        assert list(items) == [1, 2, 3]
    assert ("frames" in terminal.getvalue()) is not quiet
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("rock 0.93", 4, "rock"),
        ("rock", 4, "rock"),
        ("石头", 3, "石"),
        ("石头", 4, "石头"),
        ("a\nb\x1b[K", 9, "a?b?[K"),
        ("x", 0, ""),
    ],
)
def test_text_that_fits_a_terminal(text, columns, expected):
    assert console.fitted(text, columns) == expected


def test_a_live_text_is_as_wide_as_the_terminal_at_most(monkeypatch):
    console.start_logging()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    console.show_live("x" * 200)
    console.clear_live()
    console.clear_live()
    assert terminal.getvalue() == "\r\x1b[K" + "x" * 79 + "\r\x1b[K"


def test_nothing_is_shown_where_there_is_no_standard_error(monkeypatch):
    """As in a service that was started with it closed."""
    console.start_logging()
    monkeypatch.setattr(sys, "stderr", None)
    console.show_live("rock")
    console.clear_live()
    with console.progress(range(3), "frames") as numbers:
        assert list(numbers) == [0, 1, 2]


def test_a_terminal_that_does_not_know_its_width_has_80_columns(monkeypatch):
    console.start_logging()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(terminal, "fileno", lambda: 2)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((0, 0)))
    console.show_live("x" * 100)
    console.clear_live()
    assert terminal.getvalue() == "\r\x1b[K" + "x" * 79 + "\r\x1b[K"


def test_a_standard_error_that_nobody_reads_ends_no_work(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    console.start_logging()
    broken = io.TextIOWrapper(io.FileIO(writing, "w"), write_through=True)
    monkeypatch.setattr(sys, "stderr", broken)
    console.say("lost")
    logging.getLogger("edgeclf_runtime").warning("lost, too")
    monkeypatch.undo()
    broken.detach().close()
