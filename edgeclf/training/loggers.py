"""Where the metrics of a training go."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from edgeclf.training.options import LoggerName
from edgeclf_runtime.errors import MissingPackageError, UsageError
from edgeclf_runtime.files import written_whole

METRICS_FILE = "metrics.csv"


class MetricsFile(Logger):
    """Metrics as `metrics.csv`, a row for each epoch, and hyper-parameters as `hparams.yaml`.

    Lightning's own logger of this form starts the file anew with every training; this one goes on with it.

    Args:
        folder: Where to.
        epochs_before: How many epochs of the file are kept: those before the one that training goes on with, so that
            none stands there twice.

    Raises:
        UsageError: Where the file that it shall go on with is no such table.
    """

    def __init__(self, folder: Path, epochs_before: int = 0) -> None:
        super().__init__()
        self._folder = folder
        self._rows = _kept_rows(folder / METRICS_FILE, epochs_before)

    @property
    def name(self) -> str:
        """The kind of logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Which of several trainings this is; a folder holds one."""
        return ""

    @property
    def save_dir(self) -> str:
        """Where the file is."""
        return str(self._folder)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_args: Any, **_kwargs: Any) -> None:
        """Writes the hyper-parameters."""
        self._folder.mkdir(parents=True, exist_ok=True)
        save_hparams_to_yaml(self._folder / "hparams.yaml", params)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds a row, or to the last one where that is of the same step."""
        row = {"step": str(step)} | {name: str(float(value)) for name, value in metrics.items()}
        if "epoch" in metrics:
            row["epoch"] = str(int(metrics["epoch"]))
        same = bool(self._rows) and all(self._rows[-1].get(name) == row.get(name) for name in ("epoch", "step"))
        if same:
            self._rows[-1] |= row
        else:
            self._rows.append(row)

    @rank_zero_only
    def save(self) -> None:
        """Writes all rows; a crash leaves the file of before."""
        names = sorted({name for row in self._rows for name in row} - {"epoch", "step"})
        with (
            written_whole(self._folder / METRICS_FILE) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, ["epoch", "step", *names], restval="")
            writer.writeheader()
            writer.writerows(self._rows)


def _kept_rows(path: Path, epochs: int) -> list[dict[str, str]]:
    if not epochs or not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{name: value for name, value in row.items() if value} for row in csv.DictReader(file, strict=True)]
        if any(None in row for row in rows):
            raise ValueError("a row is longer than the header")
        return [row for row in rows if int(row["epoch"]) < epochs]
    except (ValueError, KeyError, AttributeError, csv.Error) as error:  # UnicodeDecodeError is a ValueError
        raise UsageError(
            f"{path}: training cannot add to it: it is not the table of metrics that training writes; move it away."
        ) from error


def make_loggers(
    folder: Path, names: Sequence[LoggerName], epochs_before: int, steps_before: int | None = None
) -> list[Logger]:
    """Returns the loggers of the names given, each once.

    Args:
        folder: The training's folder.
        names: Which.
        epochs_before: Epochs that were trained before, in this folder.
        steps_before: The optimizer's steps in them; what TensorBoard has of later ones counts no longer. None: all of
            it stays.

    Raises:
        MissingPackageError: Where the package of one is not installed.
    """
    made: list[Logger] = []
    for name in dict.fromkeys(names):
        if name == "csv":
            made.append(MetricsFile(folder, epochs_before))
            continue
        try:
            made.append(TensorBoardLogger(folder, name="tensorboard", version="", purge_step=steps_before))
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                "--logger tensorboard needs the package tensorboard, which is not installed: "
                "pip install 'edgeclf[tensorboard]'."
            ) from error
    return made
