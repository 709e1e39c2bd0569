from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edgeclf.data.leftovers import remove_leftovers
from edgeclf_runtime.files import written_whole


def dead_process() -> int:
    """The id of a process that has just ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


def test_what_dead_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    dead, targets = dead_process(), [tmp_path / "a b.x.h5", tmp_path / "new" / "c.h5", tmp_path / "c_bbox.npy"]
    gone = [tmp_path / f".a b.x.{dead}.part.h5", tmp_path / f".c_bbox.{dead}.part.npy"]
    stays = [
        tmp_path / name
        for name in (
            f".a b.x.{os.getpid()}.part.h5",  # somebody is writing it
            ".a b.x.1.part.h5",
            f".other.{dead}.part.h5",
            f".a b.x.{dead}.part.npy",
            f".a b.x.{dead}.part",
            ".a b.x.pid.part.h5",
            "a b.x.h5",
            f"a b.x.{dead}.part.h5",
        )
    ]
    for path in gone + stays:
        path.touch()
    assert remove_leftovers(targets) == gone
    assert sorted(tmp_path.iterdir()) == sorted(stays)


def test_the_names_are_those_that_files_are_written_under(tmp_path: Path) -> None:
    for name in ("a b.h5", "é.x.npy"):
        target = tmp_path / name
        with written_whole(target) as temporary:
            left = temporary.with_name(temporary.name.replace(str(os.getpid()), str(dead_process())))
            left.touch()
            assert remove_leftovers([target]) == [left]
            temporary.touch()


def test_a_process_that_ended_and_nobody_asked_for_is_dead(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()  # ends when the process does, or a moment before
        left = tmp_path / f".a.{process.pid}.part.h5"
        left.touch()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert remove_leftovers([tmp_path / "a.h5"]) == [left]
