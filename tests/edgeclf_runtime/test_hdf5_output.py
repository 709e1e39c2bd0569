from __future__ import annotations

import errno
import io
from pathlib import Path

import h5py
import numpy as np
import pytest

from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.hdf5_output import _Sink, hdf5_output


def test_the_file_is_as_h5py_writes_it(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((20, 30, 40))
    with hdf5_output(tmp_path / "a.h5") as (file, check):
        file.create_dataset("data", data=data, chunks=(1, 30, 40), compression="gzip")
        check()
        file["data"].attrs["text"] = "ä"
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["data"][:], data)
        assert file["data"].attrs["text"] == "ä"


class FullDisk(io.FileIO):
    """A file on a disk that holds 10,000 bytes, the last of which it takes by halves."""

    def write(self, data: memoryview) -> int:
        room = 10_000 - self.tell()
        if room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data[: min(len(data), max(1, room // 2))])


def test_what_fits_is_written_whole_though_in_parts_and_what_does_not_is_kept_as_an_error(tmp_path: Path) -> None:
    with FullDisk(tmp_path / "a", "w+b") as raw:
        sink = _Sink(raw)
        assert sink.write(bytes(range(200)) * 20) == 4000
        assert sink.error is None
        assert sink.write(b"x" * 7000) == 7000
        assert sink.error is not None
        assert sink.error.errno == errno.ENOSPC
        assert (sink.write(b"more"), sink.truncate(50_000)) == (4, 50_000)
    assert (tmp_path / "a").read_bytes() == bytes(range(200)) * 20 + b"x" * 6000


def test_a_full_disk_is_an_error_at_the_end_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "open", lambda path, *_, **__: FullDisk(path, "w+b"))
    with (
        pytest.raises(EdgeclfError, match=r"NAME: it could not be written to its end \(No space left on device\)"),
        hdf5_output(tmp_path / "a.h5", "NAME") as (file, _),
    ):
        file["data"] = np.zeros(10_000)
