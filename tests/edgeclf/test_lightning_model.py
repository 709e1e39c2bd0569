from __future__ import annotations

from argparse import Namespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import Tensor

from edgeclf.data.sequential import VideoInfo
from edgeclf.evaluation import RecordingLogits
from edgeclf.hyperparameters import HyperParameters
from edgeclf.lightning_model import ClassificationModel, summed_loss
from edgeclf_runtime.errors import EdgeclfError, UsageError


def make_batch(steps: int, rows: int, seed: int, keep: list[float] | None = None) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 3, (steps, rows), generator=generator)
    return {
        "inputs": torch.rand(steps, rows, 2, 48, 48, generator=generator),
        "labels": labels,
        "mask_keep_memory": torch.tensor(keep or [0.0] * rows).view(-1, 1, 1, 1),
        "frame_is_labeled": labels >= 0,
        "video_infos": [VideoInfo(f"{row}.h5", 0, steps, 0) for row in range(rows)],
    }


@pytest.fixture
def module(hyper_of_each: HyperParameters, monkeypatch: pytest.MonkeyPatch) -> ClassificationModel:
    """A module without a trainer, in evaluation mode, so that batch normalisation and dropout do not blur numbers."""
    torch.manual_seed(3)
    made = ClassificationModel(hyper_of_each.to_dict())
    monkeypatch.setattr(made, "log", lambda *_args, **_kwargs: None)
    return made.eval()


def plain_loss(logits: Tensor, labels: Tensor) -> float:
    """The mean of -log of the right output's share, over labelled frames, one after the other."""
    losses = []
    for t in range(labels.shape[0]):
        for row in range(labels.shape[1]):
            if labels[t, row] >= 0:
                shares = logits[t, row].double().exp() / logits[t, row].double().exp().sum()
                losses.append(-shares[labels[t, row]].log().item())
    return sum(losses) / len(losses)


def test_the_loss_counts_labelled_frames_only(module: ClassificationModel) -> None:
    batch = make_batch(5, 3, seed=0)
    assert 0 < int(batch["frame_is_labeled"].sum()) < 15
    loss = module.training_step(batch, 0)
    assert loss is not None
    assert loss.item() == pytest.approx(plain_loss(module.net(batch["inputs"]).detach(), batch["labels"]), rel=1e-5)


def test_the_loss_weighs_the_classes(hyper, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = (0.5, 2.0, 1.25)
    torch.manual_seed(3)
    module = ClassificationModel(hyper("ConvRNN").to_dict() | {"class_weights": list(weights)}).eval()
    monkeypatch.setattr(module, "log", lambda *_args, **_kwargs: None)
    batch = make_batch(5, 3, seed=0)
    loss = module.training_step(batch, 0)
    assert loss is not None
    labelled = batch["frame_is_labeled"].flatten().numpy()
    labels = batch["labels"].flatten().numpy()[labelled]
    shares = module.net(batch["inputs"]).double().softmax(-1).detach().flatten(0, 1).numpy()[labelled]
    expected = log_loss(labels, shares, labels=[0, 1, 2], sample_weight=np.array(weights)[labels])
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert {name.split(".")[0] for name in module.state_dict()} == {"net"}
    collected = [RecordingLogits("a", batch["labels"].flatten(), module.net(batch["inputs"]).detach().flatten(0, 1))]
    assert module._mean_loss(collected) == pytest.approx(expected, rel=1e-5)


def test_a_batch_of_frames_that_count_for_nothing_has_no_loss_and_is_skipped(module: ClassificationModel) -> None:
    module._class_weights = torch.tensor([0.0, 1.0, 1.0])
    batch = make_batch(3, 2, seed=0)
    batch["labels"].zero_()
    assert module.training_step(batch, 0) is None


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 3.0)])
def test_the_summed_loss_is_torchs_own(weights: tuple[float, ...] | None) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(-1, 3, (4, 5), generator=generator)
    given = None if weights is None else torch.tensor(weights)
    loss, weight = summed_loss(logits, labels, given)
    as_double = None if given is None else given.double()
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), as_double, ignore_index=-1)
    torch.testing.assert_close(loss / weight, expected)
    nothing, weight = summed_loss(logits, torch.full((4, 5), -1), given)
    assert (nothing.item(), weight.item()) == (0, 0)
    (gradient,) = torch.autograd.grad(nothing, logits)
    assert not gradient.any()


def test_a_batch_of_nothing_but_filler_reaches_every_parameter_with_zero(module: ClassificationModel) -> None:
    """Where several processes train, one that has run out of recordings takes the last steps with the others."""
    module.train()
    batch = make_batch(3, 2, seed=0)
    batch["labels"].fill_(-1)
    batch["video_infos"] = [VideoInfo("", 0, 0, 0)] * 2
    before = {name: value.clone() for name, value in module.net.named_buffers()}
    loss, weight = module._loss_of(batch)
    loss.backward()
    assert (loss.item(), weight.item()) == (0, 0)
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in module.net.parameters())
    assert all(torch.equal(before[name], value) for name, value in module.net.named_buffers())
    assert module.training_step(batch, 0) is None


def test_a_loss_that_is_no_number_is_an_error(module: ClassificationModel) -> None:
    batch = make_batch(3, 2, seed=0)
    batch["inputs"][1] = float("nan")
    with pytest.raises(EdgeclfError, match=r"Training diverged: in batch 4 of epoch 0 the loss is no longer a number"):
        module.training_step(batch, 4)


def test_a_batch_without_labels_is_skipped_but_remembered(module: ClassificationModel) -> None:
    batch = make_batch(3, 2, seed=0)
    batch["labels"].fill_(-1)
    batch["frame_is_labeled"].fill_(False)
    assert module.training_step(batch, 0) is None
    following = make_batch(2, 2, seed=1, keep=[1.0, 1.0])
    expected = module.net(torch.cat([batch["inputs"], following["inputs"]]))[3:]
    torch.testing.assert_close(module(following), expected, rtol=1e-4, atol=1e-5)


def test_memory_goes_on_where_it_is_kept_and_starts_anew_where_not(module: ClassificationModel) -> None:
    first, second, third = make_batch(3, 2, 0), make_batch(4, 2, 1, [1.0, 0.0]), make_batch(2, 2, 2, [1.0, 1.0])
    found = [module(batch) for batch in (first, second, third)]
    x = [batch["inputs"] for batch in (first, second, third)]
    with torch.no_grad():
        row_0 = module.net(torch.cat(x)[:, :1])
        row_1_before, row_1 = module.net(x[0][:, 1:]), module.net(torch.cat(x[1:])[:, 1:])
    together = torch.cat(found)
    torch.testing.assert_close(together[:, :1], row_0, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[:3, 1:], row_1_before, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together[3:, 1:], row_1, rtol=1e-4, atol=1e-5)


def test_what_a_sequence_left_does_not_reach_the_next_one(module: ClassificationModel) -> None:
    module(make_batch(3, 2, 0))
    module.on_validation_epoch_start()
    batch = make_batch(3, 3, 1, [1.0, 1.0, 1.0])  # of another size as well
    torch.testing.assert_close(module(batch), module.net(batch["inputs"]), rtol=1e-4, atol=1e-5)


def test_the_gradient_ends_at_the_batch(module: ClassificationModel) -> None:
    first, second = make_batch(2, 2, 0), make_batch(2, 2, 1, [1.0, 1.0])
    first["inputs"].requires_grad_()
    second["inputs"].requires_grad_()
    module.training_step(first, 0)
    loss = module.training_step(second, 1)
    assert loss is not None
    loss.backward()
    assert first["inputs"].grad is None
    assert second["inputs"].grad is not None
    assert second["inputs"].grad.abs().sum() > 0


def test_hyper_parameters_of_either_form_are_kept(hyper) -> None:
    values = hyper("ConvRNN").to_dict() | {"dataset_path": "/data"}
    for form in (values, Namespace(**values)):
        module = ClassificationModel(form)
        assert dict(module.hparams) == values
        assert module.settings == hyper("ConvRNN")
    assert {name.split(".")[0] for name in module.state_dict()} == {"net"}


def test_frames_too_small_for_the_network_are_a_sentence(hyper) -> None:
    with pytest.raises(UsageError, match="at least 48×48"):
        ClassificationModel(hyper("LeNet").to_dict() | {"height": 47})


def test_rows_that_only_fill_a_batch_up_leave_no_trace(hyper_of_each: HyperParameters) -> None:
    """Training mode: batch normalisation must see the frames of the recording alone."""
    whole, alone = make_batch(4, 3, seed=0), make_batch(4, 3, seed=0)
    whole["video_infos"][1:] = [VideoInfo("", 0, 0, 0)] * 2
    whole["inputs"][:, 1:] = 0
    alone = {
        "inputs": alone["inputs"][:, :1],
        "labels": alone["labels"][:, :1],
        "mask_keep_memory": alone["mask_keep_memory"][:1],
        "frame_is_labeled": alone["frame_is_labeled"][:, :1],
        "video_infos": alone["video_infos"][:1],
    }
    logits, statistics = [], []
    for batch in (whole, alone):
        torch.manual_seed(3)
        module = ClassificationModel(hyper_of_each.to_dict()).train()
        torch.manual_seed(4)  # of dropout
        logits.append(module(batch)[:, :1])
        statistics.append([b for name, b in module.net.named_buffers() if "running" in name])
    torch.testing.assert_close(logits[0], logits[1])
    for found, right in zip(*statistics, strict=True):
        torch.testing.assert_close(found, right)
