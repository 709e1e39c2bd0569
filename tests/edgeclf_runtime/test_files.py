from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.files import as_text, remove_leftovers, written_together, written_whole


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


def test_files_take_their_places_together(tmp_path):
    out = tmp_path / "some folder"
    out.mkdir()
    (out / "a.txt").write_text("old")
    (out / "other.txt").write_text("stays")
    with written_together(out, "möwe") as folder:
        (folder / "a.txt").write_text("new")
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "b.txt").write_text("b")
        assert (out / "a.txt").read_text() == "old"
    found = {str(p.relative_to(out)): p.read_text() for p in out.rglob("*") if p.is_file()}
    assert found == {"a.txt": "new", "other.txt": "stays", "deep/er/b.txt": "b"}
    assert {p.name for p in out.iterdir()} == {"a.txt", "other.txt", "deep"}


def test_error_among_files_leaves_what_was_there(tmp_path):
    (tmp_path / "a.txt").write_text("old")

    def write_half():
        with written_together(tmp_path, "x") as folder:
            (folder / "a.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "old")]


def test_what_a_dead_process_left_is_removed(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    pid = ended.stdout.decode().strip()
    left, of_another = tmp_path / f".x.{pid}.part", tmp_path / f".y.{pid}.part"
    alive = tmp_path / f".x.{os.getppid()}.part"
    for folder in (left, of_another, alive):
        folder.mkdir()
        (folder / "half.txt").write_text("half")
    with written_together(tmp_path, "x") as folder:
        (folder / "a.txt").write_text("new")
    assert {p.name for p in tmp_path.iterdir()} == {"a.txt", of_another.name, alive.name}


def test_where_files_cannot_stand_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="nothing can be written there"), written_together(tmp_path / "file", "x"):
        pass
    (tmp_path / "b.txt").mkdir()
    (tmp_path / "a.txt").write_text("old")

    def write():
        with written_together(tmp_path, "x") as folder:
            for name in ("a.txt", "b.txt"):
                (folder / name).write_text("new")

    with pytest.raises(UsageError, match=r"b\.txt: it cannot be written there"):
        write()
    assert {p.name for p in tmp_path.iterdir()} == {"file", "a.txt", "b.txt"}
    assert (tmp_path / "a.txt").read_text() == "old", "nothing is moved unless all can be"


def test_the_file_that_names_the_others_comes_last(tmp_path, monkeypatch):
    order = []
    replace = Path.replace

    def watched(self, target):
        order.append(self.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    with written_together(tmp_path, "x", last="deep/b.onnx") as folder:
        (folder / "deep").mkdir()
        for name in ("a.npz", "deep/b.onnx", "deep/c.bin"):
            (folder / name).write_text("new")
    assert order == ["a.npz", "c.bin", "b.onnx"]


def test_a_name_as_text():
    assert as_text("grün/日.raw") == "grün/日.raw"
    assert as_text(os.fsdecode(b"a\xff.raw")) == "a?.raw"
