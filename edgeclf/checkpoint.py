"""Reading checkpoints, ours and Metavision ML's, without running what a pickle may hold."""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeclf.hyperparameters import HyperParameters
from edgeclf.models import Classifier
from edgeclf_runtime.errors import InputFileError, UsageError

# NumPy 2 moved it; a checkpoint may name the old place or the new one.
_numpy_scalar: Any = np.float64(0).__reduce__()[0]

# Besides what `weights_only` admits: real checkpoints keep NumPy numbers and an argparse namespace.
_SAFE_GLOBALS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    (_numpy_scalar, "numpy.core.multiarray.scalar"),
    (_numpy_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(code)) for code in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")},
]

TRAINED_WITH: Mapping[str, type] = {"max_epochs": int, "patience": int, "seed": int, "precision": str}
"""What `edgeclf train` keeps among the hyper-parameters besides them, so that `--resume` goes on in the same way."""


@dataclass(frozen=True)
class Checkpoint:
    """A classifier's checkpoint.

    Attributes:
        path: The file.
        sha256: Its digest, hexadecimal.
        hyperparameters: What it was trained with.
        weights: The network's `state_dict`, names without the leading `net.`.
        resumable: Whether it holds the optimizer's state too, so that training can go on from it.
        epoch: The last epoch that it has seen, from 0; None where it does not say.
        trained_with: How it was trained (see `TRAINED_WITH`), as far as it says.
        steps: Optimizer's steps until then; None where it does not say.
        epochs_in_vain: Epochs up to then in which the validation's loss had not fallen; None where nobody counted.
    """

    path: Path
    sha256: str
    hyperparameters: HyperParameters
    weights: Mapping[str, torch.Tensor]
    resumable: bool = False
    epoch: int | None = None
    trained_with: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    epochs_in_vain: int | None = None

    def build_model(self) -> Classifier:
        """Returns the trained classifier in evaluation mode, on the CPU.

        Raises:
            InputFileError: Where the hyper-parameters describe no network, or one that the weights do not fit.
        """
        try:
            model = self.hyperparameters.build_model()
        except UsageError as error:
            raise InputFileError(f"{self.path}: {error}") from error
        try:
            model.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            first = str(error).strip().splitlines()[-1].strip()
            raise InputFileError(
                f"{self.path}: the weights do not fit {self.hyperparameters.models} as its hyper-parameters "
                f"describe it ({first}); the file is damaged or was made by a changed model."
            ) from error
        return model.eval()


def load_checkpoint(path: str | Path, trusted: bool = False) -> Checkpoint:
    """Reads a checkpoint made by `edgeclf train` or by Metavision ML's classification training.

    Args:
        path: The file.
        trusted: Load whatever Python objects it holds. A pickle can run any code: only for files of known origin.

    Raises:
        InputFileError: Where the file is not there, is no checkpoint, holds objects that are not admitted, or is
            the checkpoint of something else.
    """
    path = Path(path)
    if not path.is_file():
        raise InputFileError(f"{path}: there is no such checkpoint file.")
    content = _load_pickle(path, trusted)
    parts = content if isinstance(content, Mapping) else {}
    values, state_dict = parts.get("hyper_parameters"), parts.get("state_dict")
    values = vars(values) if isinstance(values, argparse.Namespace) else values
    if not isinstance(values, Mapping) or not isinstance(state_dict, Mapping):
        raise InputFileError(
            f"{path}: this is not a classifier's checkpoint: it has no hyper_parameters and state_dict; give a "
            "Lightning .ckpt made by `edgeclf train` or by Metavision ML's classification training."
        )
    weights = {name.removeprefix("net."): value for name, value in state_dict.items() if str(name).startswith("net.")}
    if not weights:
        raise InputFileError(
            f"{path}: this is not a classifier's checkpoint: none of its weights has a name starting with 'net.'."
        )
    try:
        hyperparameters = HyperParameters.from_mapping(values, source=str(path))
    except UsageError as error:
        raise InputFileError(str(error)) from error
    epoch, steps = parts.get("epoch"), parts.get("global_step")
    return Checkpoint(
        path,
        hashlib.sha256(path.read_bytes()).hexdigest(),
        hyperparameters,
        weights,
        resumable={"optimizer_states", "loops"} <= parts.keys(),
        epoch=epoch if type(epoch) is int else None,
        trained_with={name: values[name] for name, kind in TRAINED_WITH.items() if type(values.get(name)) is kind},
        steps=steps if type(steps) is int else None,
        epochs_in_vain=_epochs_in_vain(parts.get("callbacks")),
    )


def admitted_objects() -> AbstractContextManager[Any]:
    """Returns a context in which `torch.load(..., weights_only=True)` also takes what real checkpoints hold."""
    return torch.serialization.safe_globals(_SAFE_GLOBALS)


def _epochs_in_vain(callbacks: Any) -> int | None:
    """Returns what Lightning's `EarlyStopping` had counted, which keeps its state under a name of its own."""
    for name, state in callbacks.items() if isinstance(callbacks, Mapping) else ():
        if str(name).startswith("EarlyStopping") and isinstance(state, Mapping):
            count = state.get("wait_count")
            return count if type(count) is int else None
    return None


def _load_pickle(path: Path, trusted: bool) -> Any:
    """Returns what a checkpoint holds, where that is only what is admitted, or trusted; see `load_checkpoint`."""
    try:
        with admitted_objects():
            return torch.load(path, map_location="cpu", weights_only=not trusted)
    except (ImportError, AttributeError) as error:  # of a trusted one
        raise InputFileError(
            f"{path}: this checkpoint needs Python code that is not to be had here ({error}); install it, or save the "
            "checkpoint again with plain hyper-parameters."
        ) from error
    except pickle.UnpicklingError as error:
        if refused := re.search(r"GLOBAL (\S+)|Unsupported class (\S+)", str(error)):
            raise InputFileError(
                f"{path}: this checkpoint holds Python objects besides weights and numbers "
                f"({refused[1] or refused[2]}), which edgeclf does not load because a pickle can run any code; save "
                "it again with plain hyper-parameters, or, where you trust whoever made it, run "
                "`edgeclf export` with --trust-checkpoint."
            ) from error
        raise InputFileError(f"{path}: this is not a PyTorch checkpoint, or it is damaged.") from error
    except Exception as error:  # a damaged pickle may ask for anything, and so raise nearly anything
        raise InputFileError(f"{path}: this is not a PyTorch checkpoint, or it is damaged.") from error
