from __future__ import annotations

import io
import logging
import sys
import time

import pytest

from edgeclf_runtime import console
from edgeclf_runtime.outputs import JsonLinesOutput, LiveLine
from edgeclf_runtime.streaming.statistics import RunStatistics, StreamStatistics

CLEAR = "\r\x1b[K"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def open_terminal(monkeypatch):
    """Puts a terminal in the place of standard error; no fixture, as pytest puts its own there before each test."""
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(console, "is_quiet", lambda: False)
    return shown


@pytest.fixture
def clock(monkeypatch):
    """Makes time go on by what is asked for, and not otherwise."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def advance(seconds):
        now[0] += seconds

    return advance


def statistics_of(streams):
    return RunStatistics("cpu", [StreamStatistics(None, "never") for _ in range(streams)])


def test_what_it_says_of_one_stream(clock, predicted, monkeypatch):
    terminal = open_terminal(monkeypatch)
    statistics = statistics_of(1)
    with LiveLine(statistics) as line:
        clock(0.5)
        statistics.streams[0].predictions["rock"] += 40
        line.write(predicted(0, label="rock", score=0.934))
        assert terminal.getvalue() == f"{CLEAR}40 frames  80.0/s  rock 0.93"
        clock(0.5)
        statistics.streams[0].predictions["rock"] += 10
        statistics.streams[0].misses, statistics.streams[0].drops, statistics.streams[0].merges = 3, 2, 1
        line.write(predicted(1, label="paper", score=0.5))
        assert terminal.getvalue().endswith(f"{CLEAR}50 frames  50.0/s  3 late  2 dropped  1 merged  paper 0.50")
    assert terminal.getvalue().endswith(CLEAR)


def test_what_it_says_of_several_streams(clock, predicted, monkeypatch):
    terminal = open_terminal(monkeypatch)
    statistics = statistics_of(3)
    with LiveLine(statistics) as line:
        line.write(predicted(0, 2, label="rock", score=0.5))
        clock(1)
        for stream in statistics.streams:
            stream.predictions["rock"] += 1
        line.write(predicted(0, 0, label="paper", score=1.0))
        assert terminal.getvalue() == f"{CLEAR}3 frames  3.0/s  0: paper 1.00  1: –  2: rock 0.50"


def test_it_is_written_ten_times_a_second_at_most(clock, predicted, monkeypatch):
    terminal = open_terminal(monkeypatch)
    with LiveLine(statistics_of(1)) as line:
        for k in range(1000):
            clock(0.01)
            line.write(predicted(k))
    assert 90 <= terminal.getvalue().count("frames") <= 100


def test_the_rate_is_that_of_the_last_two_seconds(clock, predicted, monkeypatch):
    terminal = open_terminal(monkeypatch)
    statistics = statistics_of(1)
    line = LiveLine(statistics)
    for k in range(400):
        clock(0.125)
        statistics.streams[0].predictions["rock"] += 1 if k < 300 else 5
        line.write(predicted(k))
    assert "  40.0/s" in terminal.getvalue().rpartition(CLEAR)[2]


def test_lines_for_people_and_of_the_log_take_its_place(clock, predicted, monkeypatch):
    terminal = open_terminal(monkeypatch)
    logger = logging.getLogger("edgeclf_runtime")
    logger.handlers, logger.propagate = [console._StandardError()], False
    with LiveLine(statistics_of(1)) as line:
        clock(1)
        line.write(predicted(0, label="rock"))
        logger.warning("something")
        console.say("more")
        line.write(predicted(1))
        clock(1)
        line.write(predicted(2, label="paper"))
    rock, paper = "rock 0.85", "paper 0.85"
    parts = [part.split("/s  ")[-1] for part in terminal.getvalue().split(CLEAR)]
    assert parts == ["", rock, "Warning: something\nmore\n", paper, ""]


def test_lines_on_the_same_terminal_take_its_place(clock, predicted, monkeypatch):
    terminal = open_terminal(monkeypatch)
    monkeypatch.setattr(sys, "stdout", TerminalOut(terminal))
    with LiveLine(statistics_of(1)) as line, JsonLinesOutput("-") as lines:
        clock(1)
        line.write(predicted(0))
        lines.write(predicted(1))
    assert terminal.getvalue().count(CLEAR) == 2
    assert f"{CLEAR}{{" in terminal.getvalue()


class TerminalOut(Terminal):
    """Standard output that ends in the same terminal as standard error."""

    def __init__(self, terminal):
        super().__init__()
        self.buffer = self
        self.write = lambda data: terminal.write(data.decode()) and len(data)


@pytest.mark.parametrize("quiet", [False, True])
def test_it_is_silent_without_a_terminal_and_where_nothing_is_to_be_said(clock, predicted, monkeypatch, capsys, quiet):
    terminal = open_terminal(monkeypatch)
    if quiet:
        monkeypatch.setattr(console, "is_quiet", lambda: True)
    else:
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    with LiveLine(statistics_of(1)) as line:
        clock(1)
        line.write(predicted(0))
    assert terminal.getvalue() == ""
    assert capsys.readouterr() == ("", "")
