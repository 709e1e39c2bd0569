from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest

from edgeclf_runtime.errors import EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.events import Events, Recording, open_recording
from edgeclf_runtime.slicing import slices

HEADER2 = b"% evt 2.0\n% geometry 640x480\n% end\n"
HEADER21 = b"% format EVT21;height=480;width=640\n% end\n"
HEADER3 = b"% evt 3.0\n% geometry 640x480\n% end\n"
HEADER_DAT = b"% Data file containing CD events\n% Version 2\n% Width 640\n% Height 480\n\x0c\x08"


@pytest.fixture
def written(tmp_path):
    """Writes bytes to a file of some name and returns its path."""

    def write(data, name="recording.raw"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def evt2(*words):
    return np.array(words, "<u4").tobytes()


def evt2_event(x, y, low=0, p=1):
    return p << 28 | low << 22 | x << 11 | y


# The vendor's decoder is the reference here: its events of two real recordings.


@pytest.mark.parametrize(("name", "format", "size"), [("evt2", "EVT2", (640, 480)), ("evt3", "EVT3", (1280, 720))])
def test_equals_the_vendors_decoder(shared_data, name, format, size):
    recording = open_recording(shared_data / "recordings" / f"{name}_sample.raw")
    expected = np.load(shared_data / "recordings" / f"{name}_sample.npz")
    assert (recording.format, recording.sensor_size) == (format, size)
    for _ in range(2):  # from the start again
        events = Events.concatenate(recording)
        for field in "txyp":
            np.testing.assert_array_equal(getattr(events, field), expected[field])
        assert recording.problems == []


@pytest.mark.parametrize("name", ["evt2", "evt3"])
def test_expelliarmus_reads_the_same(shared_data, name):
    expelliarmus = pytest.importorskip("expelliarmus")
    path = shared_data / "recordings" / f"{name}_sample.raw"
    theirs = expelliarmus.Wizard(encoding=name).read(path)
    ours = Events.concatenate(open_recording(path))
    for field in "xyp":
        np.testing.assert_array_equal(getattr(ours, field), theirs[field])
    # expelliarmus 1.1.12 moves EVT3 times on by 4096 µs too often; its low bits of the time are right.
    modulus = 4096 if name == "evt3" else 1 << 34
    np.testing.assert_array_equal(ours.t % modulus, theirs["t"] % modulus)


# What is in a file decides its format.


@pytest.mark.parametrize(
    ("header", "name", "format"),
    [
        (HEADER2, "a.raw", "EVT2"),
        (HEADER2, "a.dat", "EVT2"),
        (HEADER21, "a.raw", "EVT2.1"),
        (HEADER3, "a.bin", "EVT3"),
        (HEADER_DAT, "a.dat", "DAT"),
        (HEADER_DAT, "a.raw", "DAT"),
        (HEADER_DAT.replace(b"\x0c", b"\x00"), "a.dat", "DAT"),
        (b"% Width 640\n% Height 480\n\x00\x08", "a.raw", "DAT"),
    ],
)
def test_format_and_empty_recording(written, header, name, format):
    recording = open_recording(written(header, name))
    assert isinstance(recording, Recording)
    assert (recording.format, recording.sensor_size) == (format, (640, 480))
    assert list(recording) == []
    assert recording.problems == []
    assert format in repr(recording)


def test_header_fields_as_written(written):
    assert open_recording(written(HEADER2)).header == {"evt": "2.0", "geometry": "640x480"}


@pytest.mark.parametrize("end", [b"", b"% end\n"])
def test_first_word_that_looks_like_a_header(written, end):
    # An EVT3 file whose first word is EVT_ADDR_X with bytes "% ", and whose next bytes are printable.
    words = b"% (!@" + b"\n" + np.array([0x8001, 0x0003, 0x2004], "<u2").tobytes()
    recording = open_recording(written(b"% evt 3.0\n% geometry 640x480\n" + end + words))
    (events,) = recording
    assert (events.t.tolist(), events.x.tolist(), events.y.tolist()) == ([4096], [4], [3])


def test_legacy_order_of_halves(written):
    time_high, event = 0x8 << 60 | 1 << 32, 1 << 60 | 32 << 43 | 7 << 32 | 0b101
    words = np.array([time_high, event], "<u8").view("<u4").reshape(-1, 2)[:, ::-1].tobytes()
    for header in (
        b"% format EVT21;height=480;width=640;endianness=legacy\n",
        b"% evt 2.1\n% endianness legacy\n% geometry 640x480\n",
    ):
        (events,) = open_recording(written(header + b"% end\n" + words))
        assert events.x.tolist() == [32, 34]
        assert events.t.tolist() == [64, 64]


# The sensor's size.


def test_given_size_is_used_where_the_header_has_none(written):
    path = written(b"% evt 2.0\n% end\n")
    assert open_recording(path, (304, 240)).sensor_size == (304, 240)
    assert open_recording(str(path), sensor_size=(304, 240)).path == path


def test_given_size_wins_over_a_guess(written):
    path = written(b"% evt 2.0\n% plugin_name hal_plugin_gen3_fx3\n% end\n")
    assert open_recording(path).sensor_size == (640, 480)
    assert open_recording(path, (304, 240)).sensor_size == (304, 240)


def test_given_size_may_repeat_what_the_header_states(written):
    assert open_recording(written(HEADER2), (640, 480)).sensor_size == (640, 480)


# Errors, each a sentence with the file's name.


def assert_sentence(error, path, *words):
    text = str(error.value)
    assert str(path) in text
    assert text.endswith(".")
    assert "\n" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"", "a.raw", ["is empty"]),
        (b"hello world\n", "a.raw", ["not a Prophesee recording", "EVT2.1"]),
        (b"x = 1 % comment\n", "a.dat", ["not a Prophesee recording"]),
        (b"\x00\x01\x02", "a.raw", ["not a Prophesee recording"]),
        (b"% some text of no camera\nmore\n", "a.raw", ["not a Prophesee recording", "% evt"]),
        (b"% evt 4.0\n% end\n", "a.raw", ["EVT 4.0", "EVT2, EVT2.1, EVT3 and DAT version 2"]),
        (b"% evt 3.0\n% format HISTO3D;height=320;width=320\n% end\n", "a.raw", ["HISTO3D", "EVT3"]),
        (b"% evt 2.1\n% endianness big\n% end\n", "a.raw", ["big-endian", "little-endian"]),
        (b"% evt 3.0\n% geometry 640x480\n", "a.raw", ["ends within its header"]),
        (b"% evt 3.0\n% geometry 640x", "a.raw", ["ends within its header"]),
        (b"% evt 3", "a.raw", ["ends within its header"]),
        (HEADER_DAT[:-2], "a.dat", ["ends within its header"]),
        (HEADER_DAT[:-1], "a.dat", ["ends within its header"]),
        (HEADER_DAT.replace(b"Version 2", b"Version 1"), "a.dat", ["version 1", "version 2"]),
        (HEADER_DAT[:-2] + b"\x0e\x08", "a.dat", ["type 0x0E", "CD events"]),
        (HEADER_DAT[:-2] + b"\x0c\x10", "a.dat", ["16 bytes"]),
        (b"% evt 3.0\n% end\n", "a.raw", ["--sensor-size WIDTH HEIGHT"]),
        (b"% Version 2\n\x0c\x08", "a.dat", ["--sensor-size WIDTH HEIGHT"]),
    ],
)
def test_files_that_are_not_read(written, data, name, words):
    path = written(data, name)
    with pytest.raises(InputFileError) as error:
        open_recording(path)
    assert_sentence(error, path, *words)
    assert error.value.exit_code == 2


def test_no_such_file(tmp_path):
    with pytest.raises(InputFileError) as error:
        open_recording(tmp_path / "missing.raw")
    assert_sentence(error, tmp_path / "missing.raw", "There is no recording")


def test_folder(tmp_path):
    with pytest.raises(InputFileError) as error:
        open_recording(tmp_path)
    assert_sentence(error, tmp_path, "is a folder")


def test_file_below_a_file(written):
    path = written(HEADER2) / "a.raw"
    with pytest.raises(InputFileError) as error:
        open_recording(path)
    assert_sentence(error, path, "cannot be read")


def test_size_that_contradicts_the_header(written):
    path = written(HEADER2)
    with pytest.raises(UsageError) as error:
        open_recording(path, (1280, 720))
    assert_sentence(error, path, "1280x720", "640x480")


def test_size_that_is_none(written):
    with pytest.raises(UsageError, match=re.escape("0x480")):
        open_recording(written(b"% evt 2.0\n% end\n"), (0, 480))


def test_file_that_is_gone_when_it_is_read(written):
    path = written(HEADER2)
    recording = open_recording(path)
    path.unlink()
    with pytest.raises(InputFileError, match="There is no recording"):
        list(recording)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("header", [HEADER2, HEADER21, HEADER3, HEADER_DAT])
def test_noise_after_a_good_header_is_decoded(written, header, seed):
    noise = np.random.default_rng(seed).bytes(10_001 + seed)
    for events in open_recording(written(header + noise)):
        assert events.x.max() < 640
        assert events.y.max() < 480
        assert events.p.max() < 2


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("start", [b"", b"%", b"% ", b"% evt 3.0\n", b"% evt 3.0\n% geometry "])
def test_noise_after_less_than_a_header_is_refused_with_a_sentence(written, start, seed):
    path = written(start + np.random.default_rng(seed).bytes(1000))
    with pytest.raises(EdgeclfError) as error:
        open_recording(path)
    assert_sentence(error, path)


# Damaged recordings give what is whole and tell the rest.


@pytest.mark.parametrize(("header", "size"), [(HEADER2, 4), (HEADER21, 8), (HEADER3, 2), (HEADER_DAT, 8)])
def test_truncation(written, header, size):
    whole = bytes(size * 5)
    for extra in range(1, size):
        path = written(header + whole + bytes(extra))
        recording = open_recording(path)
        truncated = Events.concatenate(recording)
        assert recording.problems == [
            f"{path} was cut off: {extra} byte(s) of an incomplete word at its end were ignored."
        ]
        assert len(truncated) == len(Events.concatenate(open_recording(written(header + whole, "whole"))))


def test_events_outside_the_sensor_are_dropped_and_counted(written):
    inside, right, below = evt2_event(639, 479), evt2_event(640, 0), evt2_event(0, 480)
    path = written(HEADER2 + evt2(0x8 << 28, inside, right, below, inside))
    recording = open_recording(path)
    (events,) = recording
    assert events.x.tolist() == [639, 639]
    assert recording.problems == [f"2 event(s) of {path} outside the sensor (640x480) were dropped."]
    list(recording)
    assert len(recording.problems) == 1


def test_time_that_steps_back_is_told(written):
    event = evt2_event(1, 1)
    path = written(HEADER2 + evt2(0x8 << 28 | 5, event, 0x8 << 28 | 3, event, 0x8 << 28 | 6, event))
    recording = open_recording(path)
    (events,) = recording
    assert events.t.tolist() == [320, 192, 384]
    assert recording.problems == [f"The time-stamps of {path} step back 1 time(s), by up to 128 µs."]


def test_damage_is_counted_while_it_is_read(written):
    good = np.repeat(np.uint32(0x8 << 28) | np.arange(1000, 9000, dtype=np.uint32), 40)
    good[1::2] = evt2_event(1, 1)
    words = good.copy()
    words[1000] ^= 1 << 25  # a time word
    words[1001], words[1003] = evt2_event(700, 1), 0x5 << 28
    recording = open_recording(written(HEADER2 + evt2(*words) + b"12"))
    assert recording.damage == {}
    batches = iter(recording)
    next(batches)
    counts = {"events outside the sensor": 1, "time words damaged": 1, "words of unknown type": 1}
    assert recording.damage == counts
    for _ in batches:
        pass
    assert recording.damage == counts | {"bytes of an incomplete word at the end": 2}
    assert len(recording.problems) == 3


@pytest.mark.parametrize(("header", "size"), [(HEADER2, 4), (HEADER3, 2), (HEADER_DAT, 8)])
def test_a_damaged_time_word_makes_no_frames(written, header, size):
    """A million frames, or one with all later events, were the harm that one bit did."""
    high = np.arange(2000)
    words = {
        4: np.stack([0x8 << 28 | high * 64, np.full(2000, evt2_event(1, 1))], 1).astype("<u4"),
        2: np.stack([0x8000 | high, 0x0001 | 0 * high, 0x2001 | 0 * high], 1).astype("<u2"),
        8: np.stack([high * 4096, 1 | 0 * high], 1).astype("<u4"),
    }[size]
    whole = [len(piece.events) for piece in slices(open_recording(written(header + words.tobytes(), "whole")), 10_000)]
    words[999, 0] ^= {4: 1 << 27, 2: 1 << 11, 8: 1 << 31}[size]
    recording = open_recording(written(header + words.tobytes()))
    found = [len(piece.events) for piece in slices(recording, 10_000)]
    assert len(found) == len(whole) == 819
    assert np.abs(np.subtract(found, whole)).sum() <= 2
    assert recording.damage["time words damaged"] == 1


# Batches.


def test_batches_follow_one_another_and_are_not_overwritten(written):
    low = np.arange(600_000)
    words = np.repeat(np.uint32(1 << 28), low.size) | (low % 640 << 11).astype(np.uint32)
    path = written(HEADER2 + evt2(0x8 << 28) + words.astype("<u4").tobytes())
    batches = list(open_recording(path))
    assert len(batches) > 2
    np.testing.assert_array_equal(Events.concatenate(batches).x, low % 640)
    for one, other in pairwise(batches):
        assert not np.shares_memory(one.x, other.x)


def test_two_iterations_at_a_time_do_not_disturb_each_other(written):
    words = evt2(0x8 << 28, *[evt2_event(x % 640, 0) for x in range(200_000)])
    recording = open_recording(written(HEADER2 + words))
    pairs = zip(recording, recording, strict=True)
    assert all(np.array_equal(one.x, other.x) for one, other in pairs)


# Not ru_maxrss: that of a new process starts at what its parent, here pytest with all it imported, held.
MEMORY_PROGRAM = """
import re, sys
from edgeclf_runtime.events import open_recording
count = sum(len(events) for events in open_recording(sys.argv[1]))
print(count, re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


def measure_memory(path, header, block):
    """Decodes 32 MiB of the same words, and returns the number of events and the process's peak memory in MB."""
    with path.open("wb") as file:
        # No event is outside a sensor of this size.
        file.write(header.replace(b"640", b"65535").replace(b"480", b"65535"))
        for _ in range((32 << 20) // len(block)):
            file.write(block)
    command = [sys.executable, "-c", MEMORY_PROGRAM, str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    count, peak_kib = map(int, output.split())
    return count, peak_kib * 1024 / 1e6


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the peak memory is read from /proc")


@on_linux
@pytest.mark.parametrize("header", [HEADER2, HEADER21, HEADER3, HEADER_DAT])
def test_memory_does_not_grow_with_the_file(tmp_path, header):
    block = np.random.default_rng(0).integers(0, 256, 1 << 20, dtype=np.uint8)
    block[:8] = 0x80  # time first
    if header == HEADER_DAT:
        block.reshape(-1, 8)[:, :4] = 0  # the time, as noise takes long to judge
    elif header != HEADER3:
        block[11::4] &= 0x1F  # and then mostly events
    count, peak = measure_memory(tmp_path / "long.raw", header, block.tobytes())
    assert count >= 4_000_000
    # All events of the file would take over 50 MB; the interpreter and NumPy take about 30.
    assert peak < 75


@on_linux
@pytest.mark.parametrize(
    ("header", "first", "then", "count"),
    [
        (HEADER21, [0x8 << 60], 1 << 60 | 0xFFFFFFFF, 128_000_000),
        (HEADER3, [0x8000, 0x0000, 0x3000, 0x2000], 0x4FFF, 190_000_000),
    ],
)
def test_memory_where_every_pixel_of_every_vector_is_set(tmp_path, header, first, then, count):
    dtype = f"<u{8 // len(first)}"
    block = np.array(first + [then] * ((1 << 18) - len(first)), dtype).tobytes()
    decoded, peak = measure_memory(tmp_path / "dense.raw", header, block)
    assert decoded > count
    assert peak < 200
