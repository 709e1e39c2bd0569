"""What the tests of the benchmark share: candidates in a module that the measured processes can import."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_MODULE = '''
import os, signal, sys, time
from pathlib import Path
import numpy as np
from edgeclf_runtime.benchmark.candidates import Candidate
from edgeclf_runtime.errors import MissingPackageError


def open_bursts(number):
    """A burst says which candidate it is of, which process, and how many the process has made."""
    made = []
    def burst(*arguments):
        made.append(arguments)
        return number, os.getpid(), len(made), time.perf_counter_ns()
    return burst


def open_modules():
    before = sorted(set(sys.modules) & {"torch", "onnxruntime", "numpy", "h5py", "click", "edgeclf"})
    return lambda: before


def open_printing():
    print("loaded")
    return lambda: print("ran")


def fail_for_want():
    raise MissingPackageError("Hopper is not installed: pip install hopper.")


def fail_by_mistake():
    return {}["weights"]


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def exit_itself():
    os._exit(3)


def open_dying(after):
    """Dies in the burst after so many."""
    made = []
    def burst(*arguments):
        if len(made) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        made.append(arguments)
        return len(made)
    return burst


def open_failing():
    def burst(*arguments):
        raise ValueError("a frame of another shape")
    return burst


def open_endless(marker):
    def burst(*arguments):
        Path(marker).write_text(str(os.getpid()))
        time.sleep(600)
    return burst


class Sleeper(Candidate):
    """Takes so long for a step at least, of which it computes a part; writes what it was given."""

    def __init__(self, sleep_ms, compute_ms, notes, ballast_mb):
        self.device = "pretended"
        self._sleep_ms, self._compute_ms, self._notes = sleep_ms, compute_ms, notes
        self._ballast = np.ones(ballast_mb * 125_000)
        self.steps = 0

    def step(self, frames):
        if self._notes:
            with open(self._notes, "a") as file:
                file.write(f"step {frames.shape} {[int(f.flat[0]) for f in frames]}\\n")
        end = time.process_time_ns() + int(1e6 * self._compute_ms)
        while time.process_time_ns() < end:
            pass
        time.sleep(self._sleep_ms / 1000)
        frames[0] = -1  # its own copy: no other process sees it
        return np.ones((len(frames), 3)) / 3

    def reset(self):
        if self._notes:
            with open(self._notes, "a") as file:
                file.write("reset\\n")

    def close(self):
        pass


def open_sleeper(sleep_ms=0.0, compute_ms=0.0, notes=None, ballast_mb=0):
    return Sleeper(sleep_ms, compute_ms, notes, ballast_mb)
'''


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of candidates that only pretend, and of such as fail."""
    folder = tmp_path / "importable"
    folder.mkdir()
    (folder / "pretended_candidates.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(folder)
    module = importlib.import_module("pretended_candidates")
    yield module
    del sys.modules["pretended_candidates"]
