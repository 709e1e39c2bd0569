"""What Lightning says and raises, in the words of a user of `edgeclf train`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from edgeclf.lightning_model import several_processes
from edgeclf_runtime.errors import DeviceError, EdgeclfError, UsageError

# How torch's ways to talk between processes (gloo, NCCL) say that the other one is no longer there.
_OTHER_IS_GONE = re.compile(
    "Connection (closed|reset) by (remote )?peer|Broken pipe|remote process (has )?(exited|terminated)", re.IGNORECASE
)
# How torch says that a process that loads batches is no longer there.
_LOADER_IS_GONE = re.compile(r"DataLoader worker \(pid.*(exited unexpectedly|killed by signal)")


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
        if (sentence := _sentence_for(error, out)) is None:
            raise
        raise sentence from error
    except SystemExit as error:  # Lightning's answer to Ctrl-C
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise EdgeclfError(
            f"Training was interrupted; --resume goes on from {out / 'last.ckpt'}, if an epoch was complete."
        ) from error


def _sentence_for(error: RuntimeError, out: Path) -> EdgeclfError | None:
    """Returns what one of torch's errors means; None where that is not known."""
    if "does not have a deterministic implementation" in str(error):
        return UsageError(
            f"--deterministic cannot be kept on this device: {one_line(error).split('. ')[0]}; leave it out, or give "
            "--accelerator cpu."
        )
    if _LOADER_IS_GONE.search(one_line(error)):
        return EdgeclfError(
            "One of the processes that load batches was ended from outside, perhaps as memory ran out; --resume goes "
            f"on from {out / 'last.ckpt'}, if an epoch was complete; give fewer of them (--num-workers)."
        )
    if several_processes() and _OTHER_IS_GONE.search(one_line(error)):
        return EdgeclfError("Another process of this training ended, and its message says why; so this one ends too.")
    return None


def one_line(error: Exception) -> str:
    """Returns an error's message as one line."""
    return " ".join(str(error).split())
