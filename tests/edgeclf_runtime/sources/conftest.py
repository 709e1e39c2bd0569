"""What the tests of the sources share."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest

from edgeclf_runtime.events import Events


@pytest.fixture
def assert_events() -> Callable[[Events, Iterable[tuple[int, int, int, int]]], None]:
    """Asserts that events have the promised types and equal rows of (t, x, y, p)."""

    def check(events: Events, expected: Iterable[tuple[int, int, int, int]]) -> None:
        assert [events.t.dtype, events.x.dtype, events.y.dtype, events.p.dtype] == ["i8", "u2", "u2", "u1"]
        actual = np.stack([events.t, events.x, events.y, events.p], axis=1)
        np.testing.assert_array_equal(actual, np.array(list(expected), np.int64).reshape(-1, 4))

    return check
