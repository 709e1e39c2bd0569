from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

from edgeclf_export.benchmark.columns import milliseconds, number, percent


@pytest.mark.parametrize(
    ("us", "shown"),
    [(0.4, "0.000400"), (812.4, "0.812"), (1000, "1.00"), (12_345, "12.3"), (99_960, "100"), (1e6, "1000"), (0, "0")],
)
def test_milliseconds(us: float, shown: str) -> None:
    assert milliseconds(us) == shown


def test_three_digits_count() -> None:
    for value in np.random.default_rng(0).lognormal(0, 5, 1000):
        right = np.format_float_positional(value, 3, fractional=False, unique=False) if value < 100 else round(value)
        assert float(number(value)) == float(right)
        assert float(number(-value)) == -float(right)


@pytest.mark.parametrize("value", [None, nan, inf])
def test_what_is_not_known(value: float | None) -> None:
    assert number(value) == "–"
    assert percent(None) == "–"
