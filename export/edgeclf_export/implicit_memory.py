"""A classifier that keeps its memory itself from call to call, as programs written for Metavision expect it."""

# No `from __future__ import annotations`: scripting reads the types of a class's attributes, and there takes no text.

import copy

import torch
from torch import Tensor, nn

from edgeclf.models import Classifier
from edgeclf.models.feed_forward import FeedForwardClassifier
from edgeclf_export.step_graph import fold_batch_norm
from edgeclf_export.torchscript_file import making_torchscript
from edgeclf_runtime.contract import Contract


class ImplicitMemory(nn.Module):
    """A classifier's step in a loop over time, and the memory between calls. Made to be scripted; see `scripted`.

    What can be called, and what it does, is what Metavision's exported classifiers have: `forward`, `get_probas`,
    `reset` and `reset_all`, whatever the model.

    Args:
        step: A traced `_Step`.
        channels: Channels of each state tensor.
        keeps_frames: Whether it is a feed-forward model, whose memory is frames; else memory is feature maps.
    """

    memory: list[Tensor]
    frame_size: list[int]
    channels: list[int]

    def __init__(self, step: nn.Module, channels: list[int], keeps_frames: bool) -> None:
        super().__init__()
        self.step = step
        self.channels = channels
        self.keeps_frames = keeps_frames
        # Empty: zero, for whatever comes. So a saved file always starts from zero.
        self.memory = []
        self.frame_size = [0, 0, 0]

    def forward(self, x: Tensor) -> Tensor:
        """Maps frames `[T, B, C, H, W]` to logits `[T, B, K]` and moves the memory on by T frames.

        The memory starts from zero where B, H or W are others than in the call before. Feed-forward models also take
        windows `[B, num_ev_reps * C, H, W]`, for which they give logits `[B, K]` and leave the memory alone.
        """
        if x.dim() == 4 and self.keeps_frames:
            past = sum(self.channels)
            window = [x[:, past:], x[:, :past]] if past > 0 else [x]
            values: list[Tensor] = self.step(window)
            return values[0]
        assert x.dim() == 5, "this classifier takes frames [T, B, C, H, W]"
        size = [x.size(1), x.size(3), x.size(4)]
        if self.frame_size != size or len(self.memory) == 0:
            self.frame_size = size
            self.memory = self._zeros(x)
        logits: list[Tensor] = []
        for frame in x.unbind(0):
            # The module may have been moved to another device or precision, which moves only what are parameters.
            values = self.step([frame] + [value.to(frame) for value in self.memory])
            logits.append(values[0])
            self.memory = [value.detach() for value in values[1:]]
        return torch.stack(logits)

    @torch.jit.export
    def get_probas(self, x: Tensor) -> Tensor:
        """Maps what `forward` takes to probabilities, and moves the memory on as `forward` does."""
        return self.forward(x).softmax(dim=-1)

    @torch.jit.export
    def reset(self, mask: Tensor = torch.zeros((1,))) -> None:  # noqa: B008
        """Keeps the memory of the streams for which `mask` (`[B]` or `[B, 1, 1, 1]`) is 1, clears it where it is 0.

        A mask of another length than B leaves the memory alone, as in Metavision.
        """
        if len(self.memory) > 0 and len(mask) == self.frame_size[0]:
            keep = mask.reshape(-1, 1, 1, 1)
            self.memory = [value * keep.to(value) for value in self.memory]

    @torch.jit.export
    def reset_all(self) -> None:
        """Clears the memory of all streams."""
        empty: list[Tensor] = []
        self.memory = empty

    def _zeros(self, x: Tensor) -> list[Tensor]:
        """Returns the zero memory for frames `[T, B, C, H, W]`.

        One pixel stands for a whole feature map of zeros: what a convolution makes of either is its bias everywhere,
        and broadcasting does the rest, whatever the size of the frames.
        """
        height, width = (x.size(3), x.size(4)) if self.keeps_frames else (1, 1)
        return [torch.zeros([x.size(1), channels, height, width]).to(x) for channels in self.channels]


class _Step(nn.Module):
    """A classifier's step from a list to a list, which tracing takes whatever the number of state tensors."""

    def __init__(self, classifier: Classifier, contract: Contract) -> None:
        super().__init__()
        self.classifier = fold_batch_norm(copy.deepcopy(classifier).eval()).requires_grad_(False)
        self.names = [tensor.name for tensor in contract.state]
        self.eval()

    def forward(self, values: list[Tensor]) -> list[Tensor]:
        """Maps a frame a stream, `[B, C, H, W]`, and the state to logits `[B, K]` and the next state."""
        logits, after = self.classifier.step(values[0], dict(zip(self.names, values[1:], strict=True)))
        return [logits, *(after[name] for name in self.names)]


def scripted(classifier: Classifier, contract: Contract) -> torch.jit.ScriptModule:
    """Returns a classifier with its memory inside as TorchScript: the traced step in a scripted loop.

    Batch normalisation is folded into the convolutions before it. The classifier given is left as it is.

    Args:
        classifier: The trained classifier.
        contract: Its frames and state.
    """
    frames = torch.zeros(2, *contract.frame_shape)
    state = [torch.zeros(2, *tensor.shape) for tensor in contract.state]
    with making_torchscript(), torch.no_grad():
        step = torch.jit.trace(  # type: ignore[no-untyped-call]
            _Step(classifier, contract), ([frames, *state],), check_trace=False, strict=False
        )
        channels = [tensor.shape[0] for tensor in contract.state]
        whole = ImplicitMemory(step, channels, isinstance(classifier, FeedForwardClassifier))
        script: torch.jit.ScriptModule = torch.jit.script(whole.eval())
    return script
