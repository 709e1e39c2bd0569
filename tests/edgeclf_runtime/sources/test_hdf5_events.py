from __future__ import annotations

import h5py
import numpy as np
import pytest

from edgeclf_runtime.errors import DamagedInputError, InputFileError, UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.sources import hdf5_events, open_source
from edgeclf_runtime.sources.hdf5_events import Hdf5EventSource

# As h5py shows the fields of files that Metavision wrote.
EVENT = np.dtype({"names": ["x", "y", "p", "t"], "formats": ["<u2", "<u2", "<i2", "<i8"], "offsets": [0, 2, 4, 8]})
ECF = 0x8ECF


@pytest.fixture
def write(tmp_path, random_events):
    """Writes random events as an HDF5 event file, and returns its path and the events."""

    def to_file(count=500, name="a.hdf5", attributes=None, kind=EVENT, **options):
        rows = random_events(count, 100_000, 7)
        data = np.zeros(count, kind)
        for index, field in enumerate("txyp"):
            data[field] = [row[index] for row in rows]
        with h5py.File(tmp_path / name, "w") as file:
            file.attrs.update({"geometry": "32x24", "format": "ECF"} if attributes is None else attributes)
            file.create_dataset("CD/events", data=data, **options)
            file.create_dataset("CD/indexes", data=np.zeros(0, [("id", "<u8"), ("ts", "<i8")]))
        return tmp_path / name, rows

    return to_file


@pytest.fixture
def write_with_filter(tmp_path):
    """Writes a file that claims an HDF5 filter that is not there, which h5py itself would refuse to."""

    def to_file(code):
        with h5py.File(tmp_path / "a.hdf5", "w") as file:
            file.attrs["geometry"] = "32x24"
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_chunk((16,))
            properties.set_filter(code, h5py.h5z.FLAG_OPTIONAL, ())
            group = file.create_group("CD")
            data = h5py.h5d.create(
                group.id, b"events", h5py.h5t.py_create(EVENT), h5py.h5s.create_simple((16,)), properties
            )
            data.write_direct_chunk((0,), b"compressed")
        return tmp_path / "a.hdf5"

    return to_file


@pytest.mark.parametrize("options", [{}, {"chunks": (64,), "compression": "gzip"}, {"chunks": (64,), "shuffle": True}])
@pytest.mark.parametrize("name", ["a.hdf5", "a.h5", "a.bin"])
def test_events_of_a_file(write, monkeypatch, assert_events, options, name):
    monkeypatch.setattr(hdf5_events, "PIECE", 64)
    path, rows = write(name=name, **options)
    source = open_source(path)
    assert isinstance(source, Hdf5EventSource)
    assert (source.name, source.is_live, source.sensor_size) == (str(path), False, (32, 24))
    for _ in range(2):  # from the start again
        batches = list(source)
        assert max(len(batch) for batch in batches) <= 2 * 64
        assert_events(Events.concatenate(batches), rows)
    assert (source.problems, source.damage) == ([], {})


def test_file_without_events(write):
    assert list(open_source(write(0)[0])) == []


@pytest.mark.parametrize(
    ("attributes", "given", "size"),
    [
        ({"geometry": b"32x24"}, None, (32, 24)),
        ({"geometry": np.bytes_("32x24")}, (32, 24), (32, 24)),
        ({"plugin_name": "hal_plugin_imx636_evk4"}, None, (1280, 720)),
        ({}, (64, 48), (64, 48)),
    ],
)
def test_sensor_size(write, attributes, given, size):
    assert open_source(write(attributes=attributes)[0], given).sensor_size == size


def test_sensor_size_that_is_missing_or_contradicts(write):
    with pytest.raises(InputFileError, match=r"a\.hdf5 does not tell the sensor's size: give it with --sensor-size"):
        open_source(write(attributes={})[0])
    with pytest.raises(UsageError, match=r"640x480 contradicts .*a\.hdf5"):
        open_source(write()[0], (640, 480))


def test_file_with_prophesees_codec_says_how_to_get_it(write_with_filter):
    with pytest.raises(InputFileError, match=r"ECF codec.*HDF5_PLUGIN_PATH.*metavision_file_to_dat -i"):
        open_source(write_with_filter(ECF))


def test_file_with_another_filter_that_is_missing(write_with_filter):
    with pytest.raises(InputFileError, match=r"a\.hdf5 is compressed by the HDF5 filter 32999"):
        open_source(write_with_filter(32_999))


def test_file_that_is_read_where_the_filter_is_there(write_with_filter, monkeypatch):
    path = write_with_filter(ECF)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda _: True)
    with pytest.raises(DamagedInputError, match=r"a\.hdf5 cannot be read on"):  # it is there only by its own word
        list(open_source(path))


def test_other_fields(tmp_path):
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("CD/events", data=np.zeros(4, [("x", "<u2"), ("y", "<u2"), ("t", "<i8")]))
    with pytest.raises(InputFileError, match=r"b\.h5: the events .*lacks p"):
        open_source(tmp_path / "b.h5", (32, 24))
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_group("CD/events")
    with pytest.raises(InputFileError, match=r"c\.h5: the events .*cannot be read"):
        open_source(tmp_path / "c.h5", (32, 24))


def test_damaged_in_the_middle(write, monkeypatch):
    monkeypatch.setattr(hdf5_events, "PIECE", 64)
    path, _ = write(chunks=(64,), compression="gzip")
    with h5py.File(path) as file:
        place = file["CD/events"].id.get_chunk_info(3).byte_offset
    data = bytearray(path.read_bytes())
    data[place : place + 20] = b"\xff" * 20
    path.write_bytes(data)
    found = []
    with pytest.raises(DamagedInputError, match="what came before has been processed"):
        found.extend(open_source(path))
    assert sum(map(len, found)) == 3 * 64


def test_close(write, monkeypatch):
    monkeypatch.setattr(hdf5_events, "PIECE", 64)
    source = open_source(write()[0])
    iterator = iter(source)
    next(iterator)
    source.close()
    assert list(iterator) == []
