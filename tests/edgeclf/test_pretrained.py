from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf.hyperparameters import HyperParameters, model_classes
from edgeclf.lightning_model import ClassificationModel
from edgeclf_runtime.errors import InputFileError, UsageError

SHORT = ["ConvRNN", "LeNet", "Mobilenetv2", "Squeezenet"]


def metavisions(name: str, classes: list[str]) -> dict[str, Any]:
    """Hyper-parameters as Metavision ML's training keeps them, of its older and its newer releases."""
    values = {
        "models": f"{name}Classifier",
        "in_channels": 2,
        "feature_base": 2,
        "feature_channels_out": 8,
        "width_mul": np.float64(0.1),
        "num_ev_reps": np.int64(1),
        "height": np.int64(48),
        "width": 48,
        "delta_t": 10_000,
        "preprocess": "histo",
        "max_incr_per_pixel": np.float32(5),
        "lr": np.float32(0.001),
        "label_delta_t": 10_000,
        "use_label_freq": np.bool_(False),
        "num_workers": 2,
        "classes": classes,
    }
    if name in ("Mobilenetv2", "Squeezenet"):
        values["forward_label_dict"] = dict(enumerate(classes)) | {255: "ignore"}
        values["backward_label_dict"] = {label: i for i, label in values["forward_label_dict"].items()}
        values["num_ev_reps"] = np.int64(2)
    return values


def write_checkpoint(path: Path, values: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Writes a Lightning checkpoint of random weights, hyper-parameters as a namespace; returns the weights."""
    torch.manual_seed(5)
    net = HyperParameters.from_mapping(values).build_model()
    for buffer in net.buffers():
        if buffer.is_floating_point():
            buffer.data.uniform_(0.5, 1.5)
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": argparse.Namespace(**values), "epoch": 7}, path)
    return net.state_dict()


@pytest.fixture(params=SHORT)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def outputs_of(name: str, *classes: str) -> list[str]:
    """The hyper-parameter `classes` of a model that tells these apart, and the background."""
    return list(classes) if name in ("ConvRNN", "LeNet") else ["background", *classes]


def test_an_output_of_the_same_name_says_the_same_wherever_it_stands(tmp_path: Path, name: str, caplog) -> None:
    """The outputs of a last layer do not know of each other, so a taken one must give the logits that it gave."""
    path = tmp_path / "old é.ckpt"
    old = metavisions(name, outputs_of(name, "paper", "rock", "scissor"))
    weights = write_checkpoint(path, old)
    torch.manual_seed(6)
    module = ClassificationModel(old | {"classes": outputs_of(name, "scissor", "lizard", "paper")}).eval()
    fresh = {key: value.clone() for key, value in module.net.state_dict().items()}
    with caplog.at_level(logging.INFO, logger="edgeclf"):
        module.load_pretrained(str(path))
    assert caplog.messages == [f"{path}: the outputs background, scissor, paper are taken over; lizard start anew"]
    before = load_checkpoint(path).build_model()
    x = torch.rand(4, 2, 2, 48, 48)
    with torch.inference_mode():
        was, now = before(x), module.net(x)
    assert now.shape == (4, 2, 4)
    for new, old_place in ((0, 0), (1, 3), (3, 1)):
        torch.testing.assert_close(now[..., new], was[..., old_place])
    last = list(fresh)[-2:]
    assert all(torch.equal(module.net.state_dict()[key][2], fresh[key][2]) for key in last)
    assert not torch.equal(fresh[last[0]][2], weights[last[0]][2])  # biases may all start from zero


def test_the_same_classes_take_everything_over(tmp_path: Path, name: str) -> None:
    values = metavisions(name, outputs_of(name, "paper", "rock"))
    weights = write_checkpoint(tmp_path / "a.ckpt", values)
    module = ClassificationModel(values)
    module.load_pretrained(tmp_path / "a.ckpt")
    assert all(torch.equal(module.net.state_dict()[key], value) for key, value in weights.items())


def test_frames_that_were_made_in_another_way_are_a_warning(tmp_path: Path, caplog) -> None:
    path = tmp_path / "a.ckpt"
    old = metavisions("ConvRNN", ["a", "b"])
    write_checkpoint(path, old)
    same = {"preprocess": "histo", "preprocess_kwargs": {"max_incr_per_pixel": 5}}
    ClassificationModel(old | same).load_pretrained(path)
    assert not caplog.records
    for change, says in (
        ({"delta_t": 20_000}, "delta_t was 10000 and is 20000"),
        ({"max_incr_per_pixel": 2.0}, "preprocess_kwargs was {'max_incr_per_pixel': 5.0} and is"),
        ({"preprocess": "timesurface", "max_incr_per_pixel": None}, "preprocess was histo and is timesurface"),
        ({"mode": "n_events", "n_events": 90, "delta_t": 7}, "mode was delta_t and is n_events, n_events was None and"),
    ):
        caplog.clear()
        ClassificationModel(old | change).load_pretrained(path)
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert record.getMessage().startswith(f"{path}: its weights were trained on frames that were made in another")
        assert says in record.getMessage()


def test_without_a_common_class_only_the_body_is_taken_over(tmp_path: Path, caplog) -> None:
    """The label maps of feed-forward models need no background."""
    weights = write_checkpoint(tmp_path / "a.ckpt", metavisions("Squeezenet", ["a", "b"]))
    module = ClassificationModel(metavisions("Squeezenet", ["c", "d", "e"]))
    fresh = module.net.state_dict()["model.classifier.1.weight"].clone()
    with caplog.at_level(logging.INFO, logger="edgeclf"):
        module.load_pretrained(tmp_path / "a.ckpt")
    assert "no output is taken over; c, d, e start anew" in caplog.text
    state = module.net.state_dict()
    assert torch.equal(state["model.classifier.1.weight"], fresh)
    assert torch.equal(state["model.features.0.weight"], weights["model.features.0.weight"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"feature_base": 4}, "feature_base was 2 and is 4"),
        ({"feature_channels_out": 16}, "feature_channels_out was 8 and is 16"),
        ({"models": "LeNetClassifier"}, "models was ConvRNNClassifier and is LeNetClassifier"),
        ({"in_channels": 1, "preprocess": "diff"}, "preprocess_channels was 2 and is 1"),
    ],
)
def test_a_body_that_does_not_fit_is_a_sentence(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    values = metavisions("ConvRNN", ["a"])
    write_checkpoint(tmp_path / "a.ckpt", values)
    module = ClassificationModel(values | changes)
    before = {key: value.clone() for key, value in module.net.state_dict().items()}
    with pytest.raises(
        UsageError, match=rf"a\.ckpt: its weights do not fit .*{says}.*needs the shape .*give the model"
    ):
        module.load_pretrained(tmp_path / "a.ckpt")
    assert all(torch.equal(before[key], value) for key, value in module.net.state_dict().items())


def test_a_damaged_last_layer_is_a_sentence(tmp_path: Path) -> None:
    """One row fewer than its classes: rows would be taken for other classes, or be missing."""
    values = metavisions("ConvRNN", ["a", "b"])
    write_checkpoint(tmp_path / "a.ckpt", values)
    content = torch.load(tmp_path / "a.ckpt", weights_only=False)
    content["state_dict"]["net.head.module.2.bias"] = torch.zeros(2)
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(UsageError, match=r"head\.module\.2\.bias needs the shape \(3,\) and has the shape \(2,\)"):
        ClassificationModel(values).load_pretrained(tmp_path / "a.ckpt")
    del content["state_dict"]["net.head.module.2.bias"]
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(UsageError, match=r"head\.module\.2\.bias needs the shape \(3,\) and has no counterpart"):
        ClassificationModel(values).load_pretrained(tmp_path / "a.ckpt")
    with pytest.raises(InputFileError, match="no such checkpoint"):
        ClassificationModel(values).load_pretrained(tmp_path / "b.ckpt")


def test_classes_of_another_kind_of_model_are_compared_by_name(tmp_path: Path, hyper) -> None:
    """`classes` of recurrent models leave the background out, those of feed-forward ones do not."""
    for short in ("ConvRNN", "Squeezenet"):
        settings = hyper(short)
        assert settings.labels == ("background", "left", "right")
        write_checkpoint(tmp_path / "a.ckpt", settings.to_dict())
        names = model_classes(settings.models, ("right",))
        module = ClassificationModel(replace(settings, classes=names).to_dict())
        module.load_pretrained(tmp_path / "a.ckpt")
        weights = load_checkpoint(tmp_path / "a.ckpt").weights
        last = list(weights)[-1]
        assert torch.equal(module.net.state_dict()[last], weights[last][[0, 2]])
