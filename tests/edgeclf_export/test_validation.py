"""The validation must see a graph that is wrong; each of these breaks one on purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.step_graph import contract_of
from edgeclf_export.validation import STEPS, golden_vectors, stimuli, validate
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.golden import Array, Step, replay
from edgeclf_runtime.precision import PRECISIONS
from tests.edgeclf_export.formats.beside_pytorch import step_in_pytorch


@pytest.fixture
def right(checkpoints: dict[str, Path]):
    """The ConvRNN, its contract, and the step that PyTorch itself computes."""
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    classifier = loaded.build_model()
    contract = contract_of(loaded, classifier)
    return classifier, contract, step_in_pytorch(classifier, contract)


def _watched(step: Step, seen: list[tuple[Array, Array]]) -> Step:
    def watched(inputs: Sequence[Array]) -> Sequence[Array]:
        seen.append((inputs[0], inputs[1]))
        return step(inputs)

    return watched


def test_at_least_fifty_steps_at_batches_of_one_and_three_with_resets(right) -> None:
    classifier, contract, step = right
    seen: list[tuple[Array, Array]] = []
    report = validate(_watched(step, seen), contract, classifier)
    assert report
    assert report.steps == STEPS >= 50
    for batch in (1, 3):
        keeps = np.array([keep for frames, keep in seen if len(frames) == batch])
        assert len(keeps) >= 50
        assert not keeps[0].any()
        assert (keeps[1:] == 0).any(axis=0).all(), "every stream is reset on the way"
        assert (keeps[1:].sum(axis=1) < batch).sum() >= 3
    assert set(report.outputs) == set(contract.output_names)


def test_frames_of_recordings_are_played_one_after_the_other(right) -> None:
    classifier, contract, step = right
    rng = np.random.default_rng(0)
    recordings = [rng.random((n, *contract.frame_shape), np.float32) for n in (7, 40, 5)]
    seen: list[tuple[Array, Array]] = []
    assert validate(_watched(step, seen), contract, classifier, recordings)
    of_three = [frames for frames, _ in seen if len(frames) == 3]
    played = np.concatenate([*recordings, *recordings])
    for stream, begin in enumerate((0, 7, 47)):
        np.testing.assert_array_equal(
            np.stack([frames[stream] for frames in of_three])[:40], played[begin : begin + 40]
        )


def test_a_fixed_batch_is_the_one_that_is_validated(right) -> None:
    classifier, contract, step = right
    seen: list[tuple[Array, Array]] = []
    assert validate(_watched(step, seen), replace(contract, batch=4), classifier)
    assert {len(frames) for frames, _ in seen} == {4}


def test_a_graph_without_keep_memory_is_given_zero_state_where_a_stream_starts_anew(right) -> None:
    classifier, contract, _ = right
    without = replace(contract, keep_memory=False)
    assert validate(step_in_pytorch(classifier, without), without, classifier)


Break = Callable[[Step], Step]


def _state_not_updated(step: Step) -> Step:
    return lambda inputs: [*step(inputs)[:2], *inputs[2:]]


def _one_state_fed_back_under_anothers_name(step: Step) -> Step:
    """The first two states of a recurrent layer; a history of frames is fed back upside down."""

    def broken(inputs: Sequence[Array]) -> list[Array]:
        logits, probabilities, first, *others = step(inputs)
        if not others:
            return [logits, probabilities, first[:, ::-1].copy()]
        return [logits, probabilities, others[0], first, *others[1:]]

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


def _of_another_shape(step: Step) -> Step:
    return lambda inputs: [*step(inputs)[:-1], step(inputs)[-1][:, :1]]


@pytest.mark.parametrize(
    "wrong",
    [
        _state_not_updated,
        _one_state_fed_back_under_anothers_name,
        _keep_memory_ignored,
        _streams_mixed,
        _slightly_wrong,
        _not_a_number,
        _of_another_shape,
    ],
)
def test_a_broken_graph_is_refused(right, wrong: Break) -> None:
    classifier, contract, step = right
    report = validate(wrong(step), contract, classifier)
    assert not report
    assert report.problems
    assert report.outputs.keys() == set(contract.output_names)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize(
    "wrong",
    [
        _state_not_updated,
        _one_state_fed_back_under_anothers_name,
        _keep_memory_ignored,
        _streams_mixed,
        _not_a_number,
    ],
)
@pytest.mark.parametrize("model", ["ConvRNNClassifier", "LeNetClassifier", "Mobilenetv2Classifier"])
def test_wider_tolerances_still_refuse_a_state_that_goes_astray(
    checkpoints: dict[str, Path], model: str, wrong: Break, precision: str
) -> None:
    classifier, contract = _model(model, checkpoints)
    step = step_in_pytorch(classifier, contract)
    assert not validate(wrong(step), replace(contract, precision=precision), classifier)


def test_a_state_that_is_small_is_compared_by_its_size(right) -> None:
    """An absolute bound alone would let a state of 1e-5 be anything."""
    classifier, contract, _ = right
    with torch.no_grad():
        for layer in classifier.conv2:
            for parameter in (*layer.conv_x2h.parameters(), *layer.timepool.parameters()):
                parameter.mul_(1e-5)
    step = step_in_pytorch(classifier, contract)
    assert validate(step, contract, classifier)
    report = validate(_state_not_updated(step), contract, classifier)
    assert not report
    assert max(d.max_absolute for d in report.outputs.values()) <= PRECISIONS["fp32"].max_absolute


def _model(case_name: str, checkpoints: dict[str, Path]) -> tuple[torch.nn.Module, Contract]:
    loaded = load_checkpoint(checkpoints[case_name])
    classifier = loaded.build_model()
    return classifier, contract_of(loaded, classifier)


def test_golden_vectors_are_passed_by_the_model_and_by_no_other(case_name: str, checkpoints: dict[str, Path]) -> None:
    classifier, contract = _model(case_name, checkpoints)
    vectors = golden_vectors(contract, classifier)
    names = {name for name in [*contract.input_names, *contract.output_names] if not name.startswith("state.")}
    assert vectors.keys() == names | {"tolerance.max_absolute", "tolerance.relative"}
    assert replay(step_in_pytorch(classifier, contract), contract, vectors)
    with torch.no_grad():
        next(classifier.parameters()).mul_(1.5)
    assert not replay(step_in_pytorch(classifier, contract), contract, vectors)


def test_golden_vectors_hold_a_reset_unless_the_graph_has_none(checkpoints: dict[str, Path]) -> None:
    classifier, contract = _model("ConvRNNClassifier", checkpoints)
    keep = golden_vectors(contract, classifier)["keep_memory"]
    assert keep.shape[1] == 2
    assert (keep[1:] == 0).any(axis=0).all()
    without = replace(contract, keep_memory=False)
    vectors = golden_vectors(without, classifier)
    assert "keep_memory" not in vectors
    assert replay(step_in_pytorch(classifier, without), without, vectors)


def test_stimuli_are_the_same_every_time(checkpoints: dict[str, Path]) -> None:
    _, contract = _model("ConvRNNClassifier", checkpoints)
    one, other = (list(stimuli(contract, 2, 5, 3, [])) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.frames, b.frames)
        np.testing.assert_array_equal(a.keep, b.keep)
        assert 0.04 < (a.frames[0] != 0).mean() < 0.06
        assert 0.005 < (a.frames[1] != 0).mean() < 0.015
