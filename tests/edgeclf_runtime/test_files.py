from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.files import remove_leftovers, written_whole


def test_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "new folder" / "pâté 1.json"
    with written_whole(path) as temporary:
        temporary.write_text("new")
        assert (temporary.parent, temporary.suffix) == (path.parent, ".json")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_old_file_stays_until_then_and_is_replaced(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with written_whole(str(path)) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("old", ["old", None])
def test_error_in_the_block_leaves_what_was_there(tmp_path, old):
    path = tmp_path / "a.json"
    if old is not None:
        path.write_text(old)

    def write_half():
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == ([("a.json", old)] if old else [])


def test_link_is_followed(tmp_path):
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    with written_whole(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_device_is_written_to_and_not_replaced():
    # A pseudo-terminal stands for /dev/null and /dev/stdout, which no test should put at risk.
    primary, secondary = os.openpty()
    path = os.ttyname(secondary)
    with written_whole(path) as given:
        assert str(given) == path
        given.write_text("shown")
    assert os.read(primary, 100) == b"shown"
    os.close(primary)
    os.close(secondary)


def test_folder_as_target(tmp_path):
    with pytest.raises(UsageError, match="is a folder; give the name of a file"), written_whole(tmp_path):
        pass


def test_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a.json"
    with pytest.raises(UsageError, match=r"a\.json: it cannot be written there \(.+\); choose"), written_whole(path):
        pass


# --- what ended processes left


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
