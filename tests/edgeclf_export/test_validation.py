"""The validation must see a graph that is wrong; each of these breaks one on purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.formats import Array, Step
from edgeclf_export.step_graph import StepGraph, contract_of
from edgeclf_export.validation import STEPS, validate


@pytest.fixture
def right(checkpoints: dict[str, Path]):
    """The ConvRNN, its contract, and the step that PyTorch itself computes."""
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    classifier = loaded.build_model()
    contract = contract_of(loaded, classifier)
    graph = StepGraph(classifier, contract)

    def step(inputs: Sequence[Array]) -> list[Array]:
        with torch.inference_mode():
            return [value.numpy() for value in graph(*(torch.from_numpy(i) for i in inputs))]

    return classifier, contract, step


def test_at_least_fifty_steps_at_batches_of_one_and_three_with_resets(right) -> None:
    classifier, contract, step = right
    seen: list[tuple[int, tuple[float, ...]]] = []

    def watched(inputs: Sequence[Array]) -> list[Array]:
        seen.append((len(inputs[0]), tuple(inputs[1])))
        return step(inputs)

    report = validate(watched, contract, classifier)
    assert report
    assert report.steps == STEPS >= 50
    for batch in (1, 3):
        keeps = [keep for size, keep in seen if size == batch]
        assert len(keeps) >= 50
        assert keeps[0] == (0.0,) * batch
        later = np.array(keeps[1:])
        assert (later == 0).any(axis=0).all(), "every stream is reset on the way"
        assert (later.sum(axis=1) < batch).sum() >= 3
    assert set(report.max_difference) == set(contract.output_names)


Break = Callable[[Step], Step]


def _state_not_updated(step: Step) -> Step:
    return lambda inputs: [*step(inputs)[:2], *inputs[2:]]


def _states_swapped(step: Step) -> Step:
    def broken(inputs: Sequence[Array]) -> list[Array]:
        logits, probabilities, h0, c0, h1, c1 = step(inputs)
        return [logits, probabilities, c0, h0, h1, c1]

    return broken


def _keep_memory_ignored(step: Step) -> Step:
    return lambda inputs: step([inputs[0], np.ones_like(inputs[1]), *inputs[2:]])


def _streams_mixed(step: Step) -> Step:
    return lambda inputs: [np.roll(value, 1, axis=0) for value in step(inputs)]


def _slightly_wrong(step: Step) -> Step:
    return lambda inputs: [value * np.float32(1.001) for value in step(inputs)]


def _not_a_number(step: Step) -> Step:
    def broken(inputs: Sequence[Array]) -> list[Array]:
        first, *others = step(inputs)
        return [first * np.float32(np.nan), *others]

    return broken


@pytest.mark.parametrize(
    "wrong",
    [_state_not_updated, _states_swapped, _keep_memory_ignored, _streams_mixed, _slightly_wrong, _not_a_number],
)
def test_a_broken_graph_is_refused(right, wrong: Break) -> None:
    classifier, contract, step = right
    report = validate(wrong(step), contract, classifier)
    assert not report
    output, difference = report.worst
    assert output in contract.output_names
    assert not difference <= report.tolerance
