from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeclf.data.conversion.workers import run_jobs
from edgeclf_runtime.errors import EdgeclfError, InputFileError


@pytest.fixture(autouse=True)
def found_by_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets workers import this file, whose functions they are given."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def half(number: int) -> int:
    """Half an even number."""
    if number == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 7:
        raise OSError(errno.ENOSPC, "No space left on device", "a.h5")
    if number % 2:
        raise InputFileError(f"{number} is odd.")
    return number // 2


def in_a_module() -> object:
    """`half` as another process imports it: tests themselves run under a name that only pytest knows."""
    import test_workers

    return test_workers.half


@pytest.mark.parametrize("workers", [1, 2])
def test_one_bad_job_does_not_stop_the_others(workers: int) -> None:
    found = list(run_jobs(in_a_module(), [4, 3, 7, *range(10, 50, 2)], workers))
    assert found[0] == 2
    assert isinstance(found[1], InputFileError)
    assert (str(found[1]), found[1].exit_code) == ("3 is odd.", 2)
    assert str(found[2]) == "a.h5: the operating system refused to go on (No space left on device)."
    assert found[3:] == list(range(5, 25))


def test_no_jobs() -> None:
    assert list(run_jobs(half, [])) == []


def test_a_worker_that_is_killed_is_said() -> None:
    with pytest.raises(EdgeclfError, match=r"ended from outside.*--num-workers"):
        list(run_jobs(in_a_module(), [2, 99, 4, 6], 2))


def test_a_mistake_of_the_program_is_not_hidden() -> None:
    with pytest.raises(TypeError):
        list(run_jobs(half, ["text"], 1))  # type: ignore[list-item]


_PARENT = """
import os, pathlib, sys, time
from edgeclf.data.conversion.workers import run_jobs

def wait(path):
    pathlib.Path(path).write_text(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    list(run_jobs(wait, sys.argv[1:], 2))
"""


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(_PARENT)
    notes = [tmp_path / "1", tmp_path / "2"]
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py"), *map(str, notes)])
    try:
        _wait_until(lambda: all(note.exists() and note.read_text() for note in notes))
    finally:
        parent.kill()
        parent.wait()
    _wait_until(lambda: not any(_is_running(int(note.read_text())) for note in notes))


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _wait_until(is_so) -> None:
    for _ in range(600):
        if is_so():
            return
        time.sleep(0.1)
    pytest.fail("waited a minute in vain")
