from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_export.formats import FORMATS


def _exported(checkpoint: Path, folder: Path, formats: Sequence[str]) -> tuple[list[str], dict[str, bytes]]:
    """Returns the models' paths, and what is in every file by its path in `folder`."""
    files = list(export_checkpoint(ExportRequest(checkpoint, folder, formats)))
    models = [file.path.relative_to(folder).as_posix() for file in files]
    written = [path for path in folder.rglob("*") if path.is_file()]
    return models, {path.relative_to(folder).as_posix(): path.read_bytes() for path in written}


@pytest.mark.slow
def test_what_a_process_exported_before_does_not_show(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Every format twice in one process, into another folder and after other formats."""
    checkpoint = checkpoints["ConvRNNClassifier"]
    models, first = _exported(checkpoint, tmp_path / "first", tuple(FORMATS))
    _, second = _exported(checkpoint, tmp_path / "and then" / "second", tuple(reversed(FORMATS)))
    assert len(set(models)) == len(FORMATS)
    assert set(models) < first.keys()
    assert first.keys() == second.keys()
    assert not [name for name, content in first.items() if content != second[name]]
