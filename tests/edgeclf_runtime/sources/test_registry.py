from __future__ import annotations

import sys

import numpy as np
import pytest

from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.sources import IteratorSource, open_source, register_source, registry, source_names
from edgeclf_runtime.sources.recording import RecordingSource
from edgeclf_runtime.sources.tensors import TensorSource
from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file


class Mine(IteratorSource):
    """A source of the user's own."""

    def __init__(self, text, sensor_size):
        super().__init__([], sensor_size or (32, 24), name=f"mine:{text}")


THEIRS = """
from edgeclf_runtime.sources import IteratorSource

class Source(IteratorSource):
    def __init__(self, text, sensor_size):
        super().__init__([], sensor_size or (32, 24), name=f"theirs {text}")
"""


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))


# What a name means.


def test_content_decides_and_not_the_name(write_dat, tmp_path):
    assert isinstance(open_source(write_dat("a.bin", [(0, 0, 0, 0)])), RecordingSource)
    assert isinstance(open_source(str(write_dat("a", [(0, 0, 0, 0)]))), RecordingSource)
    made = TensorAttributes("histo", 10_000, (32, 24), 0, {})
    write_tensor_file(tmp_path / "a.raw", np.zeros((1, 2, 24, 32), np.float32), made)
    assert isinstance(open_source(tmp_path / "a.raw"), TensorSource)


@pytest.mark.parametrize("name", ["a.h5", "a.HDF5"])
def test_hdf5_by_name_only(tmp_path, name):
    (tmp_path / name).write_bytes(b"% evt 3.0\n")
    with pytest.raises(InputFileError, match="not an HDF5 file"):
        open_source(tmp_path / name)


def test_no_such_file(tmp_path):
    with pytest.raises(InputFileError, match=r"a\.raw: there is no such file\.$"):
        open_source(tmp_path / "a.raw")
    with pytest.raises(InputFileError, match=r"evk9:1: there is no such file, and no source evk9: ; .* camera:"):
        open_source("evk9:1")


def test_folder(tmp_path):
    with pytest.raises(InputFileError, match="this is a folder"):
        open_source(tmp_path)


def test_file_that_may_not_be_read(monkeypatch, write_dat):
    path = write_dat("a.dat", [(0, 0, 0, 0)])

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(InputFileError, match=r"a\.dat cannot be read \(Permission denied\)"):
        open_source(path)


def test_names_that_the_system_refuses(monkeypatch, tmp_path):
    with pytest.raises(InputFileError, match=r"xxx: there is no such file\.$"):
        open_source("x" * 5_000)
    register_source("mine", Mine)
    assert open_source("mine:" + "x" * 5_000).name == "mine:" + "x" * 5_000

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.exists", refuse)
    with pytest.raises(InputFileError, match=r"a\.dat cannot be read \(Permission denied\)"):
        open_source(tmp_path / "a.dat")


def test_sensor_size_that_contradicts_a_tensor_file(tmp_path):
    made = TensorAttributes("histo", 10_000, (32, 24), 0, {})
    write_tensor_file(tmp_path / "a.h5", np.zeros((1, 2, 24, 32), np.float32), made)
    assert open_source(tmp_path / "a.h5", (32, 24)).sensor_size == (32, 24)
    with pytest.raises(UsageError, match=r"640x480 contradicts .*a\.h5, which states 32x24"):
        open_source(tmp_path / "a.h5", (640, 480))


# The user's own.


def test_a_registered_scheme():
    register_source("mine", Mine)
    source = open_source("mine:left eye:2", (64, 48))
    assert (source.name, source.sensor_size) == ("mine:left eye:2", (64, 48))
    assert open_source("mine:").name == "mine:"
    assert source_names()[-1] == "mine"
    with pytest.raises(UsageError, match="mine:1: this source knows its format; leave EVT3 out"):
        open_source("mine:1", format="EVT3")


def test_a_registered_suffix(tmp_path):
    register_source(".mine", Mine)
    (tmp_path / "a.Mine").write_bytes(b"")
    assert open_source(tmp_path / "a.Mine").name == f"mine:{tmp_path / 'a.Mine'}"
    with pytest.raises(InputFileError, match="there is no such file"):
        open_source(tmp_path / "b.mine")


def test_a_file_wins_over_a_scheme(tmp_path, monkeypatch, write_dat):
    register_source("mine", Mine)
    write_dat("mine:a.dat", [(0, 0, 0, 0)])
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_source("mine:a.dat"), RecordingSource)


def test_names_that_are_taken_or_cannot_be():
    register_source("mine", Mine)
    register_source("mine", Mine)
    for name in ("mine", "camera", ".raw"):
        with pytest.raises(UsageError, match=rf"There is a source called {name} already"):
            register_source(name, lambda text, sensor_size: Mine(text, sensor_size))
    for name in ("", "c", "mine:", "Mine", "my cam", ".", "./a", ".RAW"):
        with pytest.raises(UsageError, match="names no source"):
            register_source(name, Mine)


def test_what_packages_announce(install_package, tmp_path):
    names = {"theirs": "Source", ".theirs": "Source", "camera": "Source"}
    install_package("edgeclf_theirs", registry.ENTRY_POINT_GROUP, names, THEIRS)
    assert source_names()[-2:] == (".theirs", "theirs")
    assert source_names().count("camera") == 1
    assert "edgeclf_theirs" not in sys.modules  # not before it is asked for
    assert open_source("theirs:1").name == "theirs 1"
    (tmp_path / "a.theirs").write_bytes(b"")
    assert open_source(tmp_path / "a.theirs").name == f"theirs {tmp_path / 'a.theirs'}"


def test_names_for_help():
    assert source_names()[:8] == (".raw", ".dat", ".h5", ".hdf5", ".aedat4", ".es", ".csv", "camera")
