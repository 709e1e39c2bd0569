"""Reading checkpoints, ours and Metavision ML's, without running what a pickle may hold."""

from __future__ import annotations

import argparse
import hashlib
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeclf.hyperparameters import HyperParameters
from edgeclf.models import Classifier
from edgeclf_runtime.errors import InputFileError, UsageError

try:  # NumPy 2 moved it
    from numpy._core.multiarray import scalar as _numpy_scalar
except ImportError:
    from numpy.core.multiarray import scalar as _numpy_scalar

# Besides what `weights_only` admits: real checkpoints keep NumPy numbers and an argparse namespace.
_SAFE_GLOBALS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    (_numpy_scalar, "numpy.core.multiarray.scalar"),
    (_numpy_scalar, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(code)) for code in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")},
]


@dataclass(frozen=True)
class Checkpoint:
    """A classifier's checkpoint.

    Attributes:
        path: The file.
        sha256: Its digest, hexadecimal.
        hyperparameters: What it was trained with.
        weights: The network's `state_dict`, names without the leading `net.`.
    """

    path: Path
    sha256: str
    hyperparameters: HyperParameters
    weights: Mapping[str, torch.Tensor]

    def build_model(self) -> Classifier:
        """Returns the trained classifier in evaluation mode, on the CPU.

        Raises:
            InputFileError: Where the weights do not fit the network that the hyper-parameters describe.
        """
        model = self.hyperparameters.build_model()
        try:
            model.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            first = str(error).strip().splitlines()[-1].strip()
            raise InputFileError(
                f"{self.path}: the weights do not fit {self.hyperparameters.models} as its hyper-parameters "
                f"describe it ({first}); the file is damaged or was made by a changed model."
            ) from error
        return model.eval()


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a checkpoint made by `edgeclf train` or by Metavision ML's classification training.

    Raises:
        InputFileError: Where the file is not there, is no checkpoint, holds objects that are not admitted, or is
            the checkpoint of something else.
    """
    path = Path(path)
    if not path.is_file():
        raise InputFileError(f"{path}: there is no such checkpoint file.")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    try:
        with torch.serialization.safe_globals(_SAFE_GLOBALS):  # type: ignore[no-untyped-call]
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "GLOBAL" in str(error):
            raise InputFileError(
                f"{path}: this checkpoint holds Python objects besides weights and numbers, which edgeclf does not "
                "load because a pickle can run any code; save it again with plain hyper-parameters."
            ) from error
        raise InputFileError(f"{path}: this is not a PyTorch checkpoint, or it is damaged.") from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise InputFileError(f"{path}: this is not a PyTorch checkpoint, or it is damaged.") from error
    if not isinstance(content, Mapping) or not {"hyper_parameters", "state_dict"} <= content.keys():
        raise InputFileError(
            f"{path}: this is not a classifier's checkpoint: it has no hyper_parameters and state_dict; give a "
            "Lightning .ckpt made by `edgeclf train` or by Metavision ML's classification training."
        )
    weights = {
        name.removeprefix("net."): value for name, value in content["state_dict"].items() if name.startswith("net.")
    }
    if not weights:
        raise InputFileError(
            f"{path}: this is not a classifier's checkpoint: none of its weights has a name starting with 'net.'."
        )
    values = content["hyper_parameters"]
    values = vars(values) if isinstance(values, argparse.Namespace) else values
    try:
        hyperparameters = HyperParameters.from_mapping(values, source=str(path))
    except UsageError as error:
        raise InputFileError(str(error)) from error
    return Checkpoint(path, digest, hyperparameters, weights)
