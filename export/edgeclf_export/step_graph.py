"""The step graph: one frame a stream and the state in, logits, probabilities and the next state out."""

from __future__ import annotations

import copy
import importlib.metadata

import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgeclf.checkpoint import Checkpoint
from edgeclf.models import Classifier, mask_state
from edgeclf_runtime.contract import Contract, StateTensor
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.preprocessing import canonical_arguments

_VERSIONS_OF = ("edgeclf", "torch", "onnx", "onnxscript")


class StepGraph(nn.Module):
    """A classifier's `step` with positional inputs, in the order of the contract's names.

    Batch normalisation is folded into the convolutions before it. The classifier given is left as it is.

    Args:
        classifier: The trained classifier.
        contract: What the file will say: its state and types, and whether it has `keep_memory`.
    """

    def __init__(self, classifier: Classifier, contract: Contract) -> None:
        super().__init__()
        self.contract = contract
        self.edge_type, self.state_type = (getattr(torch, kind) for kind in (contract.edge_type, contract.state_type))
        self.classifier = fold_batch_norm(copy.deepcopy(classifier).eval()).to(self.state_type)
        self.names = [tensor.name for tensor in contract.state]
        self.eval()

    def forward(self, frames: Tensor, *memory: Tensor) -> tuple[Tensor, ...]:
        """Maps frames `[B, C, H, W]` (and `keep_memory` `[B]` and the state) to logits, probabilities, next state."""
        keep, values = memory[: len(memory) - len(self.names)], memory[len(memory) - len(self.names) :]
        state = dict(zip(self.names, values, strict=True))
        if keep:
            state = mask_state(state, keep[0].to(self.state_type))
        logits, after = self.classifier.step(frames.to(self.state_type), state)
        logits = logits.to(self.edge_type)
        return (logits, logits.softmax(dim=1), *(after[name] for name in self.names))

    def example_inputs(self, batch: int) -> tuple[Tensor, ...]:
        """Returns inputs of the right shapes and types for `batch` streams: zeros, memory kept."""
        frames = torch.zeros(batch, *self.contract.frame_shape, dtype=self.edge_type)
        keep = [torch.ones(batch, dtype=self.edge_type)] if self.names and self.contract.keep_memory else []
        state = [torch.zeros(batch, *tensor.shape, dtype=self.state_type) for tensor in self.contract.state]
        return (frames, *keep, *state)


def fold_batch_norm(module: Classifier) -> Classifier:
    """Folds every batch normalisation that follows a convolution in a `Sequential` into it, in place."""
    for layers in module.modules():
        if not isinstance(layers, nn.Sequential):
            continue
        for i in range(len(layers) - 1):
            convolution, norm = layers[i], layers[i + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                layers[i] = fuse_conv_bn_eval(convolution, norm)
                layers[i + 1] = nn.Identity()
    return module


def contract_of(checkpoint: Checkpoint, classifier: Classifier) -> Contract:
    """Returns the contract of a checkpoint's step graph in fp32, without an opset.

    Raises:
        UsageError: Where the classifier takes frames that do not end by time.
    """
    hyper = checkpoint.hyperparameters
    if hyper.mode != "delta_t":
        raise UsageError(
            f"{checkpoint.path}: it was trained on frames of {hyper.n_events} events each, and the contract of an "
            "exported model knows frames of one duration only; train on a data set made with --mode delta_t."
        )
    return Contract(
        architecture=hyper.models,
        labels=hyper.labels,
        delta_t=hyper.delta_t,
        preprocess=hyper.preprocess,
        preprocess_kwargs=canonical_arguments(hyper.preprocess, hyper.preprocess_kwargs),
        sensor_size=hyper.sensor_size,
        frame_shape=(classifier.channels, hyper.height, hyper.width),
        state=tuple(
            StateTensor(name, shape) for name, shape in classifier.state_spec(hyper.height, hyper.width).items()
        ),
        precision="fp32",
        opset=None,
        versions={
            **{package: importlib.metadata.version(package) for package in _VERSIONS_OF},
            "onnxruntime": onnxruntime.__version__,  # its wheel has one of several names
        },
        checkpoint_sha256=checkpoint.sha256,
    )
