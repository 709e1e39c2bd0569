"""The layers that the recurrent classifiers are made of, named as Metavision names them in its checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvLayer(nn.Sequential):
    """Convolution, batch normalisation, activation: `0`, `1` and `2` in a checkpoint."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        bias: bool = True,
        activation: type[nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=bias),
            nn.BatchNorm2d(out_channels),
            activation(),
        )


def over_frames(module: nn.Module, x: Tensor, present: Tensor | None = None) -> Tensor:
    """Returns what a module makes of the frames of sequences, all at once.

    Args:
        module: Maps `[N, ...]` to `[N, ...]`.
        x: `[T, B, ...]`.
        present: bool `[T, B]`; what is not stays out of the module, and is 0 in the result. None: all are.
    """
    if present is None:
        out: Tensor = module(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return out
    mapped: Tensor = module(x[present])
    return mapped.new_zeros(*x.shape[:2], *mapped.shape[1:]).index_put((present,), mapped)


class SequenceWise(nn.Module):
    """Applies a module to every frame of a sequence at once, by folding time into the batch axis."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Maps `[T, B, ...]` to `[T, B, ...]`; see `over_frames`."""
        return over_frames(self.module, x, present)

    def step(self, frame: Tensor) -> Tensor:
        """Maps `[B, ...]` to `[B, ...]`."""
        out: Tensor = self.module(frame)
        return out


class ConvLSTMCell(nn.Module):
    """The recurrent half of a convolutional LSTM (Shi et al. 2015, without peepholes).

    The gates come out of one convolution in the order input, forget, output, cell.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_h2h = nn.Conv2d(channels, 4 * channels, kernel_size=3, padding=1, bias=True)

    def forward(self, gates_of_x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the next `h` and `c`, each `[B, channels, H, W]`."""
        gate_i, gate_f, gate_o, gate_c = (gates_of_x + self.conv_h2h(h)).chunk(4, dim=1)
        c = torch.sigmoid(gate_f) * c + torch.sigmoid(gate_i) * torch.tanh(gate_c)
        h = torch.sigmoid(gate_o) * torch.tanh(c)
        return h, c


class ConvRNN(nn.Module):
    """A convolutional LSTM layer: a strided convolution of the frame and a convolution of the hidden state."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.stride = stride
        self.conv_x2h = SequenceWise(ConvLayer(in_channels, 4 * out_channels, stride=stride, activation=nn.Identity))
        self.timepool = ConvLSTMCell(out_channels)

    def state_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Returns the shape of `h` and of `c` for inputs of `height` × `width`, without the batch axis."""
        return (self.out_channels, -(-height // self.stride), -(-width // self.stride))

    def forward(self, x: Tensor, h: Tensor, c: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Maps `[T, B, in_channels, H, W]` and the state to `[T, B, out_channels, H', W']` and the next state."""
        outputs = []
        for gates_of_x in self.conv_x2h(x, present).unbind(0):
            h, c = self.timepool(gates_of_x, h, c)
            outputs.append(h)
        return torch.stack(outputs), h, c

    def step(self, frame: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Maps one frame a stream, `[B, in_channels, H, W]`, and the state to the next `h` (the output) and `c`."""
        next_h, next_c = self.timepool(self.conv_x2h.step(frame), h, c)
        return next_h, next_c
