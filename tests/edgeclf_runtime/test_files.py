from __future__ import annotations

import os

import pytest

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.files import written_whole


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
