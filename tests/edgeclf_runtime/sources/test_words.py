from __future__ import annotations

import os
import signal
import sys
import threading

import numpy as np
import pytest

from edgeclf_runtime.errors import DamagedInputError, InputFileError, UsageError
from edgeclf_runtime.events import Events, open_recording
from edgeclf_runtime.sources import open_source
from edgeclf_runtime.sources.readers import ByteReader
from edgeclf_runtime.sources.words import WordSource

HEADER_DAT = b"% Data file containing CD events\n% Version 2\n% Width 32\n% Height 24\n\x0c\x08"


class Portions(ByteReader):
    """Gives bytes in portions, with silence between them; `stays` keeps it open."""

    def __init__(self, data, size, stays=False):
        self.what, self.is_live = "the pipe", True
        self.portions = [data[at : at + size] for at in range(0, len(data), size)]
        self.stays, self.closed = stays, 0

    def _read(self, closed):  # noqa: ARG002 - nothing is waited for
        if self.portions and self.portions[0] is not None:
            self.portions.insert(1, None)
            return self.portions.pop(0)
        if self.portions:
            return self.portions.pop(0)
        return None if self.stays else b""

    def close(self):
        self.closed += 1


@pytest.fixture
def fifo_path(tmp_path):
    os.mkfifo(tmp_path / "a.fifo")
    return tmp_path / "a.fifo"


@pytest.fixture
def fifo(fifo_path):
    """Makes a named pipe and a thread that writes to it."""
    threads = []

    def write(data):
        threads.append(threading.Thread(target=fifo_path.write_bytes, args=(data,)))
        threads[-1].start()
        return fifo_path

    yield write
    for thread in threads:
        thread.join(10)


def words_of(rows):
    return np.array([(t, x | y << 14 | p << 28) for t, x, y, p in rows], "<u4").tobytes()


# The file and the stream of it give the same events, whatever the portions.


@pytest.mark.parametrize("name", ["evt2", "evt3"])
@pytest.mark.parametrize("size", [1 << 18, 5_001])
def test_stream_of_a_real_recording(shared_data, name, size):
    path = shared_data / "recordings" / f"{name}_sample.raw"
    vendor = np.load(shared_data / "recordings" / f"{name}_sample.npz")
    reader = Portions(path.read_bytes(), size)
    source = WordSource(reader, "-", open_recording(path).sensor_size)
    assert (source.name, source.is_live) == ("-", True)
    assert source.sensor_size == open_recording(path).sensor_size
    batches = list(source)
    assert any(len(batch) == 0 for batch in batches)
    events = Events.concatenate(batches)
    for field in "txyp":
        np.testing.assert_array_equal(getattr(events, field), vendor[field])
    assert source.time_us is not None
    assert source.time_us >= int(vendor["t"][-1]) - 64
    assert (source.problems, source.damage, reader.closed) == ([], {}, 1)
    assert all(len(batch) == 0 for batch in source)  # it can be read once


@pytest.mark.parametrize("gap", [12_000, 50_000, 1_000_000, 9_000_000])
@pytest.mark.parametrize("size", [8, 5])
def test_dat_events_far_apart_come_with_the_silence_after_them(gap, size):
    rows = [(gap * k, k, 2, 1) for k in range(9)]
    iterator = iter(WordSource(Portions(words_of(rows), size, stays=True), "pipe", (32, 24), "DAT"))
    found = []
    for portion in range(-(-9 * 8 // size)):
        found += [*next(iterator).x.tolist(), *next(iterator).x.tolist()]
        assert found == list(range(min(9, (portion + 1) * size // 8))), "all that are whole"


def test_dat_burst_before_a_silence_comes_out():
    rows = [(t, 1, 2, 1) for t in [*range(0, 20_000, 1_000), *range(3_000_000, 3_000_300, 3)]]
    iterator = iter(WordSource(Portions(words_of(rows), 1 << 18, stays=True), "pipe", (32, 24), "DAT"))
    assert Events.concatenate([next(iterator) for _ in range(3)]).t.tolist() == [row[0] for row in rows]


def test_dat_recovers_after_a_silence_of_any_length():
    rows = [(t, 1, 2, 1) for t in [*range(0, 20_000, 1_000), *range(12_000_000, 15_000_000, 100_000)]]
    source = WordSource(Portions(words_of(rows), 8, stays=True), "pipe", (32, 24), "DAT")
    iterator = iter(source)
    assert Events.concatenate([next(iterator) for _ in range(2 * len(rows))]).t.tolist() == [row[0] for row in rows]
    assert source.damage == {}


@pytest.mark.parametrize("bit", [24, 28, 31])
def test_damaged_dat_event_before_a_silence_does_not_move_time(bit):
    rows = [(t, 1, 2, 1) for t in [*range(0, 20_000, 1_000), 1 << bit, *range(100_000, 2_000_000, 100_000)]]
    source = WordSource(Portions(words_of(rows), 8), "pipe", (32, 24), "DAT")
    expected = [row[0] for row in rows]
    expected[20] = 19_000
    assert Events.concatenate(source).t.tolist() == expected
    assert source.damage == {"time words damaged": 1}


def test_silence_does_not_bear_out_a_time_word(assert_events):
    """Where the sensor sends its time all the time, proof comes as soon as it goes on."""
    highs = [*range(9), 2_000, *range(9, 30)]
    words = np.array([[0x8000 | high, 0x6000, 0x0003, 0x2004] for high in highs], "<u2").tobytes()
    source = WordSource(Portions(words, 8), "pipe", (32, 24), "EVT3")
    expected = [(high * 4096, 4, 3, 0) for high in [*range(9), 8, *range(9, 30)]]
    assert_events(Events.concatenate(source), expected)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_header_in_any_portions(random_events, assert_events, size):
    rows = random_events(60, 30_000, 3)
    source = WordSource(Portions(HEADER_DAT + words_of(rows), size), "pipe")
    assert source.sensor_size == (32, 24)
    assert_events(Events.concatenate(source), rows)


def test_first_word_that_looks_like_a_header(assert_events):
    # EVT_ADDR_X with the bytes "% ", before any time, so that it is dropped.
    words = b"% (!@\n" + np.array([0x8001, 0x6000, 0x0003, 0x2004], "<u2").tobytes()
    source = WordSource(Portions(b"% evt 3.0\n% geometry 640x480\n" + words, 4), "pipe")
    assert_events(Events.concatenate(source), [(4096, 4, 3, 0)])


def test_legacy_order_of_halves():
    time_high, event = 0x8 << 60 | 1 << 32, 1 << 60 | 32 << 43 | 7 << 32 | 0b101
    words = np.array([time_high, event], "<u8").view("<u4").reshape(-1, 2)[:, ::-1].tobytes()
    source = WordSource(Portions(b"% evt 2.1\n% endianness legacy\n% geometry 640x480\n% end\n" + words, 16), "pipe")
    assert Events.concatenate(source).x.tolist() == [32, 34]


def test_words_without_a_header(random_events, assert_events):
    rows = random_events(60, 30_000, 3)
    source = WordSource(Portions(words_of(rows), 11), "pipe", (32, 24), "DAT")
    assert_events(Events.concatenate(source), rows)


def test_format_that_the_header_states_too(random_events, assert_events):
    rows = random_events(60, 30_000, 3)
    data = HEADER_DAT + words_of(rows)
    assert_events(Events.concatenate(WordSource(Portions(data, 99), "pipe", format="DAT")), rows)
    with pytest.raises(UsageError, match="The format EVT3 contradicts the header of the pipe, which states DAT"):
        WordSource(Portions(data, 99), "pipe", format="EVT3")


@pytest.mark.parametrize(
    ("data", "arguments", "error", "message"),
    [
        (b"", {}, InputFileError, "the pipe is empty"),
        (
            b"hello",
            {},
            InputFileError,
            "does not start with the `% ` header.*--format and the sensor's size with --sen",
        ),
        (b"hello", {"format": "EVT3"}, UsageError, "come without a header, so the sensor's size is not known"),
        (b"hello", {"format": "EVT3", "sensor_size": (0, 9)}, UsageError, "The sensor size 0x9 is not one"),
        (b"% evt 3.0\n% geom", {}, InputFileError, "the pipe ends within its header"),
        (b"% evt 4.0\n% end\nxx", {}, InputFileError, "encoded as EVT 4.0, which is not read"),
        (b"% evt 3.0\n% end\nxx", {}, InputFileError, "does not tell the sensor's size"),
        (HEADER_DAT + b"xx", {"sensor_size": (9, 9)}, UsageError, "9x9 contradicts the header of the pipe"),
        (HEADER_DAT[:-1] + b"\x04xx", {}, InputFileError, "events of type 0x0C with 4 bytes each"),
    ],
)
def test_what_is_no_stream_of_words(data, arguments, error, message):
    reader = Portions(data, 4)
    with pytest.raises(error, match=message):
        WordSource(reader, "pipe", **arguments)
    assert reader.closed == 1


def test_a_header_without_end_is_not_waited_for_forever():
    data = b"% Version 2\n" + b"% a b\n" * (1 << 18)
    with pytest.raises(InputFileError, match="events of type"):
        WordSource(Portions(data, 1 << 16, stays=True), "pipe")


def test_stream_that_was_cut_off(random_events, assert_events):
    rows = random_events(60, 30_000, 3)
    source = WordSource(Portions(HEADER_DAT + words_of(rows)[:-3], 99), "pipe")
    assert_events(Events.concatenate(source), rows[:-1])
    assert source.damage == {"bytes of an incomplete word at the end": 5}
    assert source.problems == ["the pipe was cut off: 5 byte(s) of an incomplete word at its end were ignored."]


def test_events_outside_the_sensor(random_events, assert_events):
    rows = random_events(60, 30_000, 3)
    data = HEADER_DAT + words_of([*rows[:30], (rows[30][0], 32, 0, 1), *rows[30:]])
    source = WordSource(Portions(data, 99), "pipe")
    assert_events(Events.concatenate(source), rows)
    assert source.damage == {"events outside the sensor": 1}
    assert source.problems == ["1 event(s) of the pipe outside the sensor (32x24) were dropped."]


# Real pipes and files.


def test_named_pipe(fifo, random_events, assert_events):
    rows = random_events(50_000, 300_000, 3)
    path = fifo(HEADER_DAT + words_of(rows))
    source = open_source(path)
    assert (source.name, source.is_live) == (str(path), True)
    assert_events(Events.concatenate(source), rows)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, opening a pipe waits for whoever writes to it")
def test_waiting_for_a_pipe_that_nobody_writes_to_can_be_interrupted(fifo_path, caplog):
    class Interrupted(BaseException):
        """Like the KeyboardInterrupt of Ctrl-C, which would end pytest where it came too late."""

    def interrupt(*_):
        raise Interrupted

    def interrupt_soon(record):
        if "waiting for its header" in record.getMessage():  # and not for somebody to open its other end
            signal.setitimer(signal.ITIMER_REAL, 0.1)
        return True

    caplog.handler.addFilter(interrupt_soon)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with caplog.at_level("INFO"), pytest.raises(Interrupted):
            open_source(fifo_path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        caplog.handler.removeFilter(interrupt_soon)
    with pytest.raises(OSError, match="No such device"):  # nobody reads it any more
        os.open(fifo_path, os.O_WRONLY | os.O_NONBLOCK)


def test_standard_input(random_events, assert_events, monkeypatch, write_dat):
    rows = random_events(500, 30_000, 3)
    with write_dat("a.dat", rows).open("rb") as file:
        monkeypatch.setattr("sys.stdin", file)
        source = open_source("-")
        assert (source.name, source.is_live) == ("-", False)  # it is a file here
        assert_events(Events.concatenate(source), rows)
        assert not file.closed


def test_file_of_words_without_a_header(tmp_path, random_events, assert_events):
    rows = random_events(60, 30_000, 3)
    (tmp_path / "a.bin").write_bytes(words_of(rows))
    source = open_source(tmp_path / "a.bin", (32, 24), format="DAT")
    assert not source.is_live
    assert_events(Events.concatenate(source), rows)


def test_file_that_grows(write_dat, random_events, assert_events):
    rows = random_events(2_000, 90_000, 3)
    path = write_dat("a.dat", rows[:700], cut=3)
    source = open_source(path, follow=True)
    assert (source.name, source.is_live) == (str(path), True)
    pieces = [words_of(rows)[700 * 8 - 3 : 1_000 * 8], words_of(rows)[1_000 * 8 :]]
    found = []
    for batch in source:
        found.append(batch)
        if not len(batch) and pieces:  # it waits
            with path.open("ab") as file:
                file.write(pieces.pop(0))
        elif not len(batch):
            source.close()
    assert_events(Events.concatenate(found), rows)
    assert source.damage == {}


def test_file_that_grows_and_is_replaced(write_dat, random_events):
    rows = random_events(100, 90_000, 3)
    source = open_source(write_dat("a.dat", rows), follow=True)
    found = []

    def read():
        for batch in source:
            found.append(batch)
            if not len(batch):
                write_dat("a.dat", rows[:10])

    with pytest.raises(DamagedInputError, match=r"a\.dat has become shorter while it was followed"):
        read()
    assert len(Events.concatenate(found)) == 100


def test_close_from_another_thread(write_dat, random_events):
    source = open_source(write_dat("a.dat", random_events(100, 90_000, 3)), follow=True)
    waits = threading.Event()

    def read():
        for batch in source:
            if not len(batch):
                waits.set()

    reading = threading.Thread(target=read)
    reading.start()
    assert waits.wait(10)
    source.close()
    reading.join(10)
    assert not reading.is_alive()


def test_close_of_what_nobody_read(random_events):
    reader = Portions(HEADER_DAT + words_of(random_events(9, 9, 1)), 99)
    source = WordSource(reader, "pipe")
    source.close()
    source.close()
    assert (reader.closed, list(source)) == (1, [])


def test_folder_and_missing_file_cannot_be_followed(tmp_path):
    with pytest.raises(InputFileError, match="this is a folder"):
        open_source(tmp_path, follow=True)
    with pytest.raises(InputFileError, match=r"a\.raw: there is no such file"):
        open_source(tmp_path / "a.raw", follow=True)
