from __future__ import annotations

import io

import pytest

from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.events.dat import DatDecoder
from edgeclf_runtime.events.encoding import Encoding, agreed_size, encoding_of, sensor_size_of
from edgeclf_runtime.events.evt2 import Evt2Decoder
from edgeclf_runtime.events.evt3 import Evt3Decoder
from edgeclf_runtime.events.evt21 import Evt21Decoder
from edgeclf_runtime.events.header import read_header

GEOMETRY = b"% geometry 640x480\n"


def header_of(data):
    file = io.BytesIO(data)
    return read_header(file), file.read()


@pytest.mark.parametrize(
    ("lines", "after", "expected", "decoder"),
    [
        (b"% evt 2.0\n", b"", Encoding("EVT2", (640, 480)), Evt2Decoder),
        (b"% format EVT21\n", b"xyz", Encoding("EVT2.1", (640, 480)), Evt21Decoder),
        (b"% evt 2.1\n% endianness legacy\n", b"", Encoding("EVT2.1", (640, 480), is_legacy=True), Evt21Decoder),
        (b"% evt 3.0\n", b"\x0c\x08", Encoding("EVT3", (640, 480)), Evt3Decoder),
        (b"% Version 2\n", b"\x0c\x08abc", Encoding("DAT", (640, 480), words_start=2), DatDecoder),
        (b"% camera x\n", b"\x00\x08", Encoding("DAT", (640, 480), words_start=2), DatDecoder),
    ],
)
def test_what_a_header_says(lines, after, expected, decoder):
    header, rest = header_of(lines + GEOMETRY + b"% end\n" + after)
    found = encoding_of("a.raw", header, rest)
    assert found == expected
    assert type(found.new_decoder()) is decoder
    assert found.new_decoder() is not found.new_decoder()


def test_a_name_that_ends_with_dat_asks_for_its_two_bytes():
    header, _ = header_of(b"% camera x\n% end\n")
    with pytest.raises(InputFileError, match=r"a\.raw is not a Prophesee recording"):
        encoding_of("a.raw", header, b"ab")
    with pytest.raises(InputFileError, match=r"a\.DAT is a DAT file of events of type 0x61"):
        encoding_of("a.DAT", header, b"ab")


def test_header_that_ends_too_soon():
    header, rest = header_of(b"% evt 3.0\n" + GEOMETRY)
    with pytest.raises(InputFileError, match=r"a\.raw ends within its header"):
        encoding_of("a.raw", header, rest)


def test_sensor_size_is_stated_else_given_else_known():
    known = header_of(b"% plugin_name hal_plugin_gen3_fx3\n% end\n")[0]
    stated = header_of(GEOMETRY + b"% end\n")[0]
    assert sensor_size_of("a", known, None) == (640, 480)
    assert sensor_size_of("a", known, (304, 240)) == (304, 240)
    assert sensor_size_of("a", stated, (640, 480)) == (640, 480)
    with pytest.raises(UsageError, match="304x240 contradicts the header of a, which states 640x480"):
        sensor_size_of("a", stated, (304, 240))
    with pytest.raises(InputFileError, match="header of a does not tell the sensor's size"):
        sensor_size_of("a", header_of(b"% end\n")[0], None)


def test_size_that_is_agreed_upon():
    assert agreed_size("a", None, None) is None
    assert agreed_size("a", (640, 480), None) == (640, 480)
    assert agreed_size("a", None, (640, 480)) == (640, 480)
    assert agreed_size("a", (640, 480), (640, 480)) == (640, 480)
    with pytest.raises(UsageError, match="304x240 contradicts a, which states 640x480: leave --sensor-size out"):
        agreed_size("a", (640, 480), (304, 240))
    for stated in (None, (640, 480)):
        with pytest.raises(UsageError, match="The sensor size 0x480 is not one"):
            agreed_size("a", stated, (0, 480))
