"""A step graph in PyTorch, in whichever of its formats, as a step on arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from edgeclf_runtime.golden import Array, Step


def step_of(module: Callable[..., Sequence[Tensor]]) -> Step:
    """Returns the step of a module on the CPU that takes and gives tensors by position, in the contract's order."""

    def step(inputs: Sequence[Array]) -> list[Array]:
        with torch.inference_mode():  # on copies: an output may be a view of an input
            outputs = module(*(torch.tensor(value) for value in inputs))
        return [value.numpy() for value in outputs]

    return step
