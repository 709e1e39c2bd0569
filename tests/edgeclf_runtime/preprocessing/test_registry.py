from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.preprocessing import (
    Diff,
    Histo,
    Preprocessing,
    canonical_arguments,
    create_preprocessing,
    effective_arguments,
    preprocessing_names,
    register_preprocessing,
    registry,
)


class Constant(Preprocessing):
    name = "constant"
    channels = 1

    def __init__(self, sensor_size, delta_t, value, *, scale=1.0):
        self.value = value * scale
        self.delta_t = delta_t
        self._size = sensor_size[::-1]

    def frame_size(self, height, width):
        return height, width

    def __call__(self, events, start_us):
        return np.full((1, *self._size), self.value + start_us + len(events), np.float32)


@pytest.fixture
def constant(monkeypatch):
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))
    register_preprocessing("constant", Constant)


def test_the_shipped_ones_are_there():
    assert preprocessing_names() == (
        "histo", "diff", "timesurface", "event_cube", "multi_channel_timesurface", "histo_quantized", "diff_quantized",
    )  # fmt: skip
    assert isinstance(create_preprocessing("histo", sensor_size=(4, 3), delta_t=1000), Histo)
    made = create_preprocessing("diff", sensor_size=(4, 3), delta_t=1000)
    assert isinstance(made, Diff)
    assert (made.name, made.channels, made.frame_size(480, 640)) == ("diff", 1, (480, 640))


@pytest.mark.usefixtures("constant")
def test_one_of_the_users_own():
    made = create_preprocessing("constant", sensor_size=(4, 3), delta_t=1000, value=2, scale=3.0)
    assert made(Events.empty(), 1).tolist() == [[[7.0] * 4] * 3]
    assert made.delta_t == 1000
    assert preprocessing_names()[-1] == "constant"
    assert made.value_range == (-math.inf, math.inf)  # of which nothing is known


@pytest.mark.usefixtures("constant")
def test_a_name_is_given_once():
    register_preprocessing("constant", Constant)  # the same module imported twice does no harm
    for name in ("constant", "histo"):
        with pytest.raises(UsageError, match=name):
            register_preprocessing(name, lambda **_: None)
    assert isinstance(create_preprocessing("histo", sensor_size=(4, 3), delta_t=1000), Histo)


def test_unknown_name_lists_what_there_is():
    with pytest.raises(UsageError, match="called hist; there are histo, diff, timesurface") as caught:
        create_preprocessing("hist", sensor_size=(4, 3), delta_t=1000)
    for way in ("This runtime lacks", "register_preprocessing", "entry point of the group edgeclf.preprocessing"):
        assert way in str(caught.value)


@pytest.mark.parametrize("name", ["histo", "diff"])
def test_unknown_argument_lists_what_it_takes(name):
    with pytest.raises(UsageError, match=rf"{name}.*'bits'.*it takes max_incr_per_pixel, downsampling_factor\."):
        create_preprocessing(name, sensor_size=(4, 3), delta_t=1000, bits=4)


@pytest.mark.usefixtures("constant")
def test_missing_argument_is_told():
    with pytest.raises(UsageError, match=r"constant.*'value'.*it takes value, scale\."):
        create_preprocessing("constant", sensor_size=(4, 3), delta_t=1000)


@pytest.mark.usefixtures("constant")
def test_a_mistake_inside_a_users_factory_stays_what_it_is():
    with pytest.raises(TypeError):
        create_preprocessing("constant", sensor_size=(4, 3), delta_t=1000, value=None)


@pytest.mark.parametrize(
    ("sensor_size", "delta_t", "message"),
    [((0, 3), 1000, "0×3"), ((4, -1), 1000, "4×-1"), ((4, 3), 0, "delta_t"), ((4, 3), -5, "-5 µs")],
)
def test_impossible_slices_are_refused(sensor_size, delta_t, message):
    with pytest.raises(UsageError, match=message):
        create_preprocessing("histo", sensor_size=sensor_size, delta_t=delta_t)


def test_effective_arguments_are_those_given_and_the_defaults_of_the_others() -> None:
    found = effective_arguments("histo", {"max_incr_per_pixel": 3, "something": "else"})
    assert found == {"max_incr_per_pixel": 3, "downsampling_factor": 0}
    assert effective_arguments("of somebody else", {"a": 1}) == {"a": 1}


def test_arguments_of_unknown_ones_stay_as_they_are() -> None:
    assert canonical_arguments("of somebody else", {"normalization": 1}) == {"normalization": 1}
    assert canonical_arguments("histo", {"max_incr_per_pixel": 3, "a": 1}) == {"max_incr_per_pixel": 3, "a": 1}


MODULE = """
import numpy as np
from edgeclf_runtime.preprocessing import Preprocessing

class Rows(Preprocessing):
    channels = 1

    def __init__(self, sensor_size, delta_t, *, first=0):
        self.first = first

    def frame_size(self, height, width):
        return height, 1

    def __call__(self, events, start_us):
        return np.full((1, 3, 1), self.first + len(events), np.float32)
"""


@pytest.fixture
def install(install_package, monkeypatch):
    """Installs a package that announces preprocessings."""
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))
    return lambda package, announced: install_package(package, registry.ENTRY_POINT_GROUP, announced, MODULE)


def test_what_an_installed_package_announces_is_found_by_name(install):
    install("edgeclf_rows", {"rows": "Rows"})
    assert preprocessing_names()[-1] == "rows"
    create_preprocessing("histo", sensor_size=(4, 3), delta_t=1000)
    with pytest.raises(UsageError, match="diff_quantized, rows"):
        create_preprocessing("columns", sensor_size=(4, 3), delta_t=1000)
    assert "edgeclf_rows" not in sys.modules  # not before it is asked for
    made = create_preprocessing("rows", sensor_size=(4, 3), delta_t=1000, first=2)
    assert made(Events.empty(), 0).ravel().tolist() == [2, 2, 2]
    assert effective_arguments("rows", {}) == {"first": 0}
    with pytest.raises(UsageError, match=r"'second'.*it takes first\."):
        create_preprocessing("rows", sensor_size=(4, 3), delta_t=1000, second=2)


def test_a_package_does_not_replace_what_is_shipped(install):
    install("edgeclf_histo", {"histo": "Rows"})
    assert isinstance(create_preprocessing("histo", sensor_size=(4, 3), delta_t=1000), Histo)
    assert preprocessing_names().count("histo") == 1
