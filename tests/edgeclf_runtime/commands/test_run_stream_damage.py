"""Sources that are damaged, fail, end early, or are none."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file


def test_truncated_recording(edgeclf, write_model, write_dat, random_events, tmp_path, lines_of, without_latency):
    events = random_events(300, 50_000, 1)
    path = write_dat("cut.dat", events, cut=5)
    whole = write_dat("whole.dat", events[:-1])
    ended = edgeclf("run-stream", write_model(), path, "--output", tmp_path / "a.jsonl", "--json", tmp_path / "a.json")
    assert ended.code == 1
    assert "cut.dat was cut off" in ended.error
    found = lines_of((tmp_path / "a.jsonl").read_text())
    expected = lines_of(edgeclf("run-stream", write_model(), whole).out)
    assert without_latency(found) == [line | {"source": str(path)} for line in without_latency(expected)]
    assert json.loads((tmp_path / "a.json").read_text())["frames"] == len(found) == 5


def test_truncated_evt3(edgeclf, shared_data, write_model, tmp_path, lines_of):
    data = (shared_data / "recordings" / "evt3_sample.raw").read_bytes()
    (tmp_path / "cut.raw").write_bytes(data[: len(data) // 2 * 2 - 1])
    ended = edgeclf("run-stream", write_model(delta_t=1000), tmp_path / "cut.raw")
    assert ended.code == 1
    assert "cut off" in ended.error
    assert len(lines_of(ended.out)) == 10


def test_problems_of_all_sources_are_one_error(edgeclf, write_model, write_dat, random_events, lines_of):
    paths = [write_dat(name, random_events(300, 50_000, 1), cut=5) for name in ("a.dat", "b.dat")]
    ended = edgeclf("run-stream", write_model(), *paths)
    assert ended.code == 1
    assert "a.dat was cut off" in ended.error
    assert "b.dat was cut off" in ended.error
    assert len(lines_of(ended.out)) == 10


def damage(path, frame):
    with h5py.File(path) as file:
        chunk = file["data"].id.get_chunk_info_by_coord((frame, 0, 0, 0))
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(data)


def test_a_stream_that_fails_leaves_the_others_alone(edgeclf, write_model, tensors, recording, tmp_path, lines_of):
    damage(tensors, 2)
    ended = edgeclf("run-stream", write_model(), recording, tensors, "--json", tmp_path / "a.json")
    assert ended.code == 1
    assert "frames.h5: frame 2 cannot be read" in ended.error
    assert [(line["frame"], line["stream"]) for line in lines_of(ended.out)] == [
        (0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0), (4, 0), (5, 0),
    ]  # fmt: skip
    streams = json.loads((tmp_path / "a.json").read_text())["streams"]
    assert [stream["frames"] for stream in streams] == [6, 2]
    assert streams[0]["failure"] is None
    assert streams[1]["failure"] == ended.error


def test_failures_and_damage_of_all_sources_are_one_error(
    edgeclf, write_model, write_dat, tensors, random_events, lines_of
):
    damage(tensors, 0)
    outside = [(5, 100, 3, 0), *random_events(300, 50_000, 1)]
    paths = [write_dat("cut.dat", random_events(300, 50_000, 1), cut=5), write_dat("outside.dat", outside), tensors]
    ended = edgeclf("run-stream", write_model(), *paths)
    assert ended.code == 1
    assert "frames.h5: frame 0 cannot be read" in ended.error
    assert "cut.dat was cut off" in ended.error
    assert "1 event(s) of " in ended.error
    assert "no frame to predict" not in ended.error  # of the one that failed, that is no news
    assert [line["stream"] for line in lines_of(ended.out)] == [0, 1] * 5
    assert f"{paths[1]}: events outside the sensor: 1\n" in ended.err


def test_nan_in_a_tensor_file(edgeclf, write_model, tmp_path, lines_of):
    made = TensorAttributes("histo", 10_000, (32, 24), 0, {"max_incr_per_pixel": 2})
    frames = np.zeros((3, 2, 24, 32), np.float32)
    frames[1, 1, 1, 1] = np.nan
    write_tensor_file(tmp_path / "nan.h5", frames, made)
    ended = edgeclf("run-stream", write_model(), tmp_path / "nan.h5")
    assert ended.code == 1
    assert "frame 1 holds values that are not finite" in ended.error
    assert len(lines_of(ended.out)) == 1
    assert "NaN" not in ended.out


@pytest.mark.parametrize("options", [["--start-ts", "10000000"], []])
def test_no_frame_at_all(edgeclf, write_model, write_dat, recording, options, lines_of):
    empty = write_dat("empty.dat", [(20, 0, 0, 0)] if options else [])
    ended = edgeclf("run-stream", write_model(), empty, *options)
    assert (ended.code, ended.out) == (1, "")
    assert ended.error.endswith(
        "empty.dat: there was no frame to predict, as no event lies in the part that was asked for."
    )
    # The other stream is not held up by it.
    if not options:
        ended = edgeclf("run-stream", write_model(), empty, recording)
        assert (ended.code, [line["stream"] for line in lines_of(ended.out)]) == (1, [1] * 6)


HEADER = b"% evt 3.0\n% geometry 32x24\n% end\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.raw", None, "there is no such file"),
        ("a.h5", None, "there is no such file"),
        ("a.raw", b"", "is empty"),
        ("a.raw", b"These are notes\nabout an experiment.\n", "is not a Prophesee recording"),
        ("a.raw", HEADER[:15], "ends within its header"),
        ("a.raw", HEADER.replace(b"evt 3.0", b"evt 4.0"), "is encoded as EVT 4.0, which is not read"),
        ("a.raw", HEADER.replace(b"% geometry 32x24\n", b""), "--sensor-size WIDTH HEIGHT"),
        ("a.h5", b"", "not an HDF5 file"),
        ("a.h5", HEADER, "not an HDF5 file"),
    ],
)
def test_file_that_is_no_source(edgeclf, write_model, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    ended = edgeclf("run-stream", write_model(), tmp_path / name, "--output", tmp_path / "out.jsonl")
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.error
    assert name in ended.error
    assert not (tmp_path / "out.jsonl").exists()


def test_folder_as_source(edgeclf, write_model, tmp_path):
    ended = edgeclf("run-stream", write_model(), tmp_path)
    assert ended.code == 2
    assert f"{tmp_path}: this is a folder" in ended.error


def test_hdf5_of_another_layout(edgeclf, write_model, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["something"] = np.zeros(9)
    ended = edgeclf("run-stream", write_model(), tmp_path / "a.h5")
    assert ended.code == 2
    assert "is not a tensor file" in ended.error


def test_hdf5_of_events(edgeclf, write_model, write_dat, tmp_path, random_events, lines_of, without_latency):
    events = random_events(500, 50_000, 1)
    with h5py.File(tmp_path / "events.h5", "w") as file:
        file["CD/events"] = np.array(
            [(x, y, p, t) for t, x, y, p in events], [("x", "u2"), ("y", "u2"), ("p", "i2"), ("t", "i8")]
        )
    ended = edgeclf("run-stream", write_model(), tmp_path / "events.h5", "--sensor-size", 32, 24)
    expected = edgeclf("run-stream", write_model(), write_dat("events.dat", events))
    assert ended.code == 0
    assert without_latency(lines_of(ended.out)) == [
        line | {"source": str(tmp_path / "events.h5")} for line in without_latency(lines_of(expected.out))
    ]


def test_hdf5_of_events_without_all_of_their_fields(edgeclf, write_model, tmp_path):
    with h5py.File(tmp_path / "events.h5", "w") as file:
        file["CD/events"] = np.zeros(9, [("x", "u2"), ("t", "i8")])
    ended = edgeclf("run-stream", write_model(), tmp_path / "events.h5")
    assert ended.code == 2
    assert "it has the fields x, t, and lacks y, p" in ended.error


def test_hdf5_cut_short(edgeclf, write_model, tensors):
    tensors.write_bytes(tensors.read_bytes()[:-1000])
    ended = edgeclf("run-stream", write_model(), tensors)
    assert ended.code == 2
    assert "damaged or cut short" in ended.error


def test_hdf5_of_other_channels(edgeclf, write_model, tensors, tiny):
    model = write_model(graph_of=replace(tiny, frame_shape=(3, 12, 16), state=()), frame_shape=(3, 12, 16), state=())
    ended = edgeclf("run-stream", model, tensors)
    assert ended.code == 2
    assert "have channels: 2, the model's 3" in ended.error


def test_sizes_that_cannot_be_reconciled(edgeclf, write_model, recording):
    model = write_model(frame_shape=(2, 48, 64), state=())
    ended = edgeclf("run-stream", model, recording)
    assert ended.code == 2
    assert "a ä.dat does not fit the model. Frames of 24×32 (height × width) would have to be enlarged" in ended.error


def test_sensor_size_against_the_header(edgeclf, write_model, recording):
    ended = edgeclf("run-stream", write_model(), recording, "--sensor-size", "64", "48")
    assert ended.code == 2
    assert "contradicts the header" in ended.error
