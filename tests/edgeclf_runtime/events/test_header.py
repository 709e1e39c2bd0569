from __future__ import annotations

import io

import pytest

from edgeclf_runtime.events.header import read_header


def parse(data):
    file = io.BytesIO(data)
    header = read_header(file)
    assert file.tell() == header.length
    return header, file.read()


def test_fields_and_end():
    header, rest = parse(b"% evt 3.0\n% Date 2020-09-25 07:48:29\r\n% note\n% end\n% evt 2.0\n")
    assert header.fields == {"evt": "3.0", "Date": "2020-09-25 07:48:29", "note": ""}
    assert rest == b"% evt 2.0\n"
    assert not header.cut_off


@pytest.mark.parametrize(
    "words",
    [
        b"\x00\x80%",
        b"% \x80\x00\n",  # starts like a header's line, and is none
        b"%a\n\x00",
        b"%\n",
        b"% \n",
        b"% !evt 2.0\n",
        b"% evt \xff\n",
        b"% evt \x01\n",
        b"% a" + b"b" * 5000,
    ],
)
def test_header_without_end_stops_at_the_words(words):
    header, rest = parse(b"% evt 3.0\n" + words)
    assert header.fields == {"evt": "3.0"}
    assert rest == words
    assert not header.cut_off


@pytest.mark.parametrize("data", [b"% evt 3.0\n", b"% evt 3.0\n% geom", b"% evt 3.0"])
def test_header_cut_off(data):
    assert parse(data)[0].cut_off


def test_endless_header_is_not_read_to_its_end():
    header, _ = parse(b"% a long comment of a text file\n" * 100_000)
    assert header.length < 1 << 21


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("% evt 2.0", "2.0"),
        ("% evt 2.1", "2.1"),
        ("% evt 3.0", "3.0"),
        ("% evt 3", "3.0"),
        ("% format EVT3;height=720;width=1280", "3.0"),
        ("% format EVT21;endianness=legacy", "2.1"),
        ("% format EVT2.1", "2.1"),
        ("% format evt2", "2.0"),
        ("% evt 2.0\n% format EVT3;height=720;width=1280", "3.0"),
        ("% evt 3.0\n% format HISTO3D;height=320;width=320", ""),
        ("% evt 4.0", "4.0"),
        ("% Width 640", ""),
    ],
)
def test_evt_version(line, version):
    assert parse(f"{line}\n% end\n".encode())[0].evt_version == version


@pytest.mark.parametrize(
    ("line", "endianness"),
    [
        ("% format EVT21;endianness=legacy;height=720;width=1280", "legacy"),
        ("% evt 2.1\n% endianness legacy", "legacy"),
        ("% evt 2.1\n% endianness little", "little"),
        ("% format EVT21;height=320;width=320", "little"),
        ("% evt 2.1", "little"),
    ],
)
def test_endianness(line, endianness):
    assert parse(f"{line}\n% end\n".encode())[0].endianness == endianness


@pytest.mark.parametrize(
    ("line", "stated", "known"),
    [
        ("% format EVT3;height=720;width=1280", (1280, 720), None),
        ("% geometry 640x480", (640, 480), None),
        ("% Width 304\n% Height 240", (304, 240), None),
        ("% width 304\n% height 240", (304, 240), None),
        ("% geometry big", None, None),
        ("% geometry 0x0\n% Width 12\n% Height 34", (12, 34), None),
        ("% format EVT3;height=;width=1280", None, None),
        ("% plugin_name hal_plugin_gen3_fx3", None, (640, 480)),
        ("% plugin_name hal_plugin_gen31_fx3", None, (640, 480)),
        ("% plugin_name hal_plugin_gen31_evk2", None, (640, 480)),
        ("% plugin_name hal_plugin_gen31_evk3", None, (640, 480)),
        ("% plugin_name hal_plugin_gen4_evk2", None, (1280, 720)),
        ("% plugin_name hal_plugin_gen41_evk2", None, (1280, 720)),
        ("% plugin_name hal_plugin_gen41_evk3", None, (1280, 720)),
        ("% plugin_name hal_plugin_imx636_evk4", None, (1280, 720)),
        ("% plugin_name hal_plugin_imx646_evk4", None, (1280, 720)),
        ("% plugin_name hal_plugin_genx320", None, (320, 320)),
        ("% plugin_name hal_plugin_genx320_evk3", None, (320, 320)),
        ("% plugin_name hal_plugin_prophesee", None, None),
        ("% system_ID 21", None, (640, 480)),
        ("% system_ID 48", None, (1280, 720)),
        ("% system_ID 49", None, (1280, 720)),
        ("% system_ID 12345", None, None),
        ("% system_ID 49\n% integrator_name Prophesee", None, (1280, 720)),
        ("% system_ID 49\n% camera_integrator_name SomebodyElse", None, None),
        ("% plugin_name somebody_elses\n% generation 4.2", None, (1280, 720)),
        ("% sensor_generation 3.1", None, (640, 480)),
        ("% geometry 640x480\n% plugin_name hal_plugin_gen41_evk3", (640, 480), (1280, 720)),
    ],
)
def test_sensor_size(line, stated, known):
    header, _ = parse(f"{line}\n% end\n".encode())
    assert header.stated_size() == stated
    assert header.known_size() == known
