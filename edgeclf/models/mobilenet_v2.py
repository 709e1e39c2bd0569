"""MobileNetV2 (Sandler et al. 2018), layers named as in torchvision's implementation, so that checkpoints load."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from edgeclf.models.feed_forward import FeedForwardClassifier

# Table 2 of the paper: expansion factor, output channels, repeats, stride of the first repeat.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def round_channels(channels: float, multiple: int) -> int:
    """Returns the nearest multiple of `multiple`, at least `multiple`, and never more than 10 % below `channels`."""
    rounded = max(multiple, int(channels + multiple / 2) // multiple * multiple)
    return rounded + multiple if rounded < 0.9 * channels else rounded


def _conv_bn_relu6(cin: int, cout: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(cin, cout, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, linear projection; added to the input where the shapes agree."""

    def __init__(self, cin: int, cout: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = cin * expansion
        expand = [] if expansion == 1 else [_conv_bn_relu6(cin, hidden, kernel=1)]
        self.conv = nn.Sequential(
            *expand,
            _conv_bn_relu6(hidden, hidden, stride=stride, groups=hidden),
            nn.Conv2d(hidden, cout, 1, bias=False),
            nn.BatchNorm2d(cout),
        )
        self.adds_input = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[B, cin, H, W]` to `[B, cout, H/stride, W/stride]`."""
        out: Tensor = self.conv(x)
        return x + out if self.adds_input else out


class MobileNetV2(nn.Module):
    """The network: `[B, cin, H, W]` to logits `[B, num_classes]`."""

    def __init__(self, cin: int, num_classes: int, width_mul: float, round_nearest: int) -> None:
        super().__init__()
        channels = round_channels(32 * width_mul, round_nearest)
        features: list[nn.Module] = [_conv_bn_relu6(cin, channels, stride=2)]
        for expansion, width, repeats, stride in _STAGES:
            out = round_channels(width * width_mul, round_nearest)
            for repeat in range(repeats):
                features.append(InvertedResidual(channels, out, stride if repeat == 0 else 1, expansion))
                channels = out
        last = round_channels(1280 * max(1.0, width_mul), round_nearest)
        features.append(_conv_bn_relu6(channels, last, kernel=1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[B, cin, H, W]` to logits `[B, num_classes]`."""
        logits: Tensor = self.classifier(self.features(x).mean((-2, -1)))
        return logits


class Mobilenetv2Classifier(FeedForwardClassifier):
    """MobileNetV2 on event frames; see `FeedForwardClassifier` for its memory.

    Args:
        cin: Channels of the first convolution: `num_ev_reps` times the channels of a frame.
        width_mul: Multiplies the width of every layer.
        num_classes: Number of outputs.
        round_nearest: Widths are rounded to a multiple of this.
        **kwargs: `num_ev_reps` (default 1), frames that one prediction sees; others are accepted and unused, as
            in the reference API.
    """

    def __init__(
        self,
        cin: int = 2,
        width_mul: float = 1.0,
        num_classes: int = 2,
        round_nearest: int = 8,
        **kwargs: Any,
    ) -> None:
        model = MobileNetV2(cin, num_classes, width_mul, round_nearest)
        super().__init__(model, cin, num_classes, int(kwargs.get("num_ev_reps", 1)))
