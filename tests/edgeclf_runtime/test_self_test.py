from __future__ import annotations

import pytest

from edgeclf_runtime.comparison import Comparison, OutputDifference
from edgeclf_runtime.errors import CheckFailedError
from edgeclf_runtime.precision import Tolerance
from edgeclf_runtime.self_test import difference_table, self_test
from edgeclf_runtime.session import open_model


def test_comparison_is_shown_and_returned(write_model):
    path, shown = write_model(vectors=True), []
    model = open_model(path, "cpu")
    assert [self_test(model.run, model.contract, path, shown.append)] == shown
    assert shown[0]


def test_comparison_that_fails_is_shown_first(write_model, vectors_by_hand, tiny):
    vectors, shown = vectors_by_hand(tiny), []
    vectors["logits"] = -vectors["logits"]
    path = write_model(vectors=vectors)
    model = open_model(path, "cpu")
    with pytest.raises(CheckFailedError, match="logits differs"):
        self_test(model.run, model.contract, path, shown.append)
    assert len(shown) == 1
    assert not shown[0]


def test_table():
    differences = {
        "logits": OutputDifference(0.0123, 0.001, 0.0421),
        "next_state.h": OutputDifference(2e-7, 1e-8, 1e-7),
    }
    text = difference_table(Comparison(12, Tolerance(0.25, 0.03, 0.98, 0.01), differences, 0.995))
    assert text == (
        "output        max abs  mean abs  relative\n"
        "logits          0.012     0.001     0.042\n"
        "next_state.h    2e-07     1e-08     1e-07\n"
        "tolerance        0.25                0.03\n"
        "golden vectors: not passed, 12 steps, the same class named for 99.50% of the frames"
    )
