"""Feed-forward classifiers as streaming ones: their memory is the last few frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgeclf.models.blocks import over_frames
from edgeclf.models.classifier import Classifier, State, StateSpec
from edgeclf_runtime.errors import UsageError


class FeedForwardClassifier(Classifier):
    """A network that sees `num_ev_reps` consecutive frames at once, stacked along the channels, oldest first.

    State: `history`, the last `num_ev_reps - 1` frames, `[B, (num_ev_reps - 1) * C, H, W]`, zeros before the first
    frame; none where `num_ev_reps` is 1.

    Args:
        model: Maps `[B, cin, H, W]` to logits `[B, K]`.
        cin: Channels that `model` takes, a multiple of `num_ev_reps`.
        num_classes: Number of outputs K.
        num_ev_reps: Frames that one prediction sees.

    Raises:
        UsageError: Where `cin` is no multiple of `num_ev_reps`.
    """

    def __init__(self, model: nn.Module, cin: int, num_classes: int, num_ev_reps: int = 1) -> None:
        super().__init__()
        if num_ev_reps < 1 or cin % num_ev_reps:
            raise UsageError(
                f"A network of {cin} input channels cannot see {num_ev_reps} frames at once: "
                "cin must be num_ev_reps times the channels of a frame."
            )
        self.model = model
        self.channels = cin // num_ev_reps
        self.num_classes = num_classes
        self.num_ev_reps = num_ev_reps

    def state_spec(self, height: int, width: int) -> StateSpec:
        """Returns names and shapes of the state; see `Classifier.state_spec`."""
        if self.num_ev_reps == 1:
            return {}
        return {"history": ((self.num_ev_reps - 1) * self.channels, height, width)}

    def unroll(self, x: Tensor, state: State, present: Tensor | None = None) -> tuple[Tensor, State]:
        """Runs over a sequence; see `Classifier.unroll`."""
        steps = x.shape[0]
        windows = x
        if self.num_ev_reps > 1:
            frames = self._with_history(x, state)
            windows = torch.cat([frames[k : k + steps] for k in range(self.num_ev_reps)], dim=2)
        return over_frames(self.model, windows, present), self.remember(x, state)

    def remember(self, x: Tensor, state: State) -> State:
        """Returns the state after frames `[T, B, C, H, W]`, without running the network on them."""
        if self.num_ev_reps == 1:
            return {}
        return {"history": self._with_history(x, state)[x.shape[0] :].transpose(0, 1).flatten(1, 2)}

    def _with_history(self, x: Tensor, state: State) -> Tensor:
        """Returns frames `[T, B, C, H, W]` after the last `num_ev_reps - 1` before them."""
        past = state["history"].reshape(x.shape[1], self.num_ev_reps - 1, *x.shape[2:]).transpose(0, 1)
        return torch.cat([past, x])

    def step(self, frame: Tensor, state: State) -> tuple[Tensor, State]:
        """Runs on one frame a stream; see `Classifier.step`."""
        if self.num_ev_reps == 1:
            return self.model(frame), {}
        window = torch.cat([state["history"], frame], dim=1)
        return self.model(window), {"history": window[:, self.channels :]}
