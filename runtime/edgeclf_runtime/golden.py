"""Golden vectors: a short sequence of inputs, and what a model must make of it on whatever machine it runs.

They stand beside the model as `NAME.golden.npz`, an archive of arrays under the names of the graph's inputs and
outputs: every input but the state, and `logits` and `probabilities`, with a leading axis of steps; and the state after
the last step under its `next_state.*`. The state is zero before the first step. What is right was computed by PyTorch
in float64. `tolerance.max_absolute` and `tolerance.relative` say what is let through; see `precision`.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.comparison import Comparer, Comparison
from edgeclf_runtime.contract import KEEP_MEMORY, LOGITS, PROBABILITIES, Contract
from edgeclf_runtime.errors import CheckFailedError, InputFileError
from edgeclf_runtime.precision import PRECISIONS

Array = NDArray[Any]
Step = Callable[[Sequence[Array]], Sequence[Array]]
"""Runs a model once: the contract's inputs in order, to its outputs in order."""

GoldenVectors = Mapping[str, Array]


class ChainedStep:
    """An exported step and the state of its streams.

    Args:
        step: The loaded file.
        contract: What is inside it.
        batch: Number of streams.
    """

    def __init__(self, step: Step, contract: Contract, batch: int) -> None:
        self._step = step
        self._contract = contract
        self._state: Sequence[Array] = [np.zeros((batch, *s.shape), contract.state_type) for s in contract.state]

    def __call__(self, first: Array, keep: Array) -> Sequence[Array]:
        """Runs one step: frames `[B, C, H, W]` (or events), and `keep` `[B]`, 0 where a stream starts anew."""
        contract = self._contract
        given = [first.astype(contract.edge_type, copy=False) if first.dtype.kind == "f" else first]
        if contract.state and contract.keep_memory:
            given.append(keep.astype(contract.edge_type))
        elif not keep.all():  # who keeps the state for such a graph starts it at zero
            self._state = [np.where(keep.reshape(-1, *[1] * (s.ndim - 1)) > 0, s, s.dtype.type(0)) for s in self._state]
        outputs = self._step([*given, *self._state])
        self._state = outputs[2:]
        return outputs


def golden_path(model: str | Path) -> Path:
    """Returns where a model's golden vectors stand: beside it, `NAME.golden.npz` for `NAME.onnx`.

    Other suffixes stay part of the name, as one folder may hold a model in several formats.
    """
    path = Path(model)
    stem = path.stem if path.suffix == ".onnx" else path.name
    return path.with_name(f"{stem}.golden.npz")


def golden_bytes(vectors: GoldenVectors) -> bytes:
    """Returns the file that holds them; the same vectors give the same bytes."""
    file = io.BytesIO()
    arrays: dict[str, Any] = dict(vectors)
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def read_golden(model: str | Path, contract: Contract) -> GoldenVectors:
    """Reads the golden vectors beside a model.

    Raises:
        InputFileError: Where the model has none, they are not there, or not those that it was exported with.
    """
    path = golden_path(model)
    if not contract.golden_sha256:
        raise InputFileError(f"{model}: it was exported without golden vectors; export its checkpoint again.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputFileError(
            f"{path}: the model's golden vectors cannot be read ({error.strerror}); copy them beside the model, or "
            "export its checkpoint again."
        ) from error
    if hashlib.sha256(content).hexdigest() != contract.golden_sha256:
        raise InputFileError(
            f"{path}: these are not the golden vectors that {model} was exported with; copy both from one export."
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            vectors = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputFileError(f"{path}: the golden vectors cannot be read ({error}); export again.") from error
    stimuli = contract.input_names[: len(contract.input_names) - len(contract.state)]
    if missing := {*contract.output_names, *stimuli} - vectors.keys():
        raise InputFileError(f"{path}: the golden vectors lack {', '.join(sorted(missing))}; export again.")
    return vectors


def replay(step: Step, contract: Contract, vectors: GoldenVectors) -> Comparison:
    """Runs a model over its golden vectors, its own state fed back, and compares what it gives."""
    comparer = Comparer(PRECISIONS[contract.precision])
    steps, streams = vectors[LOGITS].shape[:2]
    chained = ChainedStep(step, contract, streams)
    keep = vectors.get(KEEP_MEMORY, np.ones((steps, streams)))  # a graph without is not reset on the way
    for k in range(steps):
        logits, probabilities, *state = chained(vectors[contract.takes][k], keep[k])
        comparer.add(LOGITS, logits, vectors[LOGITS][k])
        comparer.add(PROBABILITIES, probabilities, vectors[PROBABILITIES][k])
    for tensor, value in zip(contract.state, state, strict=True):
        comparer.add(tensor.output_name, value, vectors[tensor.output_name])
    return comparer.result(steps)


def require_passed(comparison: Comparison, model: str | Path) -> None:
    """Raises a CheckFailedError where a model's replay is not within the tolerance."""
    if not comparison:
        raise CheckFailedError(
            f"{model}: on this machine it does not compute what it did where it was exported: "
            f"{'; '.join(comparison.problems)}. Install another release of what runs it, or use another device."
        )
