from __future__ import annotations

from pathlib import Path

import pytest

from edgeclf_runtime.commands.targets import check_targets, is_same_file
from edgeclf_runtime.errors import UsageError


def test_what_is_in_the_way(tmp_path: Path) -> None:
    there, linked = tmp_path / "a.raw", tmp_path / "b.raw"
    there.write_bytes(b"1")
    linked.symlink_to(there)
    check_targets((None, tmp_path / "new" / "a.json", "-"), (there, "-"))
    with pytest.raises(UsageError, match=r"b\.raw: this would overwrite what is read"):
        check_targets((None, linked), (there,))
    with pytest.raises(UsageError, match="two results cannot both be written"):
        check_targets((tmp_path / "x", f"{tmp_path}/./x"), ())
    with pytest.raises(UsageError, match="this is a folder"):
        check_targets((tmp_path,), ())


def test_names_of_one_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert is_same_file(tmp_path / "a", tmp_path / "b")
    assert not is_same_file(tmp_path / "a", tmp_path / "c")
