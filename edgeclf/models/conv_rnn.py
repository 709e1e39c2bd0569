"""ConvRNN: five convolutions, two convolutional LSTM layers, a convolutional head."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from edgeclf.models.blocks import ConvLayer, ConvRNN, SequenceWise
from edgeclf.models.classifier import Classifier, State, StateSpec


class ConvRNNClassifier(Classifier):
    """ConvRNN classifier: a light feed-forward stem and a convolutional LSTM (Metavision ML's default).

    State: `conv2.0.h`, `conv2.0.c`, `conv2.1.h`, `conv2.1.c`.

    Args:
        cin: Channels of an event frame.
        base: Width of the first block; the others are multiples of it.
        cout: Channels inside the head.
        num_classes: Number of outputs, background included.
    """

    def __init__(self, cin: int = 1, base: int = 16, cout: int = 256, num_classes: int = 2) -> None:
        super().__init__()
        self.channels = cin
        self.num_classes = num_classes
        self.conv1 = SequenceWise(
            nn.Sequential(
                ConvLayer(cin, base, stride=1),
                ConvLayer(base, 2 * base, stride=2),
                ConvLayer(2 * base, 2 * base, stride=1),
                ConvLayer(2 * base, 4 * base, stride=2),
                ConvLayer(4 * base, 4 * base, stride=1),
            )
        )
        self.conv2 = nn.ModuleList([ConvRNN(4 * base, 8 * base, stride=2), ConvRNN(8 * base, 16 * base, stride=2)])
        self.head = SequenceWise(
            nn.Sequential(
                nn.Conv2d(16 * base, cout, kernel_size=3, padding=1),
                nn.ReLU(),
                nn.Conv2d(cout, num_classes, kernel_size=3, padding=1),
            )
        )

    def state_spec(self, height: int, width: int) -> StateSpec:
        """Returns names and shapes of the state; see `Classifier.state_spec`."""
        # Two of the five blocks halve the frame, rounding up.
        height, width = -(-height // 4), -(-width // 4)
        spec: StateSpec = {}
        for i, layer in enumerate(self._layers()):
            shape = layer.state_shape(height, width)
            spec[f"conv2.{i}.h"] = spec[f"conv2.{i}.c"] = shape
            _, height, width = shape
        return spec

    def unroll(self, x: Tensor, state: State, present: Tensor | None = None) -> tuple[Tensor, State]:
        """Runs over a sequence; see `Classifier.unroll`."""
        x = self.conv1(x, present)
        after: State = {}
        for i, layer in enumerate(self._layers()):
            x, h, c = layer(x, state[f"conv2.{i}.h"], state[f"conv2.{i}.c"], present)
            after[f"conv2.{i}.h"], after[f"conv2.{i}.c"] = h, c
        return self.head(x, present).mean((-2, -1)), after

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Runs on one frame a stream; see `Classifier.step`."""
        x = self.conv1.step(frame)
        after: State = {}
        for i, layer in enumerate(self._layers()):
            x, c = layer.step(x, state[f"conv2.{i}.h"], state[f"conv2.{i}.c"])
            after[f"conv2.{i}.h"], after[f"conv2.{i}.c"] = x, c
        return self.head.step(x).mean((-2, -1)), after

    def _layers(self) -> list[ConvRNN]:
        return [cast("ConvRNN", layer) for layer in self.conv2]
