"""What the tests of `edgeclf run-stream` share: recordings, its lines, and the command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file

PATIENCE = 30  # s; only a test that fails waits so long


@pytest.fixture
def recording(write_dat: Callable[..., Path], random_events: Callable[..., list[Any]]) -> Path:
    """A recording of 6 frames from 120,000 µs on, one of them empty, in a file whose name has a space."""
    events = random_events(600, 30_000, 1, start=120_000) + random_events(400, 20_000, 2, start=160_000)
    return write_dat("a ä.dat", events)


@pytest.fixture
def tensors(tmp_path: Path) -> Path:
    """A tensor file of 4 frames from 40,000 µs on."""
    made = TensorAttributes("histo", 10_000, (32, 24), 40_000, {"max_incr_per_pixel": 2})
    frames = np.random.default_rng(3).random((4, 2, 24, 32)).astype(np.float32)
    write_tensor_file(tmp_path / "frames.h5", frames, made)
    return tmp_path / "frames.h5"


@pytest.fixture
def lines_of() -> Callable[[str], list[dict[str, Any]]]:
    """Reads what the command wrote, all of it lines that are whole."""

    def read(text: str) -> list[dict[str, Any]]:
        assert text.endswith("\n") or not text
        return [json.loads(line) for line in text.splitlines()]

    return read


@pytest.fixture
def without_latency() -> Callable[[Iterable[dict[str, Any]]], list[dict[str, Any]]]:
    """Leaves out of lines what differs from run to run."""
    return lambda lines: [{key: value for key, value in line.items() if key != "latency_us"} for line in lines]


class Running:
    """`edgeclf` in a process of its own.

    Args:
        arguments: Its arguments.
        setup: Python that runs in it first.
    """

    def __init__(self, arguments: Iterable[object], setup: str) -> None:
        script = (
            f"{setup}\nimport sys\nsys.argv = {['edgeclf', *map(str, arguments)]!r}\n"
            "from edgeclf.cli import main\nmain()"
        )
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", script], stdin=pipe, stdout=pipe, stderr=pipe, env=environment, bufsize=0
        )
        self._text = {"out": "", "err": ""}
        self._open = 2
        self._changed = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=given, daemon=True)
            for given in (("out", self.process.stdout), ("err", self.process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str, pipe: IO[bytes]) -> None:
        with pipe:
            while block := pipe.read(1 << 16):
                with self._changed:
                    self._text[name] += block.decode()
                    self._changed.notify_all()
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    @property
    def err(self) -> str:
        """What it has written to standard error."""
        return self._text["err"]

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The whole lines that it has written to standard output."""
        return [json.loads(line) for line in self._text["out"].split("\n")[:-1]]

    def wait_for_lines(self, count: int) -> None:
        """Waits until it has written so many lines."""
        self._wait_until(lambda: self._text["out"].count("\n") >= count)

    def wait_for(self, text: str) -> None:
        """Waits until it has written a text to standard error."""
        self._wait_until(lambda: text in self.err)

    def _wait_until(self, holds: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: holds() or not self._open, PATIENCE)
            assert holds(), self._text

    def send(self, data: bytes) -> None:
        """Writes to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def end(self) -> int:
        """Closes its standard input, waits for its end, and returns its exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        assert "Traceback" not in self.err, self.err
        return code

    def wait(self) -> int:
        """Waits for its end, its standard input still open, and returns its exit code."""
        self.process.wait(PATIENCE)
        return self.end()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts `edgeclf` with arguments in a process of its own, whose standard input, output and error are pipes."""
    running = []

    def begin(*arguments: object, setup: str = "") -> Running:
        running.append(Running(arguments, setup))
        return running[-1]

    yield begin
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(PATIENCE)
        one.process.stdin.close()
