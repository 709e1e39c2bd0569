from __future__ import annotations

import io
import json
import os
import select
import stat
import sys
import threading
from pathlib import Path

import pytest

from edgeclf_runtime.errors import EdgeclfError, UsageError
from edgeclf_runtime.outputs import JsonLinesOutput


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_is_a_prediction(tmp_path, predicted):
    path = tmp_path / "new ü" / "a.jsonl"
    given = [predicted(k, label="grün") for k in range(3)]
    with JsonLinesOutput(path) as output:
        for prediction in given:
            output.write(prediction)
    assert lines_of(path) == [prediction.to_dict() for prediction in given]
    assert '"label": "grün"' in path.read_text(encoding="utf-8")


def test_each_line_is_there_at_once_and_in_one_piece(tmp_path, predicted, monkeypatch):
    pieces = []

    class Watched(io.FileIO):
        def write(self, data):
            pieces.append(bytes(data))
            return super().write(data)

    monkeypatch.setattr(Path, "open", lambda path, *_, **__: Watched(path, "w"))
    path = tmp_path / "a.jsonl"
    output = JsonLinesOutput(path)
    monkeypatch.undo()
    with output:
        for k in range(3):
            output.write(predicted(k))
            assert len(path.read_bytes().splitlines()) == k + 1
    assert [json.loads(piece)["frame"] for piece in pieces] == [0, 1, 2]
    assert all(piece.endswith(b"\n") for piece in pieces)


def test_the_file_is_written_in_place(tmp_path, predicted):
    path = tmp_path / "a.jsonl"
    path.write_text("of another run")
    before = path.stat().st_ino
    with JsonLinesOutput(path) as output:
        output.write(predicted(7))
    assert path.stat().st_ino == before
    assert [line["frame"] for line in lines_of(path)] == [7]


def test_standard_output(capsys, predicted):
    print("before")  # noqa: T201 - it must not come after the lines
    with JsonLinesOutput("-") as output:
        output.write(predicted(0, label="é"))
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "before"
    assert json.loads(out[1])["label"] == "é"
    print("still open")  # noqa: T201


def test_letters_that_are_none_become_question_marks(tmp_path, predicted):
    with JsonLinesOutput(tmp_path / "a.jsonl") as output:
        output.write(predicted(0, label="a\udcffb"))
    assert lines_of(tmp_path / "a.jsonl")[0]["label"] == "a?b"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "a.jsonl"):
        with pytest.raises(UsageError, match="cannot be written there") as raised:
            JsonLinesOutput(place)
        assert str(place) in str(raised.value)


def test_a_full_disk_is_an_error_and_leaves_whole_lines(tmp_path, predicted, full_disk):
    full_disk(700)
    path = tmp_path / "a.jsonl"
    output = JsonLinesOutput(path)
    with pytest.raises(EdgeclfError, match=r"a\.jsonl: a prediction could not be written \(No space left") as raised:  # noqa: PT012
        while True:
            output.write(predicted(0))
    output.close()
    assert raised.value.exit_code == 1
    assert path.read_text().endswith("\n")
    assert lines_of(path) == [predicted(0).to_dict()] * len(lines_of(path))
    assert 700 - 250 < path.stat().st_size <= 700


@pytest.mark.parametrize("where", ["/dev/full", "-"])
def test_a_device_that_is_full(predicted, monkeypatch, where):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(EdgeclfError, match="No space left on device"), JsonLinesOutput(where) as output:
            output.write(predicted(0))
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_a_reader_that_leaves_is_a_broken_pipe(predicted, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(BrokenPipeError), JsonLinesOutput("-") as output:
            output.write(predicted(0))


def test_standard_output_that_does_not_wait_for_its_reader(predicted, monkeypatch):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        output = JsonLinesOutput("-")
        received = bytearray()

        def read():
            while block := os.read(reading, 4096):
                received.extend(block)

        reader = threading.Thread(target=read)
        count = 0
        while select.select([], [writing], [], 0)[1]:  # until the pipe is full
            output.write(predicted(count))
            count += 1
        reader.start()
        for k in range(count, count + 50):
            output.write(predicted(k))
        monkeypatch.undo()
    reader.join()
    os.close(reading)
    assert [json.loads(line)["frame"] for line in received.splitlines()] == list(range(count + 50))
