from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.sources import IteratorSource
from edgeclf_runtime.sources.arrays import as_events

ROWS = [(10, 1, 2, 1), (20, 31, 23, 0), (20, 0, 0, 1)]


def structured(polarity, kinds=("<i8", "<u2", "<u2", "<i2"), rows=ROWS, order=("t", "x", "y", "p")):
    kind = dict(zip("txyp", kinds, strict=True))
    array = np.zeros(len(rows), [(polarity if name == "p" else name, kind[name]) for name in order])
    for name, values in zip(("t", "x", "y", polarity), zip(*rows, strict=True), strict=True):
        array[name] = values
    return array


@pytest.mark.parametrize(
    "batch",
    [
        structured("p"),
        structured("polarity", order=("x", "y", "p", "t")),
        structured("on", ("<u8", "<u2", "<u2", "?")),
        structured("p", ("<i8", "<i4", "<i4", "<i4")),
        structured("p", rows=[(t, x, y, p or -1) for t, x, y, p in ROWS]),
        tuple(np.array(column) for column in zip(*ROWS, strict=True)),
        tuple(list(column) for column in zip(*ROWS, strict=True)),
        Events(*(np.array(c, k) for c, k in zip(zip(*ROWS, strict=True), ("i8", "u2", "u2", "u1"), strict=True))),
    ],
)
def test_every_form_of_a_batch(assert_events, batch):
    source = IteratorSource([batch], (32, 24))
    assert (source.name, source.is_live, source.sensor_size) == ("python", False, (32, 24))
    assert_events(Events.concatenate(source), ROWS)
    assert (source.problems, source.damage) == ([], {})


def test_memory_that_is_filled_again_does_no_harm():
    array = structured("p")

    def driver():
        for first in (10, 100):
            array["t"] = [first, first + 1, first + 2]
            yield array

    events = Events.concatenate(IteratorSource(driver(), (32, 24)))
    assert events.t.tolist() == [10, 11, 12, 100, 101, 102]


@pytest.mark.parametrize("empty", [([], [], [], []), structured("p")[:0], Events.empty()])
def test_empty_batches_come_through_where_it_is_live(empty):
    batches = [empty, structured("p"), empty, empty]
    live = IteratorSource(batches, (32, 24), name="mine", is_live=True)
    assert [len(batch) for batch in live] == [0, 0, 3, 0, 0]  # an empty one says that nothing comes for now
    assert [len(batch) for batch in IteratorSource(batches, (32, 24))] == [3]


def test_coordinates_that_fit_no_sensor_are_outside(assert_events):
    rows = [(1, -1, 0, 1), (2, 0, -65_536, 1), (3, 65_536 + 5, 0, 1), (4, 32, 0, 1), (5, 0, 24, 1), (6, 31, 23, 1)]
    source = IteratorSource([structured("p", ("<i8", "<i8", "<i8", "<i8"), rows)], (32, 24))
    assert_events(Events.concatenate(source), [(6, 31, 23, 1)])
    assert source.damage == {"events outside the sensor": 5}
    assert source.problems == ["5 event(s) of python outside the sensor (32x24) were dropped."]


@pytest.mark.parametrize(
    ("batch", "what"),
    [
        (5, "it is of type int"),
        (np.zeros(3), "it is of type ndarray without named fields"),
        (([1], [2], [3]), "it is a tuple of 3, not of 4"),
        (([1.5], [2], [3], [1]), "t is of type float64"),
        (([1, 2], [2], [3], [1]), r"x is of type int64 and shape \(1,\), t of shape \(2,\)"),
        (np.zeros(2, [("t", "i8"), ("x", "u2"), ("row", "u2"), ("p", "u1")]), "the fields t, x, row, p, and lacks y"),
        (np.zeros(2, [("t", "i8"), ("x", "u2"), ("y", "u2")]), "lacks p"),
    ],
)
def test_batches_that_are_none(batch, what):
    source = IteratorSource([structured("p"), batch], (32, 24), name="mine")
    with pytest.raises(UsageError, match=rf"Batch 1 of mine holds no events that can be read: .*{what}"):
        list(source)
    with pytest.raises(ValueError, match=what):
        as_events(batch)


def test_sensor_without_pixels():
    with pytest.raises(UsageError, match="32×0"):
        IteratorSource([], (32, 0))


def test_close_ends_it_with_the_next_batch():
    source = IteratorSource([structured("p"), Events.empty()] * 5, (32, 24))
    iterator = iter(source)
    assert len(next(iterator)) == 3
    source.close()
    assert list(iterator) == []
