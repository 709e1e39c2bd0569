"""The fake has the shape of `neuromorphic_drivers` 0.18.2 as its type hints give it; no camera was there."""

from __future__ import annotations

import importlib.util
import sys
import threading
from enum import Enum
from types import SimpleNamespace

import numpy as np
import pytest

from edgeclf_runtime.errors import DeviceError, MissingPackageError, UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.sources import camera, open_source

DTYPE = [("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("on", "?")]
SILENCE = (SimpleNamespace(system_time=1.0, ring=None), SimpleNamespace())


class Name(Enum):
    PROPHESEE_EVK4 = "Prophesee EVK4"


def packet(rows, current_t, dropped=0, overflows=None):
    ring = SimpleNamespace(
        system_time=1.0, backlog=0, raw_packets=1, clutch_engaged=False, current_t=current_t, dropped_packets=dropped
    )
    found = None if rows is None else np.array(rows, DTYPE)
    indices = None if overflows is None else np.array(overflows, np.uint64)
    return SimpleNamespace(system_time=1.1, ring=ring), SimpleNamespace(
        polarity_events=found, polarity_events_overflow_indices=indices, trigger_events=None
    )


class Device:
    """One camera that sends `items`, then nothing; an error among them is raised."""

    def __init__(self, items=()):
        self.items = iter(items)
        self.closed = 0

    def serial(self):
        return "00ab"

    def properties(self):
        return SimpleNamespace(width=32, height=24)

    def close(self):
        self.closed += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self.items, SILENCE)
        if isinstance(item, Exception):
            raise item
        return item


@pytest.fixture
def plug_in(monkeypatch):
    """Puts a camera in place, or an error that opening and listing end with; returns how it was opened."""

    def plug(device, listed=()):
        asked = []

        def opened(iterator_timeout=None, raw=False, serial=None):
            asked.append((serial, iterator_timeout, raw))
            if isinstance(device, Exception):
                raise device
            return device

        def list_devices():
            if isinstance(device, Exception):
                raise device
            return list(listed)

        drivers = SimpleNamespace(open=opened, list_devices=list_devices)
        monkeypatch.setitem(sys.modules, "neuromorphic_drivers", drivers)
        return asked

    return plug


def test_events_of_a_camera(plug_in, assert_events):
    rows = [(10, 1, 2, True), (20, 31, 23, False)]
    device = Device([packet(rows, 25), SILENCE, packet(None, 90), packet([], 120)])
    asked = plug_in(device)
    source = open_source("camera:00ab")
    assert (source.name, source.is_live, source.sensor_size) == ("camera:00ab", True, (32, 24))
    assert asked == [("00ab", camera.SILENCE_S, False)]
    assert source.time_us is None

    iterator = iter(source)
    batches = [next(iterator) for _ in range(5)]
    assert_events(Events.concatenate(batches), rows)
    assert [len(batch) for batch in batches] == [0, 2, 0, 0, 0]  # after a silence nothing waits
    assert (source.damage, source.problems) == ({}, [])
    source.close()
    assert list(iterator) == []
    assert device.closed == 1


def test_time_goes_on_where_nothing_is_seen(plug_in):
    rows = [(t, 1, 2, True) for t in range(0, 10_000, 1_000)]
    plug_in(Device([packet(rows, 9_500), *(packet(None, t) for t in range(10_000, 60_000, 10_000)), SILENCE]))
    source = open_source("camera:")
    iterator = iter(source)
    times = []
    for _ in range(7):
        next(iterator)
        times.append(source.time_us)
    assert times == sorted(times)
    assert 10_000 <= times[-1] <= 50_000  # the earliest of what was said last
    assert times[-1] == times[-2]  # a silence says nothing


def test_the_first_camera_that_is_found(plug_in):
    asked = plug_in(Device())
    source = open_source("camera:")
    assert asked[0][0] is None
    assert source.name == "camera:00ab"


def test_what_the_driver_lost_is_counted_and_said(plug_in):
    row = (10, 1, 2, True)
    plug_in(Device([packet([row], 10, 0, [0]), packet([row], 11, 3, [0, 1]), packet([(12, 32, 0, True)], 12, 7)]))
    source = open_source("camera:")
    iterator = iter(source)
    for _ in range(4):
        next(iterator)
    source.close()
    assert source.damage == {
        "events outside the sensor": 1,
        "gaps, as the computer fell behind the camera": 3,
        "packets dropped on the way from the camera": 7,  # the driver counts from the start
    }
    outside, gaps, dropped = source.problems
    assert "1 event(s) of camera:00ab outside the sensor (32x24)" in outside
    assert "Events of camera:00ab are missing in 3 place(s)" in gaps
    assert "7 packet(s) of camera:00ab were dropped" in dropped


def test_unplugged_camera(plug_in):
    device = Device([packet([(10, 1, 2, True)], 10), RuntimeError("No such device (it may have been disconnected)")])
    plug_in(device)
    iterator = iter(open_source("camera:"))
    assert [len(next(iterator)) for _ in range(2)] == [0, 1]
    with pytest.raises(DeviceError, match=r"camera:00ab does not send any more \(No such device.*still plugged in"):
        next(iterator)
    assert device.closed == 1


def test_close_from_another_thread(plug_in):
    device = Device()
    plug_in(device)
    source = open_source("camera:")
    started = threading.Event()

    def read():
        for batch in source:
            assert len(batch) == 0
            started.set()

    reading = threading.Thread(target=read)
    reading.start()
    assert started.wait(10)
    source.close()
    reading.join(10)
    assert not reading.is_alive()
    assert device.closed == 1


def test_camera_that_nobody_read_is_let_go(plug_in):
    device = Device()
    plug_in(device)
    source = open_source("camera:")
    source.close()
    source.close()
    assert (device.closed, list(source)) == (1, [])


def test_camera_that_cannot_be_opened(plug_in):
    plug_in(RuntimeError("Access denied (insufficient permissions)"))
    with pytest.raises(DeviceError, match=r"camera:12: the camera cannot be opened \(Access denied.*udev rules"):
        open_source("camera:12")


def test_sensor_size_that_is_not_the_cameras(plug_in):
    device = Device()
    plug_in(device)
    assert open_source("camera:", sensor_size=(32, 24)).sensor_size == (32, 24)
    with pytest.raises(UsageError, match="640x480 contradicts camera:00ab, which states 32x24"):
        open_source("camera:", sensor_size=(640, 480))
    assert device.closed == 1


def test_list_of_cameras(plug_in):
    plug_in(
        Device(),
        [
            SimpleNamespace(name=Name.PROPHESEE_EVK4, serial="00ab", error=None),
            SimpleNamespace(name=Name.PROPHESEE_EVK4, serial=None, error="Access denied"),
        ],
    )
    assert camera.list_cameras() == ["camera:00ab Prophesee EVK4", "camera: Prophesee EVK4 (Access denied)"]
    plug_in(RuntimeError("Other error"))
    with pytest.raises(DeviceError, match=r"cannot be listed \(Other error\)"):
        camera.list_cameras()


def test_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "neuromorphic_drivers", None)
    for use in (camera.list_cameras, lambda: open_source("camera:")):
        with pytest.raises(MissingPackageError, match=r"pip install 'edgeclf\[live\]'"):
            use()


@pytest.mark.skipif(importlib.util.find_spec("neuromorphic_drivers") is None, reason="neuromorphic-drivers not there")
def test_the_installed_drivers_have_what_is_used():
    import inspect

    import neuromorphic_drivers as drivers

    assert {"serial", "iterator_timeout"} <= inspect.signature(drivers.open).parameters.keys()
    assert {"current_t", "dropped_packets"} <= drivers.status.RingStatus.__dataclass_fields__.keys()
    assert {"name", "serial", "error"} <= drivers.ListedDevice.__dataclass_fields__.keys()
    for kind in (drivers.packet.Evt3Packet, drivers.packet.Davis346Packet, drivers.packet.DvxplorerPacket):
        assert {"polarity_events", "polarity_events_overflow_indices"} <= kind.__annotations__.keys()
    for name in drivers.Name:
        assert drivers.name_to_properties(name).width > drivers.name_to_properties(name).height
    assert {"properties", "close", "serial", "__enter__", "__next__"} <= set(dir(drivers.device.Device))
