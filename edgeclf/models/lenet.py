"""LeNet with a recurrent bottleneck."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from edgeclf.models.blocks import ConvLayer, ConvRNN, SequenceWise
from edgeclf.models.classifier import Classifier, State, StateSpec
from edgeclf_runtime.errors import UsageError

SMALLEST_SIDE = 48
"""Three 5×5 convolutions without padding, two halvings and two 3×3 convolutions leave 1 pixel of 48."""


class LeNetClassifier(Classifier):
    """LeNet (LeCun et al. 1998) with a convolutional LSTM of 32 channels around which its features are passed on.

    State: `bottleneck_rnn.1.h`, `bottleneck_rnn.1.c`.

    Args:
        cin: Channels of an event frame.
        base: Kept for the reference API; the widths of LeNet are fixed (6, 16, 120).
        cout: Channels inside the head.
        num_classes: Number of outputs, background included.
    """

    def __init__(self, cin: int = 1, base: int = 6, cout: int = 256, num_classes: int = 2) -> None:
        super().__init__()
        self.channels = cin
        self.base = base
        self.num_classes = num_classes
        self.lenet = SequenceWise(
            nn.Sequential(
                ConvLayer(cin, 6, kernel_size=5, padding=0, bias=False),
                nn.AvgPool2d(2),
                ConvLayer(6, 16, kernel_size=5, padding=0, bias=False),
                nn.AvgPool2d(2),
                ConvLayer(16, 120, kernel_size=5, padding=0, bias=False),
            )
        )
        self.bottleneck_rnn = nn.ModuleList(
            [
                SequenceWise(ConvLayer(120, 32, kernel_size=1, padding=0)),
                ConvRNN(32, 32),
                SequenceWise(ConvLayer(32, 120, kernel_size=1, padding=0)),
            ]
        )
        self.head = SequenceWise(
            nn.Sequential(nn.Conv2d(120, cout, kernel_size=3), nn.ReLU(), nn.Conv2d(cout, num_classes, kernel_size=3))
        )

    def state_spec(self, height: int, width: int) -> StateSpec:
        """Returns names and shapes of the state; see `Classifier.state_spec`."""
        if min(height, width) < SMALLEST_SIDE:
            raise UsageError(
                f"Frames of {height}×{width} (height × width) are too small for LeNet, which needs at least "
                f"{SMALLEST_SIDE}×{SMALLEST_SIDE}: make the data set with larger frames (--height-width), "
                "or train ConvRNN."
            )
        side = [(((n - 4) // 2) - 4) // 2 - 4 for n in (height, width)]
        shape = self._rnn().state_shape(side[0], side[1])
        return {"bottleneck_rnn.1.h": shape, "bottleneck_rnn.1.c": shape}

    def unroll(self, x: Tensor, state: State, present: Tensor | None = None) -> tuple[Tensor, State]:
        """Runs over a sequence; see `Classifier.unroll`."""
        features = self.lenet(x, present)
        squeeze, _, expand = self.bottleneck_rnn
        before = (state["bottleneck_rnn.1.h"], state["bottleneck_rnn.1.c"])
        y, h, c = self._rnn()(squeeze(features, present), *before, present)
        logits = self.head(features + expand(y, present), present).mean((-2, -1))
        return logits, {"bottleneck_rnn.1.h": h, "bottleneck_rnn.1.c": c}

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Runs on one frame a stream; see `Classifier.step`."""
        features = self.lenet.step(frame)
        squeeze, _, expand = (cast("SequenceWise", layer) for layer in self.bottleneck_rnn)
        h, c = self._rnn().step(squeeze.step(features), state["bottleneck_rnn.1.h"], state["bottleneck_rnn.1.c"])
        logits = self.head.step(features + expand.step(h)).mean((-2, -1))
        return logits, {"bottleneck_rnn.1.h": h, "bottleneck_rnn.1.c": c}

    def _rnn(self) -> ConvRNN:
        return cast("ConvRNN", self.bottleneck_rnn[1])
