from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

from edgeclf_runtime.errors import EdgeclfError, UsageError
from edgeclf_runtime.outputs import Hdf5Output, hdf5


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(hdf5, "_BLOCK", 16)


def check(group, predictions, delta_t):
    assert group["cls"].dtype == np.float32
    assert group["cls_start_ts"].dtype == group["cls_end_ts"].dtype == np.int64
    ends = [prediction.t_us for prediction in predictions]
    np.testing.assert_array_equal(group["cls"][:], np.array([p.probabilities for p in predictions], np.float32))
    assert group["cls_end_ts"][:].tolist() == ends
    assert group["cls_start_ts"][:].tolist() == [end - delta_t for end in ends]


@pytest.mark.parametrize("count", [0, 1, 16, 100])
def test_one_stream_stands_at_the_top(tmp_path, tiny, predicted, count):
    given = [predicted(k) for k in range(count)]
    path = tmp_path / "new" / "ä.h5"
    with Hdf5Output(path, tiny, ["folder/ä.raw"]) as output:
        for prediction in given:
            output.write(prediction)
    with h5py.File(path) as file:
        assert set(file) == {"cls", "cls_start_ts", "cls_end_ts"}
        assert file["cls"].shape == (count, 4)
        if given:
            check(file, given, tiny.delta_t)
        assert file.attrs["source"] == "folder/ä.raw"
        assert {name: np.asarray(value).tolist() for name, value in file["cls"].attrs.items()} == {
            "input_file_name": "ä.raw",
            "events_to_tensor": "histo",
            "delta_t": 10_000,
            "model_input_height": 12,
            "model_input_width": 16,
            "labels": ["background", "paper", "rock", "scissors"],
        }


def test_several_streams_are_groups(tmp_path, tiny, predicted):
    sources = ["a.raw", "b\udcff.raw", "c.raw"]  # the second holds a byte that is no UTF-8
    lengths = [40, 3, 0]
    given = [[predicted(k, stream) for k in range(count)] for stream, count in enumerate(lengths)]
    with Hdf5Output(tmp_path / "a.h5", tiny, sources) as output:
        for k in range(max(lengths)):
            for predictions in given:
                for prediction in predictions[k : k + 1]:
                    output.write(prediction)
    with h5py.File(tmp_path / "a.h5") as file:
        assert list(file) == ["stream_0", "stream_1", "stream_2"]
        assert [file[name].attrs["source"] for name in file] == ["a.raw", "b?.raw", "c.raw"]
        for name, predictions in zip(("stream_0", "stream_1"), given, strict=False):
            check(file[name], predictions, tiny.delta_t)
        assert file["stream_2/cls"].shape == (0, 4)


def test_the_file_can_be_read_while_it_grows(tmp_path, tiny, predicted):
    """A full block is there at once; of a block that is not full, nothing for two seconds."""
    with Hdf5Output(tmp_path / "a.h5", tiny, ["a"]) as output:
        for k in range(40):
            with h5py.File(tmp_path / "a.h5") as file:
                check(file, [predicted(i) for i in range(k // 16 * 16)], tiny.delta_t) if k >= 16 else None
                assert len(file["cls"]) == k // 16 * 16
            output.write(predicted(k))


def test_what_waits_for_a_block_is_written_after_a_while(tmp_path, tiny, predicted, monkeypatch):
    monkeypatch.setattr(hdf5, "_COMMIT_S", 0)
    with Hdf5Output(tmp_path / "a.h5", tiny, ["a"]) as output:
        for k in range(20):
            output.write(predicted(k))
            with h5py.File(tmp_path / "a.h5") as file:
                check(file, [predicted(i) for i in range(k + 1)], tiny.delta_t)


def test_a_place_that_cannot_be_written(tmp_path, tiny):
    (tmp_path / "file").touch()
    for place, says in ((tmp_path, "no regular file"), (tmp_path / "file" / "a.h5", "cannot be written there")):
        with pytest.raises(UsageError, match=says) as raised:
            Hdf5Output(place, tiny, ["a"])
        assert str(place) in str(raised.value)


def test_a_disk_that_is_full_from_the_start(tmp_path, tiny, full_disk):
    full_disk(100)
    with pytest.raises(EdgeclfError, match=r"a\.h5: it could not be written"):
        Hdf5Output(tmp_path / "a.h5", tiny, ["a"])


@pytest.mark.parametrize("room", range(12_000, 30_000, 1_234))
def test_a_full_disk_is_told_once_and_leaves_a_whole_file(tmp_path, tiny, predicted, full_disk, room):
    full_disk(room)
    output = Hdf5Output(tmp_path / "a.h5", replace(tiny, labels=tiny.labels), ["a", "b"])
    count = 0
    with pytest.raises(EdgeclfError, match=r"a\.h5: it could not be written to its end \(No space left"):  # noqa: PT012
        while True:
            output.write(predicted(count // 2, count % 2))
            count += 1
    output.close()
    output.close()
    with h5py.File(tmp_path / "a.h5") as file:
        for stream in range(2):
            frames = len(file[f"stream_{stream}/cls"])
            assert count // 2 - 16 <= frames <= count // 2
            if frames:
                check(file[f"stream_{stream}"], [predicted(k, stream) for k in range(frames)], tiny.delta_t)
