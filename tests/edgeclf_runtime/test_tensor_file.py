from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from edgeclf_runtime.errors import DamagedInputError, EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.tensor_file import TensorAttributes, TensorFile, write_tensor_file

MADE = TensorAttributes("histo", 10_000, (32, 24), 120_000, {"max_incr_per_pixel": 2.5, "downsampling_factor": 1})


def frames_of(count, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).random((count, 2, 12, 16)).astype(dtype)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "ä b.h5"
    assert write_tensor_file(path, frames_of(40), MADE) == 40
    return path


@pytest.fixture
def foreign(tmp_path):
    """Writes an HDF5 file as somebody else's program would; an attribute that is None is left out."""

    def write(data=None, name="data", **attributes):
        path = tmp_path / "foreign.h5"
        stated = {
            "events_to_tensor": "histo",
            "delta_t": 10_000,
            "event_input_height": 24,
            "event_input_width": 32,
        } | attributes
        with h5py.File(path, "w") as file:
            data = file.create_dataset(name, data=frames_of(3) if data is None else data)
            data.attrs.update({key: value for key, value in stated.items() if value is not None})
        return path

    return write


def test_round_trip(written):
    with TensorFile(written) as file:
        assert (file.path, file.shape, len(file)) == (written, (40, 2, 12, 16), 40)
        assert file.attributes == MADE
        for again in range(2):
            frames = list(file)
            assert {frame.dtype for frame in frames} == {np.dtype("f4")}, again
            np.testing.assert_array_equal(frames, frames_of(40))
        np.testing.assert_array_equal(file.read(33, 36), frames_of(40)[33:36])
        np.testing.assert_array_equal(file.read(38, 99), frames_of(40)[38:])
        assert file.read(40, 41).shape == (0, 2, 12, 16)


def test_any_reader_of_hdf5_finds_metavisions_layout(written):
    with h5py.File(written) as file:
        assert list(file) == ["data"]
        data = file["data"]
        assert (data.shape, data.dtype, data.chunks) == ((40, 2, 12, 16), np.float32, (1, 2, 12, 16))
        np.testing.assert_array_equal(data[:], frames_of(40))
        found = dict(data.attrs)
    np.testing.assert_array_equal(found.pop("shape"), [2, 12, 16])
    assert found == {
        "events_to_tensor": "histo",
        "delta_t": 10_000,
        "event_input_height": 24,
        "event_input_width": 32,
        "mode": "delta_t",
        "n_events": 0,
        "store_as_uint8": False,
        "start_ts": 120_000,
        "max_incr_per_pixel": 2.5,
        "downsampling_factor": 1,
    }


def test_uint8(tmp_path):
    made = TensorAttributes("histo", 10_000, (32, 24), store_as_uint8=True)
    frames = np.linspace(0, 1, 2 * 2 * 12 * 16, dtype=np.float32).reshape(2, 2, 12, 16)
    write_tensor_file(tmp_path / "a.h5", frames, made)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["data"].dtype == np.uint8
        assert file["data"].attrs["store_as_uint8"]
        np.testing.assert_array_equal(file["data"][:], np.rint(frames * 255))
    with TensorFile(tmp_path / "a.h5") as file:
        assert file.attributes == made
        assert file.read(0, 2).dtype == np.float32
        # Half a step, and the ends of the range exactly.
        np.testing.assert_allclose(file.read(0, 2), frames, atol=0.5 / 255 + 1e-7)
        assert (file.read(0, 1).min(), file.read(1, 2).max()) == (0, 1)


def test_memory_does_not_grow_with_the_recording(tmp_path):
    alive = 0

    class Counted(np.ndarray):
        def __del__(self):
            nonlocal alive
            alive -= 1

    def frames():
        nonlocal alive
        for frame in frames_of(50):
            alive += 1
            yield frame.view(Counted)
            assert alive < 4

    assert write_tensor_file(tmp_path / "a.h5", frames(), MADE) == 50


def test_error_while_writing_leaves_the_old_file(written):
    before = written.read_bytes()

    def frames():
        yield from frames_of(3, seed=1)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_tensor_file(written, frames(), MADE)
    assert written.read_bytes() == before
    assert list(written.parent.iterdir()) == [written]


def test_no_frame_at_all(tmp_path):
    with pytest.raises(InputFileError, match="no frame to write"):
        write_tensor_file(tmp_path / "a.h5", [], MADE)
    assert list(tmp_path.iterdir()) == []


# Files of other programs.


def test_metavisions_own_file(foreign):
    # It does not say when the recording starts, and its strings may be bytes.
    with TensorFile(foreign(events_to_tensor=np.bytes_("histo"), mode="delta_t", max_incr_per_pixel=5.0)) as file:
        assert file.attributes == TensorAttributes("histo", 10_000, (32, 24), 0, {"max_incr_per_pixel": 5.0})


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint8, np.int32])
def test_numbers_of_any_type_are_read_as_float32(foreign, dtype):
    data = (frames_of(3) * 100).astype(dtype)
    with TensorFile(foreign(data)) as file:
        assert file.read(0, 3).dtype == np.float32
        np.testing.assert_array_equal(file.read(0, 3), data.astype(np.float32))


def test_argument_that_is_an_array_is_a_list(foreign):
    with TensorFile(foreign(weights=np.array([1.0, 2.0]))) as file:
        assert file.attributes.preprocess_kwargs == {"weights": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (frames_of(3), "frames"),
        (frames_of(3)[0], "data"),
        (np.zeros((2, 2, 2, 2), [("t", "i8"), ("x", "u2")]), "data"),
        (np.full((1, 1, 1, 1), "text", h5py.string_dtype()), "data"),
    ],
)
def test_other_layouts(foreign, data, name):
    with pytest.raises(InputFileError, match=r"foreign\.h5: .*no data set 'data' of numbers with four axes"):
        TensorFile(foreign(data, name))


def test_data_is_a_group(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("data/CD/events")
    with pytest.raises(InputFileError, match="no data set 'data'"):
        TensorFile(tmp_path / "a.h5")


@pytest.mark.parametrize("missing", ["events_to_tensor", "delta_t", "event_input_height", "event_input_width"])
def test_attribute_that_is_missing(foreign, missing):
    with pytest.raises(InputFileError, match=rf"does not say how it was made, as the attributes {missing} are missing"):
        TensorFile(foreign(**{missing: None}))


@pytest.mark.parametrize(
    "attributes",
    [
        {"delta_t": "ten"},
        {"delta_t": 0},
        {"delta_t": np.array([1, 2])},
        {"event_input_width": 0},
        {"event_input_height": -24},
        {"events_to_tensor": np.bytes_(b"\xff")},
        {"start_ts": h5py.Empty("f4")},
    ],
)
def test_attribute_that_cannot_be(foreign, attributes):
    with pytest.raises(InputFileError, match=r"foreign\.h5: .* cannot be read \(.+\); make it again"):
        TensorFile(foreign(**attributes))


@pytest.mark.parametrize("mode", ["mixed", 3, np.array([1, 2])])
def test_a_mode_that_is_not_known(foreign, mode):
    with pytest.raises(InputFileError, match=r"end by the mode .*, and edgeclf knows delta_t and n_events"):
        TensorFile(foreign(mode=mode))


# Frames of a number of events.

BY_COUNT = replace(MADE, mode="n_events", n_events=500, start_ts=7)


def test_frames_of_a_number_of_events(tmp_path):
    path = tmp_path / "a.h5"
    ends = [10, 20, 20]
    assert write_tensor_file(path, frames_of(3), BY_COUNT, ends) == 3
    with TensorFile(path) as file:
        assert file.attributes == BY_COUNT
        assert (file.frame_ends().tolist(), file.frame_ends().dtype) == ([11, 21, 21], np.int64)
        np.testing.assert_array_equal(file.read(0, 3), frames_of(3))
    with h5py.File(path) as file:
        assert sorted(file) == ["data", "last_timestamps"]
        assert file["last_timestamps"][:].tolist() == ends
        assert (file["data"].attrs["mode"], file["data"].attrs["n_events"]) == ("n_events", 500)


def test_ends_of_frames_of_one_duration(written):
    with TensorFile(written) as file:
        assert file.frame_ends().tolist() == [120_000 + 10_000 * (k + 1) for k in range(40)]
        assert file.frame_ends().dtype == np.int64


@pytest.mark.parametrize(("made", "ends"), [(BY_COUNT, []), (BY_COUNT, [1, 2]), (MADE, [10, 20, 30])])
def test_last_timestamps_that_are_not_the_frames(tmp_path, made, ends):
    with pytest.raises(ValueError, match=rf"{len(ends)} last time-stamps for 3 frames"):
        write_tensor_file(tmp_path / "a.h5", frames_of(3), made, ends)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def counted(foreign):
    """Writes a foreign file of 3 frames by number of events, its last_timestamps as given; None leaves them out."""

    def write(times, **attributes):
        path = foreign(**({"mode": b"n_events", "n_events": 500} | attributes))
        with h5py.File(path, "a") as file:
            if times is not None:
                file["last_timestamps"] = times
        return path

    return write


@pytest.mark.parametrize("delta_t", [None, 0, 50_000])
def test_metavisions_own_file_of_a_number_of_events(counted, delta_t):
    with TensorFile(counted(np.array([3, 5, 9], np.uint32), delta_t=delta_t)) as file:
        made = TensorAttributes("histo", delta_t or 0, (32, 24), 0, {}, mode="n_events", n_events=500)
        assert file.attributes == made
        assert file.frame_ends().tolist() == [4, 6, 10]


@pytest.mark.parametrize(
    "times", [None, np.arange(2), np.arange(4), np.zeros((3, 1), int), np.array([1.0, 2.0, 3.0]), h5py.Empty("i8")]
)
def test_last_timestamps_that_are_missing(counted, times):
    with pytest.raises(InputFileError, match=r"foreign\.h5: .* no data set 'last_timestamps' of 3 whole numbers"):
        TensorFile(counted(times))


@pytest.mark.parametrize("times", [[5, 4, 6], [-1, 4, 6], np.array([1, 2, 2**64 - 1], np.uint64)])
def test_last_timestamps_that_run_backwards(counted, times):
    with pytest.raises(InputFileError, match=r"foreign\.h5: .*run backwards, so the file is damaged"):
        TensorFile(counted(times))


@pytest.mark.parametrize(
    ("n_events", "says"), [(None, "attributes n_events are missing"), (0, "n_events is 0"), ("many", "cannot be read")]
)
def test_numbers_of_events_that_cannot_be(counted, n_events, says):
    with pytest.raises(InputFileError, match=says):
        TensorFile(counted([1, 2, 3], n_events=n_events))


@pytest.mark.parametrize(
    ("made", "takes", "says"),
    [
        (MADE, {}, None),
        (BY_COUNT, {"mode": "n_events", "n_events": 500}, None),
        (BY_COUNT, {"mode": "n_events", "n_events": 500, "delta_t": 1}, None),  # its frames last as long as they last
        (BY_COUNT, {}, "its frames end by n_events, the model's delta_t"),
        (MADE, {"mode": "n_events", "n_events": 500}, "its frames end by delta_t, the model's n_events"),
        (BY_COUNT, {"mode": "n_events", "n_events": 400}, "its frames hold, in events, 500, the model's 400"),
        (MADE, {"delta_t": 1}, "its frames last, in µs, 10000, the model's 1"),
    ],
)
def test_whether_frames_are_made_as_a_model_takes_them(made, takes, says):
    arguments = {"preprocess": "histo", "preprocess_kwargs": MADE.preprocess_kwargs, "delta_t": 10_000} | takes
    if says is None:
        made.check_made_by(Path("a.h5"), **arguments)
    else:
        with pytest.raises(UsageError, match=f"a.h5 does not fit the model: {says}; make the file again"):
            made.check_made_by(Path("a.h5"), **arguments)


# What a file was made of.


def test_provenance(tmp_path):
    frames_gone_by = []

    def frames():
        for frame in frames_of(3):
            frames_gone_by.append(0)
            yield frame

    write_tensor_file(tmp_path / "a.h5", frames(), MADE, provenance=lambda: {"ä": [1.5, None, len(frames_gone_by)]})
    with TensorFile(tmp_path / "a.h5") as file:
        assert file.provenance() == {"ä": [1.5, None, 3]}
        assert file.attributes == MADE, "it is no argument of the preprocessing"
    with h5py.File(tmp_path / "a.h5") as file:
        assert json.loads(file["data"].attrs["edgeclf"]) == {"ä": [1.5, None, 3]}


def test_provenance_of_a_file_that_does_not_say(written):
    with TensorFile(written) as file:
        assert file.provenance() == {}


def test_provenance_that_cannot_be_read(foreign):
    with (
        TensorFile(foreign(edgeclf="{")) as file,
        pytest.raises(InputFileError, match="what the file says that it was made of is damaged"),
    ):
        file.provenance()


def test_a_file_known_from_before_reads_the_same(written):
    with TensorFile(written) as file, TensorFile(written, file.attributes) as again:
        assert again.attributes is file.attributes
        assert again.shape == file.shape
        np.testing.assert_array_equal(again.read(0, len(again)), file.read(0, len(file)))
        np.testing.assert_array_equal(again.frame_ends(), file.frame_ends())


_FULL_DISK = """
import resource, signal, sys
import numpy as np
from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
frames = np.random.default_rng(0).random((100, 2, 50, 50), np.float32)
try:
    write_tensor_file(sys.argv[1], frames, TensorAttributes("histo", 10_000, (50, 50)))
except EdgeclfError as error:
    print(error)
"""


def test_a_full_disk_leaves_nothing_and_is_said(tmp_path):
    # The limit on the size of a file makes the same calls fail as a full disk does, which crashes HDF5 by itself.
    command = [sys.executable, "-c", _FULL_DISK, str(tmp_path / "a.h5")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (
        ran.stdout
        == f"{tmp_path / 'a.h5'}: it could not be written to its end (File too large); make room, and start again.\n"
    )
    assert list(tmp_path.iterdir()) == []


# Files that are none.


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n"])
def test_not_hdf5(tmp_path, content):
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(InputFileError, match=r"a\.h5: this is not an HDF5 file, or it is damaged or cut short"):
        TensorFile(tmp_path / "a.h5")


def test_cut_short(written):
    written.write_bytes(written.read_bytes()[:-1000])
    with pytest.raises(InputFileError, match="damaged or cut short"):
        TensorFile(written)


def test_attributes_that_hdf5_cannot_decode(written, monkeypatch):
    def names(_):
        raise RuntimeError("Error iterating over attributes (ran off end of input buffer while decoding)")

    monkeypatch.setattr(h5py.AttributeManager, "__iter__", names)
    with pytest.raises(InputFileError, match=r"ä b\.h5: what the tensor file says of itself cannot be read \(Error it"):
        TensorFile(written)


@pytest.mark.parametrize("seed", range(60))
def test_bytes_that_are_damaged(tmp_path, seed):
    """Whatever h5py makes of it, it comes out as an error of ours, or as frames."""
    path = tmp_path / "a.h5"
    write_tensor_file(path, frames_of(4), MADE)
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for place in rng.integers(0, 4096, 4):  # the structures stand at the start
        data[place] = rng.integers(256)
    path.write_bytes(data)
    with contextlib.suppress(EdgeclfError), TensorFile(path) as file:
        file.read(0, 4)


def test_no_such_file(tmp_path):
    with pytest.raises(InputFileError, match="there is no such file"):
        TensorFile(tmp_path / "a.h5")


def test_folder(tmp_path):
    with pytest.raises(InputFileError, match="this is a folder"):
        TensorFile(tmp_path)


def test_damaged_frame_after_whole_ones(written):
    with h5py.File(written) as file:
        chunk = file["data"].id.get_chunk_info_by_coord((33, 0, 0, 0))
    data = bytearray(written.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    written.write_bytes(data)
    with TensorFile(written) as file:
        frames = []
        with pytest.raises(DamagedInputError, match=r"ä b\.h5: frame 33 cannot be read"):
            frames.extend(iter(file))
        np.testing.assert_array_equal(frames, frames_of(40)[:33])
        np.testing.assert_array_equal(file.read(34, 40), frames_of(40)[34:])
        with pytest.raises(DamagedInputError, match="one of the frames 30 to 39 cannot be read"):
            file.read(30, 50)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite(foreign, value):
    data = frames_of(3)
    data[1, 0, 5, 5] = value
    with TensorFile(foreign(data)) as file:
        assert len(file.read(0, 1)) == 1
        with pytest.raises(DamagedInputError, match="frame 1 holds values that are not finite"):
            file.read(1, 2)
