"""The files are written by faery, and read back by it through the source; without it, only its lack is tested."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edgeclf_runtime.errors import DamagedInputError, InputFileError, MissingPackageError, UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.sources import open_source


@pytest.fixture
def write(tmp_path, random_events):
    """Writes random events with faery, and returns the path and the events."""
    faery = pytest.importorskip("faery", reason="faery, the extra formats, is not installed")

    def to_file(name, count=5_000):
        rows = random_events(count, 200_000, 5, start=1_000)
        array = np.zeros(count, faery.EVENTS_DTYPE)
        for field, values in zip(("t", "x", "y", "on"), zip(*rows, strict=True), strict=True):
            array[field] = values
        # Events of one time stay in order: faery's writers keep it.
        faery.events_stream_from_array(array, (32, 24)).to_file(
            tmp_path / name,
            file_type={".aedat4": "aedat", ".es": "es", ".csv": "csv"}[(tmp_path / name).suffix.lower()],
        )
        return tmp_path / name, rows

    return to_file


@pytest.fixture
def csv(tmp_path):
    pytest.importorskip("faery", reason="faery, the extra formats, is not installed")

    def write(*lines):
        (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
        return tmp_path / "a.csv"

    return write


@pytest.mark.parametrize("name", ["a.aedat4", "a.AEDAT4", "a.es", "a.csv"])
def test_events_of_a_file(write, assert_events, name):
    path, rows = write(name)
    if name == "a.es":  # which starts at the first event's time unless it is told otherwise
        rows = [(t - rows[0][0], *rest) for t, *rest in rows]
    source = open_source(path)
    assert (source.name, source.is_live, source.sensor_size) == (str(path), False, (32, 24))
    for _ in range(2):  # from the start again
        assert_events(Events.concatenate(source), rows)
    assert (source.problems, source.damage) == ([], {})


def test_sensor_size_that_contradicts(write):
    for name in ("a.es", "a.csv"):
        path, _ = write(name, 10)
        assert open_source(path, (32, 24)).sensor_size == (32, 24)
        with pytest.raises(UsageError, match=r"640x480 contradicts .*, which states 32x24"):
            open_source(path, (640, 480))


@pytest.mark.parametrize("name", ["a.aedat4", "a.es"])
@pytest.mark.usefixtures("write")
def test_files_that_are_none(tmp_path, name):
    for data in (b"", b"hello\nworld"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputFileError, match=rf"{name} cannot be read"):
            open_source(tmp_path / name)


class Panic(BaseException):
    """As pyo3 raises what panics in Rust."""


@pytest.mark.parametrize("kind", [Panic, KeyboardInterrupt])
def test_a_panic_is_damage_and_an_interruption_is_not(write, monkeypatch, kind):
    import faery

    path, _ = write("a.es", 10)

    def fail(*_, **__):
        raise kind("range end index 9")

    source = open_source(path)
    monkeypatch.setattr(source, "_stream", map(fail, [0]))
    with pytest.raises(DamagedInputError if kind is Panic else kind, match="range end index 9"):
        list(source)
    monkeypatch.setattr(faery, "events_stream_from_file", fail)
    with pytest.raises(InputFileError if kind is Panic else kind, match="range end index 9"):
        open_source(path)


def test_close(write):
    source = open_source(write("a.csv", 20_000)[0])
    iterator = iter(source)
    next(iterator)
    source.close()
    assert list(iterator) == []


# CSV files say in their first line what is where.


@pytest.mark.parametrize(
    "lines",
    [
        ("t,x,y,on", "10,1,2,1", "20,31,23,0"),
        ("x, y, p, T", "1,2,1,10", "31,23,0,20"),
        ("polarity,t,name,x,y", "1,10,a,1,2", "0,20,b,31,23"),
        ("t,x@32,y@24,p", "10,1,2,1", "20,31,23,0"),
    ],
)
def test_columns_of_a_csv_file(csv, assert_events, lines):
    source = open_source(csv(*lines), (32, 24))
    assert_events(Events.concatenate(source), [(10, 1, 2, 1), (20, 31, 23, 0)])


def test_csv_file_without_names_or_size(csv):
    with pytest.raises(InputFileError, match=r"a\.csv: the first line .* names its columns, .* lacks t, x, y, on"):
        open_source(csv("10,1,2,1"), (32, 24))
    with pytest.raises(InputFileError, match="does not tell the sensor's size"):
        open_source(csv("t,x,y,on", "10,1,2,1"))
    with pytest.raises(InputFileError, match="does not tell the sensor's size"):
        open_source(csv("t,x@0,y@0,on", "10,1,2,1"))
    with pytest.raises(UsageError, match="The sensor size 0x0 is not one"):
        open_source(csv("t,x,y,on", "10,1,2,1"), (0, 0))


def test_csv_events_outside_the_sensor(csv, assert_events):
    source = open_source(csv("t,x,y,on", "10,1,2,1", "20,32,0,1", "30,3,4,0"), (32, 24))
    assert_events(Events.concatenate(source), [(10, 1, 2, 1), (30, 3, 4, 0)])
    assert source.damage == {"events outside the sensor": 1}


def test_csv_file_with_a_line_that_is_none(csv):
    with pytest.raises(DamagedInputError, match=r"a\.csv cannot be read on, .*hello"):
        list(open_source(csv("t,x,y,on", "10,1,2,1", "hello"), (32, 24)))


@pytest.mark.parametrize("name", ["a.aedat4", "a.es", "a.csv"])
def test_missing_package(monkeypatch, tmp_path, name):
    monkeypatch.setitem(sys.modules, "faery", None)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(MissingPackageError, match=rf"{name}: .* pip install 'edgeclf\[formats\]'"):
        open_source(tmp_path / name)
