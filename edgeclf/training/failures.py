"""What Lightning says and raises, in the words of a user of `edgeclf train`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from edgeclf_runtime.errors import DeviceError, EdgeclfError, UsageError


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silences the warnings that tell a user nothing to do."""
    with warnings.catch_warnings():
        for message in (
            # Small networks learn faster from one process that loads than from several; --num-workers is there.
            ".*does not have many workers.*",
            "The number of training batches .* is smaller than the logging interval.*",
            "Your `IterableDataset` has `__len__` defined.*",
            ".*Checkpoint directory .* exists and is not empty.*",
            ".*Experiment logs directory .* exists and is not empty.*",
            # Going on in another folder, whose best.ckpt is the best of the epochs from then on.
            "The dirpath has changed.*",
            # Going on without --max-time or --patience, which the training before had.
            "Be aware that when using `ckpt_path`, callbacks used to create the checkpoint.*",
            # A batch without a labelled frame.
            "`training_step` returned `None`.*",
        ):
            warnings.filterwarnings("ignore", message=message)
        # Lightning's own use of torch.
        warnings.filterwarnings(
            "ignore",
            message=r"`isinstance\(treespec, LeafSpec\)` is deprecated",
            category=FutureWarning,
            module=r"lightning\.pytorch\.utilities\._pytree",
        )
        yield


@contextmanager
def sentences_for_failures(out: Path) -> Iterator[None]:
    """Turns what ends training early into sentences."""
    try:
        yield
    except MisconfigurationException as error:  # such as fewer epochs than the checkpoint has
        raise UsageError(f"Lightning cannot train so: {one_line(error)}") from error
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            "The device's memory is too small for this training; give a smaller --batch-size or --num-tbins."
        ) from error
    except RuntimeError as error:
        if "does not have a deterministic implementation" not in str(error):
            raise
        raise UsageError(
            f"--deterministic cannot be kept on this device: {one_line(error).split('. ')[0]}; leave it out, or give "
            "--accelerator cpu."
        ) from error
    except SystemExit as error:  # Lightning's answer to Ctrl-C
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise EdgeclfError(
            f"Training was interrupted; --resume goes on from {out / 'last.ckpt'}, if an epoch was complete."
        ) from error


def one_line(error: Exception) -> str:
    """Returns an error's message as one line."""
    return " ".join(str(error).split())
