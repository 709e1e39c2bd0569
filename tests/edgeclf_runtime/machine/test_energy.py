"""Energy, of made-up system files: there is no machine here that tells its own."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time

import pytest

from edgeclf_runtime.machine.energy import EnergyMeter, Rail, RailMeter


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.fixture
def zone(tmp_path):
    """Writes a zone of RAPL."""

    def zone(number, name, energy_uj, range_uj=262_143_328_850):
        folder = tmp_path / "sys/class/powercap" / f"intel-rapl:{number}"
        write(folder / "name", name)
        write(folder / "energy_uj", energy_uj)
        write(folder / "max_energy_range_uj", range_uj)

    return zone


@pytest.fixture
def rail(tmp_path):
    """Writes a rail of an INA3221, as today's kernels tell it or, by `old`, as those of Jetson Linux 32 do."""

    def rail(k, name, millivolts, milliamperes, device="1-0040", old=False):
        folder = tmp_path / "sys/bus/i2c/drivers"
        if old:
            folder = folder / "ina3221x" / device / "iio:device0"
            files = (f"rail_name_{k - 1}", f"in_voltage{k - 1}_input", f"in_current{k - 1}_input")
        else:
            folder = folder / "ina3221" / device / "hwmon/hwmon3"
            files = (f"in{k}_label", f"in{k}_input", f"curr{k}_input")
        for file, text in zip(files, (name, millivolts, milliamperes), strict=True):
            write(folder / file, text)
        return folder

    return rail


def test_a_machine_that_tells_nothing(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert EnergyMeter.find(tmp_path) is None
    assert not caplog.messages


def test_packages_count_and_their_parts_do_not(tmp_path, zone):
    zone("0", "package-0", 1_000_000)
    zone("0:0", "core", 5)
    zone("1", "package-1", 7_000_000)
    zone("1:0", "package-like", 5)
    zone("2", "psys", 5)
    meter = EnergyMeter.find(tmp_path)
    assert meter is not None
    with meter:
        assert meter.source == "RAPL, 2 packages"
        assert meter.read() == 0
        for number, name in (("0:0", "core"), ("1:0", "package-like"), ("2", "psys")):
            zone(number, name, 50_000_000)
        zone("0", "package-0", 3_500_000)
        assert meter.read() == 2.5
        zone("1", "package-1", 7_250_000)
        assert meter.read() == 2.75


def test_a_counter_that_starts_anew(tmp_path, zone):
    zone("0", "package-0", 9_000_000, range_uj=10_000_000)
    meter = EnergyMeter.find(tmp_path)
    assert meter is not None
    assert meter.source == "RAPL, 1 package"
    zone("0", "package-0", 500_000, range_uj=10_000_000)
    assert meter.read() == 1.5
    zone("0", "package-0", 400_000, range_uj=10_000_000)
    assert meter.read() == 11.4


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="it has no such rights")
def test_counters_that_may_not_be_read(tmp_path, zone, caplog):
    caplog.set_level(logging.INFO)
    zone("0", "package-0", 1)
    file = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    if os.geteuid() == 0:  # whom no rights stop
        file.unlink()
        file.mkdir()
    else:
        file.chmod(0)
    assert EnergyMeter.find(tmp_path) is None
    (message,) = caplog.messages
    assert "No energy is measured" in message
    assert f"sudo chmod a+r {tmp_path}/sys/class/powercap/intel-rapl:*/energy_uj" in message


def test_a_counter_that_goes_away(tmp_path, zone):
    zone("0", "package-0", 1_000_000)
    meter = EnergyMeter.find(tmp_path)
    assert meter is not None
    file = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    file.unlink()
    assert meter.read() is None
    zone("0", "package-0", 2_000_000)
    assert meter.read() is None  # as it may have started anew


def test_the_rails_that_are_the_whole_module(tmp_path, rail):
    rail(1, "VDD_IN", 5000, 1000)
    rail(2, "VDD_CPU_GPU_CV", 5000, 400)
    rail(3, "VDD_SOC", 5000, 200)
    with EnergyMeter.find(tmp_path) as meter:
        assert meter.source == "INA3221, VDD_IN"


def test_a_module_of_three_rails(tmp_path, rail):
    rail(1, "VDD_GPU_SOC", 19000, 200)
    rail(2, "VDD_CPU_CV", 19000, 100)
    rail(3, "VIN_SYS_5V0", 5000, 300)
    rail(2, "VDDQ_VDD2_1V8AO", 1800, 300, device="1-0041")
    with EnergyMeter.find(tmp_path) as meter:
        assert meter.source == "INA3221, VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0"


def test_a_module_of_an_older_system(tmp_path, rail):
    folder = rail(1, "POM_5V_IN", 5000, 1000, device="6-0040", old=True)
    rail(2, "POM_5V_GPU", 5000, 500, device="6-0040", old=True)
    with EnergyMeter.find(tmp_path) as meter:
        assert meter.source == "INA3221, POM_5V_IN"
        assert meter._rails[0].watts() == 5.0
        (folder / "in_current0_input").unlink()
        assert meter.read() is None


def test_rails_that_are_not_all(tmp_path, rail):
    rail(1, "VDD_GPU_SOC", 19000, 200)
    rail(2, "VDD_CPU_CV", 19000, 100)
    assert EnergyMeter.find(tmp_path) is None


@pytest.fixture
def two_rails(tmp_path):
    def write_both(first, second):
        for name, milliamperes in (("a", first), ("b", second)):
            write(tmp_path / f"{name}_mv", 5000)
            write(tmp_path / f"{name}_ma", milliamperes)

    write_both(200, 400)
    return [Rail(name, tmp_path / f"{name}_mv", tmp_path / f"{name}_ma") for name in "ab"], write_both


def test_energy_is_power_by_time(two_rails, monkeypatch):
    rails, write_both = two_rails
    monkeypatch.setattr("edgeclf_runtime.machine.energy._EVERY_S", 1000.0)
    times = itertools.chain([100.0, 102.0, 103.0])
    with RailMeter(rails, lambda: next(times)) as meter:
        assert meter.source == "INA3221, a + b"
        assert meter.read() == pytest.approx(2 * 3.0)  # 1 W and 2 W, two seconds
        write_both(1000, 600)
        assert meter.read() == pytest.approx(6 + (3 + 8) / 2)  # to 8 W, a second


def test_a_thread_looks_while_nobody_reads(two_rails):
    rails, _ = two_rails
    looks = threading.Semaphore(0)

    def now():
        looks.release()
        return time.monotonic()

    begin = time.monotonic()
    with RailMeter(rails, now) as meter:
        started = time.monotonic()
        for _ in range(5):
            assert looks.acquire(timeout=60)
        least = 3.0 * (time.monotonic() - started)
        joules = meter.read()
        most = 3.0 * (time.monotonic() - begin)
        assert joules is not None
        assert least <= joules * (1 + 1e-9)
        assert joules <= most * (1 + 1e-9)
    assert not meter._thread.is_alive()
