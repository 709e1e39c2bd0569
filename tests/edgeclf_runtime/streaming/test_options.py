from __future__ import annotations

import pytest

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.streaming import ClearEvery, NeverClear, StreamOptions


def test_one_memory_policy_is_for_all():
    assert StreamOptions(memory=ClearEvery(3)).memory_of(3) == [ClearEvery(3)] * 3
    assert StreamOptions().memory_of(2) == [NeverClear(), NeverClear()]


def test_a_memory_policy_each():
    options = StreamOptions(memory=(ClearEvery(3), NeverClear()))
    assert options.memory_of(2) == [ClearEvery(3), NeverClear()]
    with pytest.raises(UsageError, match="3 sources and 2 memory policies"):
        options.memory_of(3)


@pytest.mark.parametrize(
    "wrong", [{"queue": 0}, {"max_wait_s": -1.0}, {"stall_after_s": 0.0}, {"threshold": float("nan")}]
)
def test_what_cannot_be(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        StreamOptions(**wrong)
