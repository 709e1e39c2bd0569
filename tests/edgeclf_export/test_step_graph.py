from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeclf.checkpoint import load_checkpoint
from edgeclf.models import mask_state
from edgeclf_export.step_graph import StepGraph, contract_of
from edgeclf_runtime.errors import UsageError


@pytest.fixture
def parts(case_name: str, checkpoints: dict[str, Path]):
    loaded = load_checkpoint(checkpoints[case_name])
    classifier = loaded.build_model()
    contract = contract_of(loaded, classifier)
    return classifier, contract, StepGraph(classifier, contract)


def test_folding_leaves_no_batch_norm_and_the_classifier_untouched(parts) -> None:
    classifier, _, graph = parts
    assert not [m for m in graph.modules() if isinstance(m, nn.BatchNorm2d)]
    folded = type(classifier).__name__ != "SqueezenetClassifier"  # SqueezeNet has none
    assert bool([m for m in classifier.modules() if isinstance(m, nn.BatchNorm2d)]) == folded


def test_graph_equals_the_masked_step(parts) -> None:
    classifier, contract, graph = parts
    torch.manual_seed(0)
    frames = torch.rand(3, *contract.frame_shape)
    state = {tensor.name: torch.randn(3, *tensor.shape) for tensor in contract.state}
    keep = torch.tensor([1.0, 0.0, 1.0])
    with torch.inference_mode():
        logits, after = classifier.step(frames, mask_state(state, keep))
        found = graph(frames, *([keep, *state.values()] if state else []))
    expected = [logits, logits.softmax(1), *(after[tensor.name] for tensor in contract.state)]
    for value, right in zip(found, expected, strict=True):
        torch.testing.assert_close(value, right, atol=1e-4, rtol=1e-4)


def test_graph_is_in_evaluation_mode_whatever_the_classifier_is(parts) -> None:
    classifier, contract, _ = parts
    graph = StepGraph(classifier.train(), contract)
    assert not [m for m in graph.modules() if m.training]


def test_contract_says_what_the_checkpoint_says(checkpoints: dict[str, Path]) -> None:
    loaded = load_checkpoint(checkpoints["LeNetClassifier"])
    contract = contract_of(loaded, loaded.build_model())
    assert contract.architecture == "LeNetClassifier"
    assert contract.labels == ("background", "left", "right")
    assert contract.delta_t == 10_000
    assert (contract.preprocess, contract.preprocess_kwargs) == ("histo", {"max_incr_per_pixel": 5.0})
    assert contract.sensor_size == (48, 48)
    assert contract.frame_shape == (2, 48, 48)
    assert [tensor.name for tensor in contract.state] == ["bottleneck_rnn.1.h", "bottleneck_rnn.1.c"]
    assert contract.checkpoint_sha256 == loaded.sha256
    assert contract.versions["torch"] == torch.__version__


def test_a_model_of_frames_that_hold_a_number_of_events_is_refused(checkpoints: dict[str, Path]) -> None:
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    by_count = replace(loaded, hyperparameters=replace(loaded.hyperparameters, mode="n_events", n_events=5000))
    with pytest.raises(UsageError, match="trained on frames of 5000 events each"):
        contract_of(by_count, by_count.build_model())


def test_contract_has_the_preprocessings_own_names_for_its_arguments(checkpoints: dict[str, Path]) -> None:
    """As Metavision's checkpoints may have others, and the runtime is to be told one way."""
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    quantized = replace(
        loaded.hyperparameters,
        preprocess="histo_quantized",
        preprocess_kwargs={"negative_bit_length": 3, "preprocess_dtype": "uint8"},
    )
    contract = contract_of(replace(loaded, hyperparameters=quantized), loaded.build_model())
    assert contract.preprocess_kwargs == {"neg_bit_len_quantized": 3}
