from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf.models import Classifier
from edgeclf_export.parity.drift import Lockstep, drift_of, relative_error
from edgeclf_export.step_graph import contract_of
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.golden import Array
from edgeclf_runtime.precision import Precision

FRAMES = 12


def test_relative_error_is_the_norm_over_all_tensors() -> None:
    rng = np.random.default_rng(0)
    right = [rng.normal(size=(4, 3, 3)).astype(np.float32), rng.normal(size=(2, 5)).astype(np.float32)]
    found = [value + 0.1 * rng.normal(size=value.shape).astype(np.float32) for value in right]
    flat = [np.concatenate([value.ravel() for value in side]).astype(np.float64) for side in (right, found)]
    assert relative_error(right, found) == pytest.approx(np.linalg.norm(flat[1] - flat[0]) / np.linalg.norm(flat[0]))


def test_relative_error_of_states_that_are_zero_or_no_number() -> None:
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert relative_error([zero], [zero]) == 0
    assert relative_error([zero], [one]) == math.inf
    assert relative_error([one], [zero]) == 1
    for broken in (math.nan, math.inf):
        assert relative_error([one], [np.full(3, broken, np.float32)]) == math.inf
    assert relative_error([np.full(3, math.inf)], [np.full(3, math.inf)]) == math.inf


def test_recordings_of_different_lengths() -> None:
    drift = drift_of([[0.1, 0.2, 0.3], [0.3, 0.4], [0.2]], "int8")
    np.testing.assert_allclose(drift.median, [0.2, 0.3, 0.3])
    np.testing.assert_allclose(drift.largest, [0.3, 0.4, 0.3])
    assert drift.recordings.tolist() == [3, 2, 1]
    assert (drift.early, drift.late) == pytest.approx((0.3, 0.3))  # the last frame is of less than half of them
    assert not drift.grows


GROWING = [1e-7 * 1.1**k for k in range(100)]  # to 1e-3


def test_early_and_late_errors() -> None:
    drift = drift_of([GROWING, GROWING[:60]], "fp32")
    assert drift.early == pytest.approx(np.median(GROWING[1:11]))
    assert drift.late == pytest.approx(np.median(GROWING[90:]))
    assert drift_of([[0.5]], "fp32").early == drift_of([[0.5]], "fp32").late == 0.5


@pytest.mark.parametrize(
    ("errors", "precision", "verdict"),
    [
        (GROWING, "fp32", "grows"),
        ([1e-3 * error for error in GROWING], "fp32", "even"),  # still rounding
        ([1e-7] * 100, "fp32", "even"),
        ([0.0] * 100, "fp32", "even"),
        ([0.0] * 80 + [1e-4] * 20, "fp32", "grows"),  # out of nothing
        ([0.0] * 30 + [1e-4] * 70, "fp32", "even"),  # a state that takes its time to fill up
        (np.linspace(0, 1e-4, 10), "fp32", "even"),  # too short to tell growth from the start
        ([0.15] * 100, "int8", "even"),
        ([1e-3] * 80 + [0.15] * 20, "int8", "grows"),
        ([1e-3] * 100, "fp16", "even"),
        ([1e-2] * 100, "fp32", "apart"),
        ([1.0] * 100, "int8", "apart"),  # a state that is not fed back
        ([1.0], "int8", "apart"),
        ([1e-7] * 50 + [math.inf] * 50, "fp32", "apart"),
        ([math.inf] * 5, "int8", "apart"),
    ],
)
def test_verdict(errors: Sequence[float], precision: Precision, verdict: str) -> None:
    drift = drift_of([list(errors), list(errors)], precision)
    assert drift.verdict == verdict
    assert drift.grows == (verdict == "grows")


@pytest.fixture(scope="module")
def reference(checkpoints: dict[str, Path]) -> tuple[Classifier, Contract]:
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    classifier = loaded.build_model()
    return classifier, contract_of(loaded, classifier)


def _run(reference: tuple[Classifier, Contract], change: Callable[[list[Array]], list[Array]]) -> Lockstep:
    """Two recordings beside the classifier in PyTorch itself, whose next state is changed."""
    classifier, contract = reference

    def step(inputs: Sequence[Array]) -> list[Array]:
        frames, _, *state = (torch.from_numpy(value.astype(np.float32)) for value in inputs)
        with torch.inference_mode():
            given = dict(zip((tensor.name for tensor in contract.state), state, strict=True))
            logits, after = classifier.step(frames, given)
        return [logits.numpy(), logits.softmax(1).numpy(), *change([value.numpy() for value in after.values()])]

    lockstep = Lockstep(classifier, step, contract)
    rng = np.random.default_rng(0)
    for _ in range(2):
        lockstep.start()
        for _ in range(FRAMES):
            frame = (rng.random(contract.frame_shape) < 0.05).astype(np.float32)
            lockstep.step(frame, frame)
    return lockstep


def test_the_same_classifier_does_not_drift(reference: tuple[Classifier, Contract]) -> None:
    drift = _run(reference, lambda state: state).result()
    assert drift.recordings.tolist() == [2] * FRAMES
    assert drift.largest.max() == 0


def test_each_side_is_fed_its_own_state_back(reference: tuple[Classifier, Contract]) -> None:
    scaled = _run(reference, lambda state: [value * np.float32(1.001) for value in state]).result()
    assert scaled.median[0] == pytest.approx(1e-3, rel=1e-3)
    assert scaled.late > 1.5 * scaled.median[0]  # errors add up only where they come back
    lost = _run(reference, lambda state: [value * 0 for value in state]).result()
    np.testing.assert_allclose(lost.median, 1)
    assert lost.verdict == "apart"
    broken = _run(reference, lambda state: [value * np.float32(math.nan) for value in state]).result()
    assert (broken.late, broken.verdict) == (math.inf, "apart")


def test_only_the_same_memory_is_compared(reference: tuple[Classifier, Contract], checkpoints: dict[str, Path]) -> None:
    classifier, contract = reference
    assert Lockstep.obstacle(classifier, contract) == ""
    for state in ((), contract.state[:-1]):
        other = replace(contract, state=state)
        assert Lockstep.obstacle(classifier, other) == "the two sides' states have other shapes"
    without = load_checkpoint(checkpoints["SqueezenetWithoutMemory"])
    model = without.build_model()
    assert Lockstep.obstacle(model, contract_of(without, model)) == "the model has no state"
