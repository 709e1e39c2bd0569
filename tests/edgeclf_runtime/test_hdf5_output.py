from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from edgeclf_runtime.errors import EdgeclfError, UsageError
from edgeclf_runtime.hdf5_output import GrowingHdf5, _Sink, hdf5_output


def test_the_file_is_as_h5py_writes_it(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((20, 30, 40))
    with hdf5_output(tmp_path / "a.h5") as (file, check):
        file.create_dataset("data", data=data, chunks=(1, 30, 40), compression="gzip")
        check()
        file["data"].attrs["text"] = "ä"
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["data"][:], data)
        assert file["data"].attrs["text"] == "ä"


def test_what_fits_is_written_whole_though_in_parts_and_what_does_not_is_kept_as_an_error(
    tmp_path: Path, full_disk: Callable[[int], None]
) -> None:
    full_disk(10_000)
    with (tmp_path / "a").open("w+b") as raw:
        sink = _Sink(raw)
        assert sink.write(bytes(range(200)) * 20) == 4000
        assert sink.error is None
        assert sink.write(b"x" * 7000) == 7000
        assert sink.error is not None
        assert sink.error.errno == errno.ENOSPC
        assert (sink.write(b"more"), sink.truncate(50_000)) == (4, 50_000)
    assert (tmp_path / "a").read_bytes() == bytes(range(200)) * 20 + b"x" * 6000


def test_a_full_disk_is_an_error_at_the_end_too(tmp_path: Path, full_disk: Callable[[int], None]) -> None:
    full_disk(10_000)
    with (
        pytest.raises(EdgeclfError, match=r"NAME: it could not be written to its end \(No space left on device\)"),
        hdf5_output(tmp_path / "a.h5", "NAME") as (file, _),
    ):
        file["data"] = np.zeros(10_000)


# Files that grow.


class Watched(io.FileIO):
    """A file that keeps every state that it was in; what is longer than a block of HDF5's goes in by halves."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+b")
        self.states: list[bytes] = []

    def write(self, data: bytes) -> int:
        written = super().write(data[: len(data) // 2] if len(data) > 4096 else data)
        self.states.append(os.pread(self.fileno(), 1 << 24, 0))
        return written


def lengths_of(state: bytes, data_sets: int) -> set[int]:
    """Reads a file's content as another program would, and returns how long its data sets are."""
    with h5py.File(io.BytesIO(state)) as file:
        found = [file[f"group {i}/data"][:] for i in range(data_sets)]
    for rows in found:
        np.testing.assert_array_equal(rows, np.arange(len(rows))[:, None].repeat(3, axis=1))
    return set(map(len, found))


def append(file: h5py.File, count: int) -> None:
    for group in file.values():
        data = group["data"]
        before = len(data)
        data.resize(before + count, axis=0)
        data[before:] = np.arange(before, before + count)[:, None]


def growing(path: Path, data_sets: int = 2, chunk: int = 4) -> GrowingHdf5:
    grown = GrowingHdf5(path)
    for i in range(data_sets):
        data = grown.file.create_dataset(f"group {i}/data", (0, 3), np.int64, maxshape=(None, 3), chunks=(chunk, 3))
        data.attrs["labels"] = ["ä", "b"]
    grown.commit()
    return grown


@pytest.mark.parametrize(("chunk", "commits"), [(1, 20), (4, 50), (64, 50)])
def test_every_state_of_a_growing_file_is_a_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, commits: int
) -> None:
    """Whenever a kill comes, what was committed is there, and perhaps some of what was being committed."""
    opened: list[Watched] = []
    monkeypatch.setattr(Path, "open", lambda path, *_, **__: opened.append(Watched(path)) or opened[-1])
    grown = growing(tmp_path / "a.h5", chunk=chunk)
    monkeypatch.undo()
    committed, states = 0, 0
    opened[0].states.clear()
    for k in range(commits):
        count = 1 + k % 11
        append(grown.file, count)
        grown.commit()
        for state in opened[0].states:
            assert lengths_of(state, 2) <= {committed, committed + count}
        committed += count
        states += len(opened[0].states)
        opened[0].states.clear()
        assert lengths_of((tmp_path / "a.h5").read_bytes(), 2) == {committed}
    append(grown.file, 5)
    grown.close()
    assert all(lengths_of(state, 2) <= {committed, committed + 5} for state in opened[0].states)
    assert lengths_of((tmp_path / "a.h5").read_bytes(), 2) == {committed + 5}
    assert states > 5 * commits


def test_nothing_is_seen_before_it_is_committed(tmp_path: Path) -> None:
    grown = growing(tmp_path / "a.h5")
    before = (tmp_path / "a.h5").read_bytes()
    append(grown.file, 100)
    assert (tmp_path / "a.h5").read_bytes() == before
    np.testing.assert_array_equal(grown.file["group 1/data"][:, 0], np.arange(100))
    grown.commit()
    assert lengths_of((tmp_path / "a.h5").read_bytes(), 2) == {100}
    grown.close()


@pytest.mark.parametrize("room", range(7_000, 20_000, 777))
def test_a_growing_file_on_a_full_disk_keeps_what_was_committed(
    tmp_path: Path, full_disk: Callable[[int], None], room: int
) -> None:
    full_disk(room)
    path = tmp_path / "a.h5"
    grown = growing(path)
    whole = path.read_bytes()
    committed = 0
    with pytest.raises(EdgeclfError, match=r"a\.h5: it could not be written to its end \(No space left"):  # noqa: PT012
        while True:
            append(grown.file, 7)
            grown.commit()
            whole = path.read_bytes()
            committed += 7
    append(grown.file, 7)  # HDF5 does not know that nothing comes of it
    grown.close()
    assert path.read_bytes() == whole
    assert lengths_of(whole, 2) == {committed}


def test_a_disk_that_is_full_at_the_end_is_an_error_too(tmp_path: Path, full_disk: Callable[[int], None]) -> None:
    full_disk(8_000)
    grown = growing(tmp_path / "a.h5")
    append(grown.file, 1000)
    with pytest.raises(EdgeclfError, match="No space left"):
        grown.close()
    assert lengths_of((tmp_path / "a.h5").read_bytes(), 2) == {0}


def test_a_growing_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no regular file"):
        GrowingHdf5(tmp_path)


def test_a_process_that_ends_without_closing_it_ends_well(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from edgeclf_runtime.hdf5_output import GrowingHdf5\n"
        "grown = GrowingHdf5(Path(sys.argv[1])); grown.commit(); grown.file['data'] = [1, 2, 3]"
    )
    ended = subprocess.run([sys.executable, "-c", script, tmp_path / "a.h5"], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["data"][:].tolist() == [1, 2, 3]
