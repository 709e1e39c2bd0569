from __future__ import annotations

from dataclasses import astuple
from typing import get_args

import pytest

from edgeclf_runtime.precision import PRECISIONS, Precision


def test_every_precision_has_a_tolerance():
    assert list(PRECISIONS) == list(get_args(Precision)) == ["fp32", "fp16", "int8"]


@pytest.mark.parametrize(("finer", "coarser"), [("fp32", "fp16"), ("fp16", "int8")])
def test_a_finer_precision_is_held_to_more(finer, coarser):
    one, other = PRECISIONS[finer], PRECISIONS[coarser]
    assert (one.max_absolute, one.relative, one.tie) < (other.max_absolute, other.relative, other.tie)
    assert one.top1 > other.top1


@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_tolerances_are_positive(precision):
    assert all(value > 0 for value in astuple(PRECISIONS[precision]))
    assert PRECISIONS[precision].top1 <= 1


def test_float32_is_held_to_a_ten_thousandth():
    # The agreement with PyTorch that users of exported models are promised.
    assert PRECISIONS["fp32"].max_absolute == 1e-4
    assert PRECISIONS["fp32"].top1 == 1
