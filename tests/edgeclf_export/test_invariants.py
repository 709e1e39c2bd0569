from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.invariants import broken_invariants
from edgeclf_export.step_graph import contract_of
from edgeclf_runtime.golden import Array, Step
from tests.edgeclf_export.formats.beside_pytorch import step_in_pytorch


@pytest.fixture
def parts(case_name: str, checkpoints: dict[str, Path]):
    loaded = load_checkpoint(checkpoints[case_name])
    classifier = loaded.build_model()
    contract = contract_of(loaded, classifier)
    step = step_in_pytorch(classifier, contract)
    rng = np.random.default_rng(0)
    return step, contract, [rng.random((3, *contract.frame_shape), np.float32) for _ in range(4)]


@pytest.mark.parametrize("batch", [None, 3])
def test_a_right_graph_breaks_none(parts, batch: int | None) -> None:
    step, contract, frames = parts
    assert broken_invariants(step, replace(contract, batch=batch), frames) == []


def _forgets_no_stream(step: Step) -> Step:
    return lambda inputs: step([inputs[0], np.ones_like(inputs[1]), *inputs[2:]] if len(inputs) > 1 else inputs)


def _streams_leak(step: Step) -> Step:
    return lambda inputs: step([inputs[0] + 0.2 * np.roll(inputs[0], 1, axis=0), *inputs[1:]])


def _first_stream_is_special(step: Step) -> Step:
    def broken(inputs: Sequence[Array]) -> list[Array]:
        logits, *others = step(inputs)
        logits = logits.copy()
        logits[0] += 0.1 * len(logits)
        return [logits, *others]

    return broken


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (_forgets_no_stream, "its old state still counts"),
        (_streams_leak, "a stream alone gives other values"),
        (_first_stream_is_special, "streams in another order give other values of logits"),
    ],
)
def test_what_breaks_one_is_named(parts, wrong, said: str, precision: str) -> None:
    step, contract, frames = parts
    found = broken_invariants(wrong(step), replace(contract, precision=precision), frames)
    assert bool(found) == (bool(contract.state) or wrong is not _forgets_no_stream)
    assert not found or said in " ".join(found)
