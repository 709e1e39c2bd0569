"""What the tests of several formats share: a format's file beside the classifier in PyTorch, and beside itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf.models import Classifier
from edgeclf_export.formats import ExportFormat, ExportOptions
from edgeclf_export.step_graph import StepGraph, contract_of
from edgeclf_runtime.backends.torchscript import TorchBackend
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.golden import Step
from edgeclf_runtime.precision import Precision

EXPORT = """
import sys
from pathlib import Path
from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.formats import FORMATS, ExportJob, ExportOptions
from edgeclf_export.step_graph import contract_of

format_ = FORMATS[sys.argv[1]]
for checkpoint in reversed(sys.argv[2:]):
    loaded = load_checkpoint(Path(checkpoint))
    classifier = loaded.build_model()
    contract = format_.contract(contract_of(loaded, classifier), ExportOptions())
    format_.write(ExportJob(classifier, contract), Path(Path(checkpoint).stem + format_.suffix))
"""
"""A program that writes checkpoints in a format into its own folder: arguments are the format and the checkpoints."""


def written_elsewhere(format_: ExportFormat, checkpoints: Iterable[Path], folder: Path) -> Path:
    """The same checkpoints written in another order, under other names, by another process in another folder."""
    command = [sys.executable, "-W", "error", "-c", EXPORT, format_.name, *(str(path) for path in checkpoints)]
    subprocess.run(command, cwd=folder, check=True)
    return folder


def job_of(
    format_: ExportFormat, checkpoint: Path, precision: Precision = "fp32", options: ExportOptions | None = None
) -> tuple[Classifier, Contract]:
    """The classifier of a checkpoint, and what a file of it in a format says."""
    loaded = load_checkpoint(checkpoint)
    classifier = loaded.build_model()
    contract = replace(contract_of(loaded, classifier), precision=precision)
    return classifier, format_.contract(contract, options or ExportOptions())


def step_in_pytorch(classifier: Classifier, contract: Contract) -> Step:
    """The step that PyTorch itself computes."""
    return TorchBackend(StepGraph(classifier, contract), contract, "cpu", "the step graph").run


def inputs_of_a_step(contract: Contract, batch: int, seed: int = 0) -> list[np.ndarray]:
    """Frames, a stream of every three that starts anew, and a state that is not zero."""
    rng = np.random.default_rng(seed)
    keep = [np.arange(batch) % 3 != 1] if contract.state else []
    state = [rng.standard_normal((batch, *tensor.shape)).astype(contract.state_type) for tensor in contract.state]
    frames = rng.random((batch, *contract.frame_shape))
    return [*(value.astype(contract.edge_type) for value in (frames, *keep)), *state]


def step_of_pytorch(classifier: Classifier, contract: Contract, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The classifier's own step in float32, on a state that was cleared row by row."""
    frames, *memory = (torch.tensor(value, dtype=torch.float32) for value in inputs)
    state = dict(zip([tensor.name for tensor in contract.state], memory[1:], strict=True))
    for value in state.values():
        for k, kept in enumerate(memory[0]):
            if not kept:
                value[k] = 0.0
    with torch.inference_mode():
        logits, after = classifier.step(frames, state)
    return [value.numpy() for value in (logits, logits.softmax(1), *(after[tensor.name] for tensor in contract.state))]


def assert_one_step_equals_pytorch(step: Step, contract: Contract, classifier: Classifier, batch: int) -> None:
    inputs = inputs_of_a_step(contract, batch)
    expected = step_of_pytorch(classifier, contract, inputs)
    for name, value, right in zip(contract.output_names, step(inputs), expected, strict=True):
        np.testing.assert_allclose(value, right, atol=1e-5, rtol=1e-4, err_msg=name)


def assert_chained_steps_equal_whole_sequences(step: Step, contract: Contract, classifier: Classifier) -> None:
    rng = np.random.default_rng(1)
    frames = (rng.random((12, 2, *contract.frame_shape)) < 0.1).astype(np.float32)
    state = [np.zeros((2, *tensor.shape), np.float32) for tensor in contract.state]
    found = []
    for k, frame in enumerate(frames):
        keep = [np.array([1.0, k != 7], np.float32)] if contract.state else []  # the second stream starts anew at 7
        logits, _, *state = step([frame, *keep, *state])
        found.append(logits)
    with torch.inference_mode():
        first = classifier(torch.from_numpy(frames[:, :1]))
        second = torch.cat([classifier(torch.from_numpy(part)) for part in (frames[:7, 1:], frames[7:, 1:])])
    np.testing.assert_allclose(np.stack(found), torch.cat([first, second], dim=1).numpy(), atol=1e-5, rtol=1e-4)
