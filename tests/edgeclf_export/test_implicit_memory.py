from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from edgeclf.checkpoint import load_checkpoint
from edgeclf.models import Classifier, mask_state
from edgeclf.models.feed_forward import FeedForwardClassifier
from edgeclf_export.implicit_memory import scripted
from edgeclf_export.step_graph import contract_of

SIDE = 48
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
Pair = tuple[Classifier, torch.jit.ScriptModule]


@pytest.fixture(scope="module")
def pair(case_name: str, checkpoints: dict[str, Path]) -> Pair:
    """A classifier, and the same with its memory inside."""
    loaded = load_checkpoint(checkpoints[case_name])
    classifier = loaded.build_model()
    return classifier, scripted(classifier, contract_of(loaded, classifier))


@pytest.fixture
def both(pair: Pair) -> Pair:
    pair[1].reset_all()
    return pair


@pytest.fixture
def recurrent(checkpoints: dict[str, Path]) -> Pair:
    loaded = load_checkpoint(checkpoints["LeNetClassifier"])
    classifier = loaded.build_model()
    return classifier, scripted(classifier, contract_of(loaded, classifier))


def _frames(steps: int, batch: int, height: int = SIDE, width: int = SIDE, seed: int = 0) -> Tensor:
    return torch.rand(steps, batch, 2, height, width, generator=torch.Generator().manual_seed(seed))


def test_memory_goes_on_from_call_to_call(both: Pair) -> None:
    classifier, script = both
    x = _frames(7, 2)
    with torch.inference_mode():
        expected = classifier(x)
        in_parts = torch.cat([script(x[:1]), script(x[1:5]), script(x[5:])])
    torch.testing.assert_close(in_parts, expected, **CLOSE)


def test_memory_is_the_state_in_the_order_of_its_names(both: Pair) -> None:
    classifier, script = both
    x = _frames(4, 2)
    with torch.inference_mode():
        _, state = classifier.unroll(x, classifier.initial_state(2, SIDE, SIDE))
        script(x)
    assert len(script.memory) == len(state)
    for held, expected in zip(script.memory, state.values(), strict=True):
        torch.testing.assert_close(held, expected, **CLOSE)


def test_probabilities_move_the_memory_on_once(both: Pair) -> None:
    classifier, script = both
    x = _frames(4, 2)
    with torch.inference_mode():
        expected = classifier(x).softmax(-1)
        found = [script.get_probas(frame[None])[0] for frame in x]
    torch.testing.assert_close(torch.stack(found), expected, **CLOSE)


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1, 1)])
def test_a_mask_clears_the_streams_that_it_names(both: Pair, shape: tuple[int, ...]) -> None:
    classifier, script = both
    x, mask = _frames(5, 3), torch.tensor([1.0, 0.0, 1.0])
    with torch.inference_mode():
        _, state = classifier.unroll(x[:3], classifier.initial_state(3, SIDE, SIDE))
        expected, _ = classifier.unroll(x[3:], mask_state(state, mask))
        script(x[:3])
        script.reset(mask.reshape(shape))
        torch.testing.assert_close(script(x[3:]), expected, **CLOSE)


def test_a_mask_of_another_length_leaves_the_memory_alone(both: Pair) -> None:
    classifier, script = both
    x = _frames(4, 3)
    with torch.inference_mode():
        expected = classifier(x)
        script(x[:3])
        script.reset()  # a mask of one stream, unless one is given
        script.reset(torch.zeros(2))
        torch.testing.assert_close(script(x[3:]), expected[3:], **CLOSE)


def test_a_reset_without_a_mask_clears_a_single_stream(both: Pair) -> None:
    classifier, script = both
    x = _frames(4, 1)
    with torch.inference_mode():
        script(x[:3])
        script.reset()
        torch.testing.assert_close(script(x[3:]), classifier(x[3:]), **CLOSE)


def test_reset_all_clears_every_stream(both: Pair) -> None:
    classifier, script = both
    x = _frames(4, 3)
    with torch.inference_mode():
        script(x[:3])
        script.reset_all()
        fresh = script(x[3:])
        torch.testing.assert_close(fresh, classifier(x[3:]), **CLOSE)
        if script.memory:  # else there is nothing to clear; and where there is, it must be seen to matter
            assert ((fresh - classifier(x)[3:]).abs() > 10 * CLOSE["atol"]).any(-1).all()


@pytest.mark.parametrize("changed", [(3, 48, 48), (2, 57, 48), (2, 48, 57)])
def test_memory_starts_anew_where_batch_height_or_width_change(both: Pair, changed: tuple[int, int, int]) -> None:
    classifier, script = both
    x = _frames(3, *changed)
    with torch.inference_mode():
        script(_frames(2, 2, 48, 48))
        torch.testing.assert_close(script(x), classifier(x), **CLOSE)


def test_memory_of_another_precision_is_taken_along(recurrent: Pair) -> None:
    """As programs do that move the module to a GPU in float16: memory must follow, with what it holds."""
    classifier, script = recurrent
    x = _frames(5, 2)
    zero = classifier.initial_state(2, SIDE, SIDE)
    with torch.inference_mode():
        _, expected = classifier.unroll(x, zero)
        _, forgotten = classifier.unroll(x[3:], zero)
        script(x[:3])
        assert script.half()(x[3:].half()).dtype == torch.float16
    for held, name in zip(script.memory, expected, strict=True):
        torch.testing.assert_close(held.float(), expected[name], rtol=0.02, atol=0.02)
        assert (forgotten[name] - expected[name]).abs().max() > 0.1  # so the loss of memory would show


def test_memory_keeps_no_history_of_its_making(recurrent: Pair) -> None:
    _, script = recurrent
    script(_frames(2, 1).requires_grad_())
    assert not any(value.requires_grad for value in script.memory)


def test_feed_forward_models_take_whole_windows_and_remember_nothing_of_them(both: Pair) -> None:
    classifier, script = both
    if not isinstance(classifier, FeedForwardClassifier):
        with pytest.raises(torch.jit.Error, match=r"frames \[T, B, C, H, W\]"):
            script(_frames(1, 1)[0])
        return
    x = _frames(4, 2)
    window = torch.rand(5, classifier.num_ev_reps * 2, SIDE, SIDE)
    with torch.inference_mode():
        before = script(x[:2])
        torch.testing.assert_close(script(window), classifier.model(window), **CLOSE)
        torch.testing.assert_close(script.get_probas(window), classifier.model(window).softmax(-1), **CLOSE)
        torch.testing.assert_close(torch.cat([before, script(x[2:])]), classifier(x), **CLOSE)


def test_classifier_is_left_as_it_was(checkpoints: dict[str, Path]) -> None:
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    classifier = loaded.build_model()
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    scripted(classifier, contract_of(loaded, classifier))
    after = classifier.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.requires_grad for parameter in classifier.parameters())
