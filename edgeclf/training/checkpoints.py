"""Lightning's checkpoints as files that are written whole, and what a training that goes on takes from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from edgeclf.checkpoint import admitted_objects
from edgeclf_runtime.errors import EdgeclfError
from edgeclf_runtime.files import written_whole


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints beside their target and renames them; reads nothing but what is admitted.

    Lightning's own writes to the folder for temporary files, which often is another file system, from where the file is
    copied: a process that ends during that leaves half of it, and the checkpoint before is gone.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Writes a checkpoint; a crash leaves the file of before.

        Raises:
            EdgeclfError: Where it cannot be written to its end, as on a full disk.
        """
        if storage_options is not None:
            raise TypeError("checkpoints are local files, for which there are no storage options")
        try:
            # Through a file object: a path's own name would end up in the file, and this is a temporary one.
            with written_whole(path) as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            # torch ends a file that could not be written with an error of its own.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise EdgeclfError(
                f"{path}: this checkpoint could not be written ({cause.strerror}); that of before is as it was, and "
                "--resume goes on from the last one."
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint, an older one's NumPy numbers and namespace included, and never anything else."""
        del weights_only  # always
        with admitted_objects():
            content: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return content


class Keeper(ModelCheckpoint):
    """Keeps one checkpoint in a folder, `NAME.ckpt`.

    Lightning's own compares where its checkpoint was written with where it writes now, and so forgets the best score
    where the folder was moved. Here going on in the folder in which the checkpoint lies keeps all, and going on in
    another one nothing.

    Args:
        folder: The folder.
        name: The file's name without its suffix.
        goes_on: Whether training goes on from a checkpoint in this folder.
        monitor: The metric of which the largest value is best; None: keep the last.
    """

    def __init__(self, folder: Path, name: str, goes_on: bool, monitor: str | None = None) -> None:
        super().__init__(
            folder,
            name,
            monitor=monitor,
            mode="max" if monitor else "min",
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self._file = Path(self.dirpath or folder) / f"{name}.ckpt"
        self._goes_on = goes_on

    @property
    def state_key(self) -> str:
        """Where its state is in a checkpoint: where that of Lightning's own is."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the best score, unless the file that had it is no longer there."""
        if not self._goes_on or not self._file.is_file() or not state_dict.get("best_model_path"):
            return
        path, score = str(self._file), state_dict["best_model_score"]
        paths: dict[str, Any] = {"dirpath": self.dirpath, "best_model_path": path, "last_model_path": ""}
        if self.monitor is not None:
            paths |= {"kth_best_model_path": path, "best_k_models": {path: score}, "kth_value": score}
        super().load_state_dict(state_dict | paths)


class Patience(EarlyStopping):
    """Ends training after so many epochs in which the validation's loss has not fallen.

    Lightning's own goes on with the patience of the training before, whatever is given now.

    Args:
        epochs: That many.
    """

    def __init__(self, epochs: int) -> None:
        # A loss that is no number ends training by a sentence of its own.
        super().__init__("val_loss", patience=epochs, mode="min", check_finite=False)

    @property
    def state_key(self) -> str:
        """Where its state is in a checkpoint: where that of Lightning's own is."""
        return super().state_key.replace(type(self).__qualname__, EarlyStopping.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the smallest loss and the epochs since then, but not that training had stopped."""
        super().load_state_dict(state_dict | {"patience": self.patience, "stopped_epoch": 0})
