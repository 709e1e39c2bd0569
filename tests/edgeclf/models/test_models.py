from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeclf.models import (
    Classifier,
    ConvRNNClassifier,
    LeNetClassifier,
    Mobilenetv2Classifier,
    SqueezenetClassifier,
    mask_state,
)
from edgeclf.models.mobilenet_v2 import round_channels
from edgeclf_runtime.errors import UsageError


def _classifiers() -> dict[str, tuple[Classifier, int, int]]:
    """Each classifier with frames of odd sizes, where rounding in strides shows."""
    torch.manual_seed(0)
    return {
        "ConvRNN": (ConvRNNClassifier(2, 4, 16, 4), 35, 42),
        "LeNet": (LeNetClassifier(2, 6, 16, 4), 48, 61),
        "MobileNetV2": (Mobilenetv2Classifier(2, 0.25, 4), 33, 40),
        "MobileNetV2 of 3 frames": (Mobilenetv2Classifier(6, 0.25, 4, num_ev_reps=3), 33, 40),
        "SqueezeNet": (SqueezenetClassifier(2, 4), 33, 40),
        "SqueezeNet of 2 frames": (SqueezenetClassifier(4, 4, num_ev_reps=2), 17, 17),
    }


NAMES = list(_classifiers())
WITHOUT_MEMORY = ("MobileNetV2", "SqueezeNet")  # they see one frame at a time


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest) -> tuple[Classifier, int, int]:
    model, height, width = _classifiers()[request.param]
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # as after training, so that a forgotten eval() shows
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
    return model.eval(), height, width


def test_forward_equals_chained_steps(case: tuple[Classifier, int, int]) -> None:
    model, height, width = case
    x = torch.rand(7, 3, model.channels, height, width)
    state = model.initial_state(3, height, width)
    chained = []
    with torch.inference_mode():
        together = model(x)
        for frame in x:
            logits, state = model.step(frame, state)
            chained.append(logits)
        _, unrolled = model.unroll(x, model.initial_state(3, height, width))
    assert together.shape == (7, 3, 4)
    torch.testing.assert_close(together, torch.stack(chained), rtol=1e-5, atol=1e-5)
    assert unrolled.keys() == state.keys()
    for name in state:
        torch.testing.assert_close(unrolled[name], state[name], rtol=1e-5, atol=1e-5)


def test_unroll_in_two_parts_equals_one(case: tuple[Classifier, int, int]) -> None:
    model, height, width = case
    x = torch.rand(6, 2, model.channels, height, width)
    with torch.inference_mode():
        whole = model(x)
        first, state = model.unroll(x[:1], model.initial_state(2, height, width))
        second, _ = model.unroll(x[1:], state)
    torch.testing.assert_close(whole, torch.cat([first, second]), rtol=1e-5, atol=1e-5)


def test_remembering_frames_leaves_the_state_of_running_on_them() -> None:
    for name in ("MobileNetV2", "MobileNetV2 of 3 frames", "SqueezeNet of 2 frames"):
        model, height, width = _classifiers()[name]
        for frames in (1, 2, 5):
            x = torch.rand(frames, 2, model.channels, height, width)
            before = {key: torch.rand_like(value) for key, value in model.initial_state(2, height, width).items()}
            with torch.inference_mode():
                _, expected = model.eval().unroll(x, before)
            remembered = model.remember(x, before)
            assert remembered.keys() == expected.keys()
            assert all(torch.equal(remembered[key], expected[key]) for key in expected)


def test_state_has_the_shapes_of_its_spec(case: tuple[Classifier, int, int]) -> None:
    model, height, width = case
    _, state = model.step(torch.rand(2, model.channels, height, width), model.initial_state(2, height, width))
    assert {name: tuple(value.shape[1:]) for name, value in state.items()} == model.state_spec(height, width)


def test_no_module_keeps_a_hidden_tensor(case: tuple[Classifier, int, int]) -> None:
    model, height, width = case
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.rand(4, 1, model.channels, height, width)
    with torch.inference_mode():
        once, again = model(x), model(x)
    assert torch.equal(once, again)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    learned = {id(p) for p in model.parameters()} | {id(b) for b in model.buffers()}
    held = [v for m in model.modules() for v in vars(m).values() if isinstance(v, torch.Tensor)]
    assert all(id(value) in learned for value in held)


@pytest.mark.parametrize("case", [name for name in NAMES if name not in WITHOUT_MEMORY], indirect=True)
def test_memory_matters_and_a_mask_clears_it(case: tuple[Classifier, int, int]) -> None:
    model, height, width = case
    x = torch.rand(2, 2, model.channels, height, width)
    zero = model.initial_state(2, height, width)
    with torch.inference_mode():
        fresh, _ = model.step(x[1], zero)
        _, state = model.step(x[0], zero)
        remembered, _ = model.step(x[1], state)
        masked, _ = model.step(x[1], mask_state(state, torch.tensor([0.0, 1.0])))
    assert not torch.equal(fresh, remembered)
    torch.testing.assert_close(masked[0], fresh[0])
    torch.testing.assert_close(masked[1], remembered[1])


def test_layers_are_named_and_shaped_as_in_metavision_checkpoints() -> None:
    model = ConvRNNClassifier(cin=2, base=8, cout=32, num_classes=4)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert shapes["conv1.module.0.0.weight"] == (8, 2, 3, 3)
    assert shapes["conv1.module.0.0.bias"] == (8,)
    assert shapes["conv1.module.4.1.running_mean"] == (32,)
    assert shapes["conv2.0.conv_x2h.module.0.weight"] == (4 * 64, 32, 3, 3)
    assert shapes["conv2.0.conv_x2h.module.1.weight"] == (4 * 64,)
    assert shapes["conv2.1.timepool.conv_h2h.weight"] == (4 * 128, 128, 3, 3)
    assert shapes["conv2.1.timepool.conv_h2h.bias"] == (4 * 128,)
    assert shapes["head.module.0.weight"] == (32, 128, 3, 3)
    assert shapes["head.module.2.weight"] == (4, 32, 3, 3)
    lenet = {name: tuple(value.shape) for name, value in LeNetClassifier(2, 6, 32, 4).state_dict().items()}
    assert lenet["lenet.module.0.0.weight"] == (6, 2, 5, 5)
    assert "lenet.module.0.0.bias" not in lenet
    assert lenet["lenet.module.4.0.weight"] == (120, 16, 5, 5)
    assert lenet["bottleneck_rnn.0.module.0.weight"] == (32, 120, 1, 1)
    assert lenet["bottleneck_rnn.1.conv_x2h.module.0.weight"] == (4 * 32, 32, 3, 3)
    assert lenet["bottleneck_rnn.1.timepool.conv_h2h.weight"] == (4 * 32, 32, 3, 3)
    assert lenet["bottleneck_rnn.2.module.0.weight"] == (120, 32, 1, 1)
    assert lenet["head.module.2.weight"] == (4, 32, 3, 3)


def test_layers_are_named_and_shaped_as_in_torchvision() -> None:
    mobile = {name: tuple(v.shape) for name, v in Mobilenetv2Classifier(cin=3, num_classes=1000).state_dict().items()}
    assert mobile["model.features.0.0.weight"] == (32, 3, 3, 3)
    assert mobile["model.features.1.conv.0.0.weight"] == (32, 1, 3, 3)
    assert mobile["model.features.1.conv.1.weight"] == (16, 32, 1, 1)
    assert mobile["model.features.2.conv.1.0.weight"] == (96, 1, 3, 3)
    assert mobile["model.features.17.conv.3.running_var"] == (320,)
    assert mobile["model.features.18.1.weight"] == (1280,)
    assert mobile["model.classifier.1.weight"] == (1000, 1280)
    squeeze = {name: tuple(v.shape) for name, v in SqueezenetClassifier(cin=3, num_classes=1000).state_dict().items()}
    assert squeeze["model.features.0.weight"] == (64, 3, 3, 3)
    assert squeeze["model.features.3.squeeze.weight"] == (16, 64, 1, 1)
    assert squeeze["model.features.12.expand3x3.weight"] == (256, 64, 3, 3)
    assert squeeze["model.classifier.1.bias"] == (1000,)


def test_numbers_of_parameters_are_those_that_torchvision_documents() -> None:
    """3,504,872 and 1,235,496: torchvision's model tables, for 3 input channels and 1,000 classes."""
    assert sum(p.numel() for p in Mobilenetv2Classifier(cin=3, num_classes=1000).parameters()) == 3_504_872
    assert sum(p.numel() for p in SqueezenetClassifier(cin=3, num_classes=1000).parameters()) == 1_235_496


def test_convolutional_lstm_equals_an_lstm_cell_on_one_pixel() -> None:
    """On a single pixel only the kernels' middles count, and the layer is torch's LSTMCell with other gate order."""
    torch.manual_seed(0)
    rnn = ConvRNNClassifier(1, 1, 4, 2).conv2[0].eval()
    channels = rnn.out_channels
    cell = nn.LSTMCell(4, channels)
    middle_x = rnn.conv_x2h.module[0].weight[:, :, 1, 1]
    middle_h = rnn.timepool.conv_h2h.weight[:, :, 1, 1]
    bias_x, bias_h = rnn.conv_x2h.module[0].bias, rnn.timepool.conv_h2h.bias
    scale = 1 / (1 + rnn.conv_x2h.module[1].eps) ** 0.5  # batch normalisation as it starts
    order = torch.cat([torch.arange(channels) + k * channels for k in (0, 1, 3, 2)])  # i, f, o, g -> i, f, g, o
    with torch.no_grad():
        cell.weight_ih.copy_(middle_x[order] * scale)
        cell.weight_hh.copy_(middle_h[order])
        cell.bias_ih.copy_(bias_x[order] * scale)
        cell.bias_hh.copy_(bias_h[order])
        x, h, c = torch.rand(3, 4), torch.rand(3, channels), torch.rand(3, channels)
        expected_h, expected_c = cell(x, (h, c))
        found_h, found_c = rnn.step(x[..., None, None], h[..., None, None], c[..., None, None])
    torch.testing.assert_close(found_h[..., 0, 0], expected_h)
    torch.testing.assert_close(found_c[..., 0, 0], expected_c)


@pytest.mark.parametrize(("model", "side"), [(LeNetClassifier(2), 48), (SqueezenetClassifier(2), 17)])
def test_smallest_frames(model: Classifier, side: int) -> None:
    model.eval()
    with torch.inference_mode():
        assert model(torch.rand(1, 1, 2, side, side)).shape == (1, 1, 2)
    with pytest.raises(UsageError, match=f"at least {side}×{side}"):
        model(torch.rand(1, 1, 2, side - 1, side))


def test_channels_that_are_no_multiple_of_the_frames_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot see 2 frames"):
        Mobilenetv2Classifier(cin=3, num_ev_reps=2)


@pytest.mark.parametrize(("channels", "rounded"), [(3, 8), (8, 8), (11, 16), (24, 24), (25, 24), (1, 8)])
def test_round_channels(channels: int, rounded: int) -> None:
    """10 % below is the limit: 11 would become 8, which is 27 % below, so it becomes 16."""
    assert round_channels(channels, 8) == rounded


def test_gradients_reach_every_parameter(case: tuple[Classifier, int, int]) -> None:
    model, height, width = case
    model.train()
    logits = model(torch.rand(5, 2, model.channels, height, width))
    nn.functional.cross_entropy(logits.flatten(0, 1), torch.arange(10) % 4).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
