from __future__ import annotations

import io
import os
import stat
import threading

import pytest

from edgeclf_runtime.errors import DamagedInputError, InputFileError
from edgeclf_runtime.sources import readers
from edgeclf_runtime.sources.readers import GrowingReader, PipeReader, ThreadedReader, open_growing, open_reader


@pytest.fixture
def pipe():
    """Gives the two ends of a pipe: what is read, as an unbuffered file, and where to write."""
    out, into = os.pipe()
    reading, writing = io.FileIO(out), io.FileIO(into, "w")
    yield reading, writing
    reading.close()
    writing.close()


def read_on(reader):
    """Returns what comes until something is not None; a reader that waits says so again and again."""
    closed = threading.Event()
    while (block := reader.read(closed)) is None:
        pass
    return block


@pytest.mark.parametrize("kind", [PipeReader, ThreadedReader])
def test_a_pipe_gives_what_is_there(pipe, kind):
    reading, writing = pipe
    reader = kind(reading, "the pipe")
    assert reader.is_live
    assert reader.read(threading.Event()) is None
    for data in (b"abc", b"\x00" * 1000, b"d"):
        writing.write(data)
        assert read_on(reader) == data
    writing.write(b"last")
    writing.close()
    assert read_on(reader) == b"last"
    assert read_on(reader) == b""
    reader.close()


@pytest.mark.parametrize("kind", [PipeReader, ThreadedReader])
def test_a_file_is_read_to_its_end_and_is_not_live(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(readers, "BLOCK", 7)
    (tmp_path / "a.raw").write_bytes(bytes(range(20)))
    reader = kind(io.FileIO(tmp_path / "a.raw"), "a.raw")
    assert not reader.is_live
    assert [read_on(reader) for _ in range(4)] == [bytes(range(7)), bytes(range(7, 14)), bytes(range(14, 20)), b""]
    reader.close()


@pytest.mark.parametrize("kind", [PipeReader, ThreadedReader])
def test_what_cannot_be_read_on(tmp_path, kind):
    class Broken(io.FileIO):
        def read(self, *_):
            raise OSError(5, "Input/output error")

    (tmp_path / "a.raw").write_bytes(b"abc")
    reader = kind(Broken(tmp_path / "a.raw"), "a.raw")
    with pytest.raises(InputFileError, match=r"a\.raw cannot be read on \(Input/output error\)"):
        read_on(reader)
    reader.close()


def test_the_thread_that_waits_for_room_goes_with_close(pipe, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK", 1)
    reading, writing = pipe
    writing.write(b"0123456789")
    before = set(threading.enumerate())
    reader = ThreadedReader(reading, "the pipe")
    (thread,) = set(threading.enumerate()) - before
    assert read_on(reader) == b"0"
    reader.close()
    writing.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_growing_file(tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(b"abc")
    reader, closed = open_growing(path), threading.Event()
    assert isinstance(reader, GrowingReader)
    assert reader.is_live
    assert [reader.read(closed), reader.read(closed), reader.read(closed)] == [b"abc", None, None]
    with path.open("ab") as file:
        file.write(b"def")
    assert reader.read(closed) == b"def"
    assert reader.read(closed) is None
    reader.close()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda path: path.write_bytes(b"a"), "has become shorter"),
        (lambda path: path.unlink(), "was removed or replaced"),
        (lambda path: (path.rename(path.with_name("b")), path.write_bytes(b"abcdef")), "was removed or replaced"),
    ],
)
def test_a_growing_file_that_is_another_one_now(tmp_path, change, what):
    path = tmp_path / "a.raw"
    path.write_bytes(b"abc")
    reader, closed = open_growing(path), threading.Event()
    assert reader.read(closed) == b"abc"
    change(path)
    with pytest.raises(DamagedInputError, match=rf"a\.raw {what}.*follow it anew"):
        reader.read(closed)
    reader.close()


def test_standard_input_stays_open(pipe, monkeypatch):
    reading, writing = pipe
    monkeypatch.setattr("sys.stdin", reading)
    reader = open_reader(None)
    assert (reader.what, reader.is_live) == ("standard input", True)
    writing.write(b"abc")
    assert read_on(reader) == b"abc"
    reader.close()
    assert stat.S_ISFIFO(os.fstat(reading.fileno()).st_mode)


def test_what_cannot_be_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputFileError, match=r"standard input cannot be read \(it is closed\)"):
        open_reader(None)
    for open_it in (open_reader, open_growing):
        with pytest.raises(InputFileError, match=r"a\.raw cannot be read \(.*No such file"):
            open_it(tmp_path / "a.raw")
