"""SqueezeNet 1.1 (Iandola et al. 2016), layers named as in torchvision's implementation, so that checkpoints load."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeclf.models.classifier import StateSpec
from edgeclf.models.feed_forward import FeedForwardClassifier
from edgeclf_runtime.errors import UsageError

SMALLEST_SIDE = 17
"""A 3×3 convolution of stride 2 and three 3×3 poolings of stride 2 (rounding up) leave 1 pixel of 17."""


class Fire(nn.Module):
    """A 1×1 convolution that squeezes, and 1×1 and 3×3 convolutions that expand, side by side."""

    def __init__(self, cin: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(cin, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[B, cin, H, W]` to `[B, 2 * expand, H, W]`."""
        x = functional.relu(self.squeeze(x))
        return torch.cat([functional.relu(self.expand1x1(x)), functional.relu(self.expand3x3(x))], dim=1)


class SqueezeNet(nn.Module):
    """The network: `[B, cin, H, W]` to logits `[B, num_classes]`."""

    def __init__(self, cin: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(cin, 64, 3, stride=2),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(64, 16, 64),
            Fire(128, 16, 64),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(128, 32, 128),
            Fire(256, 32, 128),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            Fire(256, 48, 192),
            Fire(384, 48, 192),
            Fire(384, 64, 256),
            Fire(512, 64, 256),
        )
        final = nn.Conv2d(512, num_classes, 1)
        self.classifier = nn.Sequential(nn.Dropout(0.5), final, nn.ReLU())
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:  # all of them have one
                if module is final:
                    nn.init.normal_(module.weight, 0.0, 0.01)
                    # The ReLU after it lets no gradient through a class whose output falls below 0: from a bias of 0,
                    # half of N-MNIST's classes were never learnt.
                    nn.init.ones_(module.bias)
                else:
                    nn.init.kaiming_uniform_(module.weight)
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Maps `[B, cin, H, W]` to logits `[B, num_classes]`."""
        maps: Tensor = self.classifier(self.features(x))
        return maps.mean((-2, -1))


class SqueezenetClassifier(FeedForwardClassifier):
    """SqueezeNet 1.1 on event frames; see `FeedForwardClassifier` for its memory.

    Args:
        cin: Channels of the first convolution: `num_ev_reps` times the channels of a frame.
        num_classes: Number of outputs.
        **kwargs: `num_ev_reps` (default 1), frames that one prediction sees; others are accepted and unused, as
            in the reference API.
    """

    def __init__(self, cin: int = 2, num_classes: int = 2, **kwargs: Any) -> None:
        super().__init__(SqueezeNet(cin, num_classes), cin, num_classes, int(kwargs.get("num_ev_reps", 1)))

    def state_spec(self, height: int, width: int) -> StateSpec:
        """Returns names and shapes of the state; see `Classifier.state_spec`."""
        if min(height, width) < SMALLEST_SIDE:
            raise UsageError(
                f"Frames of {height}×{width} (height × width) are too small for SqueezeNet, which needs at least "
                f"{SMALLEST_SIDE}×{SMALLEST_SIDE}: make the data set with larger frames (--height-width)."
            )
        return super().state_spec(height, width)
