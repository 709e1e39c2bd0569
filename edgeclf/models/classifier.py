"""What every classifier here is: a pure function of event frames and state."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

State = dict[str, Tensor]
"""The memory of a batch of streams: state tensors by name, each `[B, ...]`. Empty for a model without memory."""

StateSpec = dict[str, tuple[int, ...]]
"""Names and shapes of the state tensors, without the batch axis."""


class Classifier(nn.Module, ABC):
    """Base class of the classifiers: no module keeps a hidden tensor, memory goes in and comes out.

    Attributes:
        channels: Channels of one event frame.
        num_classes: Number of outputs K.
    """

    channels: int
    num_classes: int

    @abstractmethod
    def state_spec(self, height: int, width: int) -> StateSpec:
        """Returns the names and shapes (without the batch axis) of the state for frames of `height` × `width`.

        Raises:
            UsageError: Where frames of this size are too small for the model.
        """

    @abstractmethod
    def unroll(self, x: Tensor, state: State, present: Tensor | None = None) -> tuple[Tensor, State]:
        """Runs over a sequence of frames.

        Args:
            x: Event frames, float `[T, B, C, H, W]`.
            state: The state before the first frame.
            present: bool `[T, B]`, False for frames that only fill the batch up after a recording's end. Batch
                normalisation does not see them; their logits, and the state of a row that ends with them, say nothing.
                None: all frames are there.

        Returns:
            Logits `[T, B, K]` and the state after the last frame. Equal to T calls of `step` in evaluation mode,
            to float32 rounding; in training mode batch normalisation sees all T·B frames at once.
        """

    @abstractmethod
    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Runs on one frame a stream, `[B, C, H, W]`; returns logits `[B, K]` and the next state."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits `[T, B, K]` for frames `[T, B, C, H, W]`, starting from zero state."""
        return self.unroll(x, self.initial_state(x.shape[1], x.shape[-2], x.shape[-1]))[0]

    def initial_state(self, batch_size: int, height: int, width: int) -> State:
        """Returns the zero state for `batch_size` streams, on the model's device and in its precision."""
        weight = next(self.parameters())
        return {
            name: torch.zeros(batch_size, *shape, dtype=weight.dtype, device=weight.device)
            for name, shape in self.state_spec(height, width).items()
        }


def mask_state(state: State, keep: Tensor) -> State:
    """Returns `state` with the memory of the streams for which `keep` (`[B]` or `[B, 1, 1, 1]`) is 0 set to zero."""
    flat = keep.reshape(-1)
    return {name: value * flat.view(-1, *[1] * (value.dim() - 1)) for name, value in state.items()}


def detach_state(state: State) -> State:
    """Returns `state` cut off from the graph that made it (truncated back-propagation through time)."""
    return {name: value.detach() for name, value in state.items()}
