from __future__ import annotations

import h5py
import numpy as np
import pytest

from edgeclf_runtime.errors import EdgeclfError, InputFileError
from edgeclf_runtime.hdf5_input import MOST_ATTRIBUTES, hdf5_input, plain_attributes
from edgeclf_runtime.tensor_file import TensorFile

STATED = {"events_to_tensor": "histo", "delta_t": 10_000, "event_input_height": 24, "event_input_width": 32}


@pytest.fixture
def hostile(tmp_path):
    """Writes a tensor file whose data set is made by a function of the file, and returns its path."""

    def write(make, **attributes):
        path = tmp_path / "hostile.h5"
        with h5py.File(path, "w") as file:
            make(file)
            if isinstance(file.get("data", getlink=True), h5py.HardLink):
                file["data"].attrs.update(STATED | attributes)
        return path

    return write


def other_file(tmp_path):
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=np.ones((2, 2, 12, 16), np.float32)).attrs.update(STATED)
    return path


def link_outside(file, other):
    file["data"] = h5py.ExternalLink(str(other), "/data")


def link_inside(file, _):
    file["frames"] = np.zeros((2, 2, 12, 16))
    file["data"] = h5py.SoftLink("/frames")


def external_storage(file, other):
    file.create_dataset("data", (1, 1, 2, 4), "u1", external=[(str(other), 0, 8)])


def virtual(file, other):
    layout = h5py.VirtualLayout((2, 2, 12, 16), "f4")
    layout[:] = h5py.VirtualSource(str(other), "data", (2, 2, 12, 16))
    file.create_virtual_dataset("data", layout)


def petabytes(file, _):
    file.create_dataset("data", (1 << 40, 2, 12, 16), "f4", chunks=(1, 2, 12, 16))


def huge_frame(file, _):
    file.create_dataset("data", (1, 1 << 20, 1 << 10, 1 << 10), "f4", chunks=(1, 1, 16, 16))


def huge_chunk(file, _):
    file.create_dataset("data", (1, 2, 12, 16), "f4", maxshape=(None,) * 4, chunks=(1, 2, 1 << 13, 1 << 13))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (link_outside, "'data' is a link to another place"),
        (link_inside, "'data' is a link to another place"),
        (external_storage, "'data' lies in another file"),
        (virtual, "cannot be read"),
        (petabytes, "'data' says that it holds 1099511627776 entries, in a file of"),
        (huge_frame, "an entry of 'data' takes"),
        (huge_chunk, "an entry of 'data' takes"),
    ],
)
def test_what_is_refused(hostile, tmp_path, make, says):
    path = hostile(lambda file: make(file, other_file(tmp_path)))
    with pytest.raises(InputFileError, match=says):
        TensorFile(path)


@pytest.mark.parametrize("dtype", [h5py.vlen_dtype(np.uint8), h5py.ref_dtype, h5py.string_dtype()])
def test_data_of_types_that_are_read_by_following_pointers(hostile, dtype):
    path = hostile(lambda file: file.create_dataset("data", (1, 2, 12, 16), dtype))
    with pytest.raises(InputFileError, match="no data set 'data' of numbers"):
        TensorFile(path)


@pytest.mark.parametrize(
    "attributes",
    [
        {f"a{k}": k for k in range(MOST_ATTRIBUTES)},
        {"start_ts": 1 << 62},
        {"delta_t": 1 << 62},
        {"delta_t": np.inf},
        {"n_events": np.inf, "mode": "n_events"},
    ],
)
def test_attributes_that_are_refused(hostile, attributes):
    path = hostile(lambda file: file.create_dataset("data", (3, 2, 12, 16), "f4"), **attributes)
    with pytest.raises(InputFileError, match="what the tensor file says of itself cannot be read"):
        TensorFile(path)


def test_attributes_of_other_types_are_left_out(hostile):
    sequences = np.empty(1, h5py.vlen_dtype(np.int32))
    sequences[0] = np.arange(3, dtype=np.int32)
    path = hostile(
        lambda file: file.create_dataset("data", (1, 2, 12, 16), "f4"), sequences=sequences, a=[1, 2], b=b"x"
    )
    with hdf5_input(path) as (file, _):
        assert plain_attributes(file["data"]) == STATED | {"a": [1, 2], "b": "x"}


def test_attribute_whose_name_is_no_text_is_left_out(hostile):
    """Found by the harness: h5py gives such a name as bytes."""
    path = hostile(lambda file: file.create_dataset("data", (1, 2, 12, 16), "f4"), name=1)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"name\0", b"n\xffme\0"))
    with hdf5_input(path) as (file, _):
        assert any(isinstance(name, bytes) for name in file["data"].attrs)
        assert plain_attributes(file["data"]) == STATED


def test_heap_that_hdf5_would_never_leave(hostile):
    """Found by the harness: an object of a size that leads into zeros."""
    path = hostile(lambda file: file.create_dataset("data", (1, 2, 12, 16), "f4"))
    data = bytearray(path.read_bytes())
    data[data.index(b"GCOL") + 25] = 1
    path.write_bytes(data)
    with pytest.raises(InputFileError, match="a global heap is damaged"):
        TensorFile(path)


def test_text_that_is_longer_than_the_file(hostile):
    """Found by the harness: HDF5 takes as much memory as the file says that the text is long."""
    path = hostile(lambda file: file.create_dataset("data", (1, 2, 12, 16), "f4"))
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL").to_bytes(8, "little")
    data[data.index(heap, data.index(b"events_to_tensor")) - 1] = 0x20  # the highest byte of its length
    path.write_bytes(data)
    with pytest.raises(InputFileError, match="it says that a text is 536870917 bytes long"):
        TensorFile(path)


def test_text_whose_reference_is_too_small(hostile):
    """Found by the harness: HDF5 read on behind the reference, and took up to gigabytes of memory."""
    path = hostile(lambda file: file.create_dataset("data", (1, 2, 12, 16), "f4"))
    data = bytearray(path.read_bytes())
    kind = data.index(b"events_to_tensor") + 24  # the type follows the name; the size of a reference is its second word
    assert data[kind + 4] == 16
    data[kind + 4] = 1
    path.write_bytes(data)
    with pytest.raises(InputFileError, match="its attribute 'events_to_tensor' is too small"):
        TensorFile(path)


def test_chunk_that_is_longer_than_the_file(hostile):
    """Found by the harness: HDF5 takes as much memory as the file says that the chunk is long."""
    frames = np.random.default_rng(0).random((1, 2, 12, 16))
    path = hostile(lambda file: file.create_dataset("data", data=frames, chunks=(1, 2, 12, 16), compression="gzip"))
    with h5py.File(path) as file:
        size = file["data"].id.get_chunk_info(0).size
    data = bytearray(path.read_bytes())
    at = data.index(size.to_bytes(4, "little") + bytes(4 + 5 * 8), data.index(b"TREE\1"))
    data[at + 3] = 0x20
    path.write_bytes(data)
    with pytest.raises(EdgeclfError, match="frame 0 cannot be read"), TensorFile(path) as file:
        file.read(0, 1)
