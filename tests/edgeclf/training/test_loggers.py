from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from edgeclf.training.loggers import MetricsFile, make_loggers
from edgeclf_runtime.errors import UsageError


def log_epoch(logger: MetricsFile, epoch: int, **metrics: float) -> None:
    logger.log_metrics({"epoch": epoch, **metrics}, step=epoch * 10 + 9)
    logger.save()


def table_of(folder: Path) -> np.ndarray:
    return np.genfromtxt(folder / "metrics.csv", delimiter=",", names=True)


def test_a_row_for_each_epoch_and_a_column_for_each_metric(tmp_path: Path) -> None:
    logger = MetricsFile(tmp_path)
    log_epoch(logger, 0, val_loss=0.5)
    log_epoch(logger, 0, train_loss=0.7)
    log_epoch(logger, 1, val_loss=float("nan"))
    table = table_of(tmp_path)
    assert table.dtype.names == ("epoch", "step", "train_loss", "val_loss")
    assert table["epoch"].tolist() == [0, 1]
    assert table["step"].tolist() == [9, 19]
    assert table["train_loss"][0] == 0.7
    assert np.isnan([table["train_loss"][1], table["val_loss"][1]]).all()


def test_what_was_trained_before_stays_and_an_unfinished_epoch_goes(tmp_path: Path) -> None:
    first = MetricsFile(tmp_path)
    for epoch in range(3):
        log_epoch(first, epoch, val_loss=1.0 / (epoch + 1))
    second = MetricsFile(tmp_path, epochs_before=2)
    log_epoch(second, 2, val_loss=7.0, new=1.0)
    table = table_of(tmp_path)
    assert table["epoch"].tolist() == [0, 1, 2]
    assert table["val_loss"].tolist() == [1.0, 0.5, 7.0]
    third = MetricsFile(tmp_path)
    log_epoch(third, 0, val_loss=3.0)
    log_epoch(third, 1, val_loss=2.0)
    assert table_of(tmp_path)["val_loss"].tolist() == [3.0, 2.0]


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"epoch,step\nx,1\n", b"\xff\xfe\x00", b"epoch\n1,2,3\n"])
def test_a_file_of_something_else_is_not_written_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UsageError, match=r"metrics\.csv: training cannot add to it"):
        MetricsFile(tmp_path, epochs_before=2)
    assert (tmp_path / "metrics.csv").read_bytes() == content


def test_hyper_parameters_are_yaml(tmp_path: Path) -> None:
    MetricsFile(tmp_path / "a").log_hyperparams({"lr": 0.5, "classes": ["a", "é"]})
    assert yaml.safe_load((tmp_path / "a" / "hparams.yaml").read_text(encoding="utf-8")) == {
        "lr": 0.5,
        "classes": ["a", "é"],
    }


def test_each_logger_is_there_once(tmp_path: Path) -> None:
    found = make_loggers(tmp_path, ["csv", "tensorboard", "csv"], 0)
    assert [type(logger).__name__ for logger in found] == ["MetricsFile", "TensorBoardLogger"]
    assert [logger.name for logger in found] == ["csv", "tensorboard"]
    assert found[0].save_dir == str(tmp_path)
