from __future__ import annotations

import argparse
import copy
import csv
import multiprocessing
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data_module import ClassificationDataModule
from edgeclf.evaluation import evaluate
from edgeclf.hyperparameters import HyperParameters
from edgeclf.lightning_model import ClassificationModel
from edgeclf.training import TrainerOptions, TrainingResult, train
from edgeclf.training.failures import quiet_lightning
from edgeclf.utils_metrics import compute_kpis
from edgeclf_runtime.errors import DeviceError, EdgeclfError, InputFileError, MissingPackageError, UsageError

OPTIONS = TrainerOptions(max_epochs=1, accelerator="cpu", devices="1", progress_bar=False)


@pytest.fixture(autouse=True)
def interrupts_stay_as_they_are() -> Iterator[None]:
    """Lightning ignores Ctrl-C for the rest of a process that it was pressed in."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, blobs: Path, hyper) -> tuple[Path, TrainingResult]:
    """Three epochs of ConvRNN, uninterrupted."""
    out = tmp_path_factory.mktemp("trained") / "neu é"
    return out, train(blobs, out, replace(hyper("ConvRNN"), lr=0.01), replace(OPTIONS, max_epochs=3))


def metrics_of(out: Path) -> list[dict[str, str]]:
    with (out / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def content_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def same(one: Any, other: Any) -> bool:
    """Whether nested dictionaries and lists hold the same numbers, bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


def train_interrupted(monkeypatch: pytest.MonkeyPatch, epoch: int, *arguments: Any) -> None:
    """Trains until Ctrl-C in the second batch of an epoch."""
    step = ClassificationModel.training_step

    def interrupted(self: ClassificationModel, batch: Any, batch_nb: int) -> Any:
        if (self.current_epoch, batch_nb) == (epoch, 1):
            raise KeyboardInterrupt
        return step(self, batch, batch_nb)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationModel, "training_step", interrupted)
        with pytest.raises(EdgeclfError, match=r"Training was interrupted; --resume goes on from .*last\.ckpt"):
            train(*arguments)


# --- what training leaves


def test_each_model_trains_and_its_checkpoint_gives_the_same_logits(
    tmp_path: Path, blobs: Path, hyper_of_each: HyperParameters
) -> None:
    result = train(blobs, tmp_path, hyper_of_each, OPTIONS)
    assert (result.best, result.last, result.epochs) == (tmp_path / "best.ckpt", tmp_path / "last.ckpt", 1)
    loaded = load_checkpoint(result.best)
    assert loaded.hyperparameters == hyper_of_each
    content = content_of(result.best)
    module = ClassificationModel(content["hyper_parameters"])
    module.load_state_dict(content["state_dict"])
    module.eval()
    data = ClassificationDataModule(hyper_of_each.to_dict(), blobs)
    recordings = evaluate(loaded.build_model(), data.sequences("val"))
    with torch.inference_mode():
        for batch in data.sequences("val"):
            module._collector.add(batch, module(batch))
    for one, other in zip(recordings, module._collector.recordings(), strict=True):
        assert torch.equal(one.logits, other.logits)
    kpis = compute_kpis([recording.result() for recording in recordings], hyper_of_each.labels, 10_000)
    assert result.val_accuracy == pytest.approx(kpis["accuracy"])


def test_training_learns(tmp_path: Path, blobs: Path, hyper) -> None:
    """The blobs are told apart by their channel; what always says one class gets half of the frames."""
    settings = replace(hyper("ConvRNN"), feature_base=4, lr=0.02, num_tbins=5, batch_size=2)
    result = train(blobs, tmp_path, settings, replace(OPTIONS, max_epochs=20, seed=0))
    assert result.val_accuracy > 0.8
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val_acc"]]
    assert len(rows) == 20
    assert max(float(row["val_acc"]) for row in rows) == pytest.approx(result.val_accuracy)
    classes = ("background", "left", "right")
    each = {f"val_{kind}_{label}" for kind in ("precision", "recall") for label in classes}
    assert rows[0].keys() == {"epoch", "step", "train_loss", "val_loss", "val_acc", "val_recording_acc", *each}
    assert [int(row["epoch"]) for row in rows] == list(range(20))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"]) / 2


def test_files_are_where_they_are_promised(trained: tuple[Path, TrainingResult]) -> None:
    out, result = trained
    assert sorted(path.name for path in out.iterdir()) == ["best.ckpt", "hparams.yaml", "last.ckpt", "metrics.csv"]
    assert result.epochs == 3
    assert content_of(out / "last.ckpt")["epoch"] == 2


def test_the_learning_rate_falls_along_a_cosine(trained: tuple[Path, TrainingResult]) -> None:
    """0.01 · (1 + cos(2π/3)) / 2 in the last epoch of three."""
    (optimizer,) = content_of(trained[1].last)["optimizer_states"]
    assert optimizer["param_groups"][0]["lr"] == pytest.approx(0.01 / 4)


def test_the_learning_rate_falls_in_steps(tmp_path: Path, blobs: Path, hyper) -> None:
    """0.01 · 0.5² in the third epoch; and a resumed training goes on from there, with the weight decay now given."""
    settings = replace(hyper("ConvRNN"), lr=0.01, lr_scheduler_step_gamma=0.5)
    result = train(blobs, tmp_path, settings, replace(OPTIONS, max_epochs=3))
    (optimizer,) = content_of(result.last)["optimizer_states"]
    assert optimizer["param_groups"][0]["lr"] == pytest.approx(0.01 / 4)
    train(blobs, tmp_path, replace(settings, wd=0.25), replace(OPTIONS, max_epochs=4), resume=result.last)
    (optimizer,) = content_of(result.last)["optimizer_states"]
    assert optimizer["param_groups"][0]["lr"] == pytest.approx(0.01 / 8)
    assert optimizer["param_groups"][0]["weight_decay"] == 0.25


def test_training_stops_when_the_loss_no_longer_falls(
    tmp_path: Path, blobs: Path, hyper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    losses = [0.9, 0.5, 0.6, 0.4, 0.41, 0.5, 0.1]
    monkeypatch.setattr(ClassificationModel, "_mean_loss", lambda self, _found: losses[self.current_epoch])
    with caplog.at_level("INFO", logger="edgeclf"):
        result = train(blobs, tmp_path, hyper("ConvRNN"), replace(OPTIONS, max_epochs=7, patience=2))
    assert result.epochs == 6  # 0.41 and 0.5 are two epochs over 0.4
    assert "stopped: the validation's loss has not fallen for 2 epochs" in caplog.text
    assert [float(row["val_loss"]) for row in metrics_of(tmp_path)] == pytest.approx(losses[:6])


def test_a_training_that_stopped_stays_stopped_unless_it_may_take_longer(
    tmp_path: Path, blobs: Path, hyper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    losses = [0.9, 0.4, 0.41, 0.5, 0.6, 0.7, 0.1, 0.2]
    monkeypatch.setattr(ClassificationModel, "_mean_loss", lambda self, _found: losses[self.current_epoch])
    settings, options = hyper("ConvRNN"), replace(OPTIONS, max_epochs=8, patience=2)
    first = train(blobs, tmp_path, settings, options)
    assert first.epochs == 4
    before = first.last.read_bytes()
    for patience in (1, 2):
        with pytest.raises(UsageError, match=r"not fallen for 2 epochs.*give a larger --patience than 2"):
            train(blobs, tmp_path, settings, replace(options, patience=patience), resume=first.last)
    assert first.last.read_bytes() == before
    # 0.5, 0.6, 0.7 are the second to the fourth epoch over 0.4.
    assert train(blobs, tmp_path, settings, replace(options, patience=4), resume=first.last).epochs == 6
    caplog.clear()
    with caplog.at_level("INFO", logger="edgeclf"):
        assert train(blobs, tmp_path, settings, replace(options, patience=5), resume=first.last).epochs == 8
    assert "stopped" not in caplog.text


def test_best_is_the_best_and_last_is_the_last(
    tmp_path: Path, blobs: Path, hyper, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {0: 0.2, 1: 0.9, 2: 0.4, 3: 0.9}
    kpis = ClassificationModel._kpis
    monkeypatch.setattr(
        ClassificationModel, "_kpis", lambda self, found: kpis(self, found) | {"accuracy": scores[self.current_epoch]}
    )
    result = train(blobs, tmp_path, hyper("ConvRNN"), replace(OPTIONS, max_epochs=4))
    assert (content_of(result.best)["epoch"], content_of(result.last)["epoch"]) == (1, 3)
    assert result.val_accuracy == pytest.approx(0.9)


def test_the_same_seed_trains_the_same_weights(
    tmp_path: Path, blobs: Path, hyper, trained: tuple[Path, TrainingResult]
) -> None:
    settings = replace(hyper("ConvRNN"), lr=0.01)
    again = train(blobs, tmp_path / "again", settings, replace(OPTIONS, max_epochs=3))
    assert again.val_accuracy == trained[1].val_accuracy
    weights = content_of(trained[1].last)["state_dict"]
    assert same(content_of(again.last)["state_dict"], weights)
    other = train(blobs, tmp_path / "other", settings, replace(OPTIONS, seed=1))
    assert not same(content_of(other.last)["state_dict"], weights)


def test_another_training_is_not_lost_unless_it_may_be(
    tmp_path: Path, blobs: Path, hyper, trained: tuple[Path, TrainingResult]
) -> None:
    out = Path(shutil.copytree(trained[0], tmp_path / "out"))
    before = {path: path.read_bytes() for path in out.iterdir()}
    for start in ({}, {"resume": trained[1].last}, {"finetune": out / "best.ckpt"}):  # the second from another folder
        with pytest.raises(UsageError, match=r"out: it holds the checkpoints .*best\.ckpt, last\.ckpt.*--overwrite"):
            train(blobs, out, replace(hyper("ConvRNN"), lr=0.01), replace(OPTIONS, max_epochs=4), **start)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    # Starting from one of the files that go.
    settings = replace(hyper("ConvRNN"), lr=0.0)
    result = train(blobs, out, settings, OPTIONS, finetune=out / "best.ckpt", overwrite=True)
    assert content_of(result.best)["epoch"] == content_of(result.last)["epoch"] == 0
    assert sorted(path.name for path in out.iterdir()) == ["best.ckpt", "hparams.yaml", "last.ckpt", "metrics.csv"]
    assert [row["epoch"] for row in metrics_of(out)] == ["0"]
    weights = load_checkpoint(result.last).weights
    start = load_checkpoint(trained[1].best).weights
    assert torch.equal(weights["head.module.2.weight"], start["head.module.2.weight"])


def test_a_training_that_fails_at_once_removes_nothing(
    tmp_path: Path, blobs: Path, hyper, trained: tuple[Path, TrainingResult]
) -> None:
    out = Path(shutil.copytree(trained[0], tmp_path / "out"))
    before = {path: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(UsageError):
        train(blobs, out, hyper("ConvRNN"), replace(OPTIONS, precision="7"), overwrite=True)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_validation_within_an_epoch_leaves_trainings_memory(blobs: Path, hyper) -> None:
    """A recurrent model with a rate of 0, validated after every batch, has the losses that it has without."""
    settings = replace(hyper("ConvRNN"), lr=0.0, wd=0.0, num_tbins=2)
    losses: list[list[float]] = []
    for every in (1, 1.0):  # batches, epochs
        torch.manual_seed(0)
        module, seen = ClassificationModel(settings.to_dict()), []
        step = module.training_step
        module.training_step = lambda batch, nb, step=step, seen=seen: seen.append(step(batch, nb)) or seen[-1]
        with quiet_lightning():
            Trainer(
                accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, max_epochs=1,
                val_check_interval=every, num_sanity_val_steps=0, enable_model_summary=False,
            ).fit(module, ClassificationDataModule(settings.to_dict(), blobs))  # fmt: skip
        losses.append([loss.item() for loss in seen if loss is not None])
    assert len(losses[0]) > 4
    assert losses[0] == pytest.approx(losses[1])


def test_lightnings_test_loop_gives_the_kpis(blobs: Path, trained: tuple[Path, TrainingResult]) -> None:
    loaded = load_checkpoint(trained[1].best)
    data = ClassificationDataModule(loaded.hyperparameters.to_dict(), blobs)
    module = ClassificationModel(loaded.hyperparameters.to_dict())
    module.net.load_state_dict(dict(loaded.weights))
    with quiet_lightning():
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
        (found,) = trainer.test(module, data, verbose=False)
    results = [recording.result() for recording in evaluate(loaded.build_model(), data.sequences("test"))]
    expected = compute_kpis(results, loaded.hyperparameters.labels, 10_000)
    assert found == pytest.approx({f"test_{name}": value for name, value in expected.items()}, nan_ok=True)


def test_batches_without_a_label_train_quietly(tmp_path: Path, blobs: Path, hyper) -> None:
    settings = replace(hyper("ConvRNN"), label_delta_t=60_000, use_label_freq=True, num_tbins=2)
    train(blobs, tmp_path, settings, OPTIONS)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "bf16-true"])
def test_other_precisions(tmp_path: Path, blobs: Path, hyper, precision: str) -> None:
    result = train(blobs, tmp_path, hyper("ConvRNN"), replace(OPTIONS, precision=precision))
    assert load_checkpoint(result.best).build_model()


@pytest.fixture
def nondeterministic_afterwards() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("nondeterministic_afterwards")
def test_deterministic_algorithms(tmp_path: Path, blobs: Path, hyper, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    step = ClassificationModel.training_step

    def asked(self: ClassificationModel, *batch: Any) -> Any:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return step(self, *batch)

    monkeypatch.setattr(ClassificationModel, "training_step", asked)
    train(blobs, tmp_path / "a", hyper("ConvRNN"), OPTIONS)
    assert not any(seen)
    seen.clear()
    train(blobs, tmp_path / "b", hyper("ConvRNN"), replace(OPTIONS, deterministic=True))
    assert seen
    assert all(seen)

    def without(*_: Any) -> None:
        raise RuntimeError("histc_cuda does not have a deterministic implementation, but you set 'torch.use'. You can")

    monkeypatch.setattr(ClassificationModel, "training_step", without)
    with pytest.raises(UsageError, match=r"--deterministic cannot be kept .*histc_cuda does not have"):
        train(blobs, tmp_path / "c", hyper("ConvRNN"), replace(OPTIONS, deterministic=True))


def test_tensorboard_gets_what_the_table_gets(tmp_path: Path, blobs: Path, hyper) -> None:
    options = replace(OPTIONS, max_epochs=2, loggers=("csv", "tensorboard", "csv"))
    train(blobs, tmp_path, hyper("ConvRNN"), options)
    rows = metrics_of(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorBoard's own packages
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(tmp_path / "tensorboard"))
        found.Reload()
    for name in ("val_loss", "val_acc", "train_loss", "val_recall_left"):
        assert [event.value for event in found.Scalars(name)] == pytest.approx([float(row[name]) for row in rows])
        assert [event.step for event in found.Scalars(name)] == [int(row["step"]) for row in rows]


def test_tensorboard_forgets_the_steps_that_are_trained_again(tmp_path: Path, blobs: Path, hyper) -> None:
    options = replace(OPTIONS, loggers=("tensorboard",))
    settings = hyper("ConvRNN")
    result = train(blobs, tmp_path, settings, options)
    first = result.last.read_bytes()
    train(blobs, tmp_path, settings, replace(options, max_epochs=3), resume=result.last)
    result.last.write_bytes(first)  # as a training that was ended by force after the first epoch
    train(blobs, tmp_path, settings, replace(options, max_epochs=2), resume=result.last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TensorBoard's own packages
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(tmp_path / "tensorboard"))
        found.Reload()
    steps = content_of(result.last)["global_step"]
    assert [event.step for event in found.Scalars("val_loss")] == [steps // 2 - 1, steps - 1]


def test_another_trainings_logs_and_videos_go_with_it(tmp_path: Path, blobs: Path, hyper) -> None:
    """Three epochs, and one in their place; a file that training did not write stays."""
    options = replace(OPTIONS, loggers=("csv", "tensorboard"), demo_every=1)
    train(blobs, tmp_path, hyper("ConvRNN"), replace(options, max_epochs=2))
    (tmp_path / "videos" / "mine.mp4").touch()
    before = set((tmp_path / "tensorboard").glob("events*"))
    train(blobs, tmp_path, hyper("ConvRNN"), options, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "videos").iterdir()) == ["demo_epoch_000.mp4", "mine.mp4"]
    events = set((tmp_path / "tensorboard").glob("events*"))
    assert len(events) == 1
    assert events.isdisjoint(before)
    (tmp_path / "videos" / "mine.mp4").unlink()
    train(blobs, tmp_path, hyper("ConvRNN"), OPTIONS, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "hparams.yaml", "last.ckpt", "metrics.csv"]


def test_demo_videos_are_written_while_training(tmp_path: Path, blobs: Path, hyper) -> None:
    settings = hyper("ConvRNN")
    with_demo = train(blobs, tmp_path / "a", settings, replace(OPTIONS, max_epochs=4, demo_every=2))
    videos = sorted((tmp_path / "a" / "videos").iterdir())
    assert [path.name for path in videos] == ["demo_epoch_001.mp4", "demo_epoch_003.mp4"]
    with av.open(str(videos[0])) as file:
        frames = len(list(file.decode(video=0)))
    assert frames == len(ClassificationDataModule(settings.to_dict(), blobs).sequences("val")) * settings.num_tbins
    without = train(blobs, tmp_path / "b", settings, replace(OPTIONS, max_epochs=4))
    assert same(content_of(with_demo.last)["state_dict"], content_of(without.last)["state_dict"])


def test_packages_that_are_missing_are_a_sentence(
    tmp_path: Path, blobs: Path, hyper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("Neither `tensorboard` nor `tensorboardX` is available.")

    monkeypatch.setattr("edgeclf.training.loggers.TensorBoardLogger", missing)
    with pytest.raises(MissingPackageError, match=r"--logger tensorboard .*'edgeclf\[tensorboard\]'"):
        train(blobs, tmp_path, hyper("ConvRNN"), replace(OPTIONS, loggers=("tensorboard",)))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackageError, match=r"'edgeclf\[video\]'"):
        train(blobs, tmp_path, hyper("ConvRNN"), replace(OPTIONS, demo_every=1))
    assert not list(tmp_path.rglob("*.ckpt"))


# --- going on


@pytest.mark.parametrize("name", ["ConvRNN", "Squeezenet"])  # the latter with dropout
def test_resuming_gives_what_an_uninterrupted_training_gives(
    tmp_path: Path, blobs: Path, hyper, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings, options = hyper(name), replace(OPTIONS, max_epochs=3)
    whole = train(blobs, tmp_path / "whole", settings, options)
    out = tmp_path / "parts"
    train_interrupted(monkeypatch, 2, blobs, out, settings, options)
    assert content_of(out / "last.ckpt")["epoch"] == 1
    seen: list[int] = []
    start = ClassificationModel.on_train_epoch_start

    def counted(self: ClassificationModel) -> None:
        seen.append(self.current_epoch)
        start(self)

    monkeypatch.setattr(ClassificationModel, "on_train_epoch_start", counted)
    result = train(blobs, out, settings, options, resume=out / "last.ckpt")
    assert (seen, result.epochs) == ([2], 3)
    assert result.val_accuracy == whole.val_accuracy
    assert metrics_of(out) == metrics_of(tmp_path / "whole")
    one, other = content_of(whole.last), content_of(result.last)
    for part in ("state_dict", "optimizer_states", "epoch", "global_step"):
        assert same(one[part], other[part]), part


def test_resuming_for_longer_lets_the_learning_rate_fall_further(
    tmp_path: Path, blobs: Path, hyper, trained: tuple[Path, TrainingResult]
) -> None:
    settings = replace(hyper("ConvRNN"), lr=0.01)
    out = Path(shutil.copytree(trained[0], tmp_path / "out"))
    result = train(blobs, out, settings, replace(OPTIONS, max_epochs=4), resume=out / "last.ckpt")
    (optimizer,) = content_of(result.last)["optimizer_states"]
    assert optimizer["param_groups"][0]["lr"] == pytest.approx(0.01 * (1 - 2**-0.5) / 2)  # cos(3π/4)
    assert result.epochs == 4


def test_resuming_what_is_done_already(blobs: Path, hyper, trained: tuple[Path, TrainingResult]) -> None:
    settings = replace(hyper("ConvRNN"), lr=0.01)
    again = train(blobs, trained[0], settings, replace(OPTIONS, max_epochs=3), resume=trained[1].last)
    assert again == trained[1]
    with pytest.raises(UsageError, match="max_epochs"):
        train(blobs, trained[0], settings, replace(OPTIONS, max_epochs=1), resume=trained[1].last)


def test_resuming_another_model_is_refused(
    tmp_path: Path, blobs: Path, hyper, trained: tuple[Path, TrainingResult]
) -> None:
    other = replace(hyper("ConvRNN"), feature_base=4, num_tbins=99)
    with pytest.raises(UsageError, match=r"last\.ckpt: .*another model or data set: feature_base was 2 and is 4;"):
        train(blobs, tmp_path, other, OPTIONS, resume=trained[1].last)


def test_resuming_from_weights_alone_or_nothing_or_malice_is_refused(
    tmp_path: Path, blobs: Path, hyper, trained: tuple[Path, TrainingResult]
) -> None:
    content = content_of(trained[1].last)
    del content["optimizer_states"]
    path = tmp_path / "weights.ckpt"
    torch.save(content, path)
    with pytest.raises(InputFileError, match=r"weights\.ckpt: this checkpoint holds weights only.*--finetune"):
        train(blobs, tmp_path / "out", hyper("ConvRNN"), OPTIONS, resume=path)
    with pytest.raises(InputFileError, match="there is no such checkpoint file"):
        train(blobs, tmp_path / "out", hyper("ConvRNN"), OPTIONS, resume=tmp_path / "no.ckpt")
    torch.save(content_of(trained[1].last) | {"callbacks": Touch(tmp_path / "was run")}, path)
    with pytest.raises(InputFileError, match="holds Python objects"):
        train(blobs, tmp_path / "out", hyper("ConvRNN"), OPTIONS, resume=path)
    assert not (tmp_path / "was run").exists()
    assert not (tmp_path / "out").exists()


class Touch:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch '{self.target}'",))


def test_finetuning_starts_from_the_weights(
    tmp_path: Path, blobs: Path, hyper, trained: tuple[Path, TrainingResult]
) -> None:
    start = load_checkpoint(trained[1].best).weights
    settings = replace(hyper("ConvRNN"), lr=0.0)  # so that weights stay what they started from
    same_classes = train(blobs, tmp_path / "same", settings, OPTIONS, finetune=trained[1].best)
    found = load_checkpoint(same_classes.last).weights
    learned = [name for name in found if name.endswith(("weight", "bias"))]
    assert all(torch.equal(found[name], start[name]) for name in learned)
    more = replace(settings, classes=("left", "right", "up"))
    more_classes = train(blobs, tmp_path / "more", more, OPTIONS, finetune=trained[1].best)
    found = load_checkpoint(more_classes.last).weights
    assert found["head.module.2.weight"].shape[0] == 4
    body = [name for name in learned if not name.startswith("head.module.2")]
    assert all(torch.equal(found[name], start[name]) for name in body)
    with pytest.raises(UsageError, match=r"best\.ckpt: its weights do not fit ConvRNNClassifier.*was 2 and is 4"):
        train(blobs, tmp_path / "x", replace(settings, feature_base=4), OPTIONS, finetune=trained[1].best)


def write_metavisions(path: Path, settings: HyperParameters) -> dict[str, torch.Tensor]:
    """Writes a checkpoint as Metavision ML's training does: an argparse namespace, NumPy numbers, older names."""
    torch.manual_seed(8)
    weights = settings.build_model().state_dict()
    values = settings.to_dict()
    values["in_channels"] = np.int64(values.pop("preprocess_channels"))
    values["max_incr_per_pixel"] = np.float64(values.pop("preprocess_kwargs")["max_incr_per_pixel"])
    values |= {"precision": 16, "max_epochs": np.int64(20), "dataset_path": "/data", "use_label_freq": np.bool_(False)}
    if settings.models in ("Mobilenetv2Classifier", "SqueezenetClassifier"):
        values["forward_label_dict"] = dict(enumerate(settings.classes)) | {255: "ignore"}
        values["backward_label_dict"] = {label: i for i, label in values["forward_label_dict"].items()}
    state = {f"net.{name}": value for name, value in weights.items()}
    torch.save({"epoch": 3, "state_dict": state, "hyper_parameters": argparse.Namespace(**values)}, path)
    return weights


def test_metavisions_checkpoints_can_be_finetuned(tmp_path: Path, blobs: Path, hyper_of_each: HyperParameters) -> None:
    """Of classes of which the data set has one, at another place; the rate is 0, so that weights stay as they were."""
    recurrent = hyper_of_each.models in ("ConvRNNClassifier", "LeNetClassifier")
    theirs = ("up", "down", "left") if recurrent else ("background", "up", "down", "left")
    weights = write_metavisions(tmp_path / "theirs.ckpt", replace(hyper_of_each, classes=theirs))
    settings = replace(hyper_of_each, lr=0.0, wd=0.0)
    result = train(blobs, tmp_path / "out", settings, OPTIONS, finetune=tmp_path / "theirs.ckpt")
    found = load_checkpoint(result.last).weights
    *body, weight, bias = (name for name in found if name.endswith(("weight", "bias")))
    assert all(torch.equal(found[name], weights[name]) for name in body)
    for name in (weight, bias):
        assert torch.equal(found[name][:2], weights[name][[0, 3]])
    assert not torch.equal(found[weight][2], weights[weight][2])


# --- what goes wrong


@pytest.mark.parametrize("where", ["training", "validation"])
def test_training_that_diverges_is_a_sentence_and_leaves_the_checkpoints(
    tmp_path: Path, blobs: Path, hyper, trained: tuple[Path, TrainingResult], monkeypatch, where: str
) -> None:
    out = Path(shutil.copytree(trained[0], tmp_path / "out"))
    before = {path.name: path.read_bytes() for path in out.glob("*.ckpt")}
    settings = replace(hyper("ConvRNN"), lr=1e30)
    if where == "validation":  # as where the last step of an epoch is the one too many
        settings = replace(settings, lr=0.01)
        monkeypatch.setattr(ClassificationModel, "_mean_loss", lambda *_: float("nan"))
    with pytest.raises(EdgeclfError, match=r"Training diverged: .* the .*loss is no longer a number.*--lr") as caught:
        train(blobs, out, settings, replace(OPTIONS, max_epochs=5), resume=out / "last.ckpt")
    assert caught.value.exit_code == 1
    assert {path.name: path.read_bytes() for path in out.glob("*.ckpt")} == before


def test_processes_that_cannot_report_back_are_refused(tmp_path: Path, blobs: Path, hyper) -> None:
    for strategy in ("ddp_spawn", "ddp_fork", "ddp_notebook"):
        with pytest.raises(UsageError, match=f"--strategy {strategy} .*give --strategy ddp"):
            train(blobs, tmp_path, hyper("ConvRNN"), replace(OPTIONS, devices="2", strategy=strategy))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"devices": "many"}, UsageError),
        ({"devices": "0"}, UsageError),
        ({"devices": "-3"}, UsageError),
        ({"precision": "3-true"}, UsageError),
        ({"accelerator": "abacus"}, UsageError),
        ({"max_time": "soon"}, UsageError),
        ({"strategy": "together"}, UsageError),
        ({"num_nodes": 0}, UsageError),
    ],
)
def test_options_that_lightning_refuses_are_a_sentence(
    tmp_path: Path, blobs: Path, hyper, change: dict[str, Any], kind: type[EdgeclfError]
) -> None:
    with pytest.raises(kind, match="Lightning cannot train with") as caught:
        train(blobs, tmp_path, hyper("ConvRNN"), replace(OPTIONS, **change))
    assert "\n" not in str(caught.value)
    assert type(caught.value) is kind


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("accelerator", ["gpu", "cuda"])
def test_a_gpu_that_is_not_there_is_an_error_of_the_device(
    tmp_path: Path, blobs: Path, hyper, accelerator: str
) -> None:
    with pytest.raises(DeviceError, match=f"--accelerator {accelerator}"):
        train(blobs, tmp_path, hyper("ConvRNN"), replace(OPTIONS, accelerator=accelerator))


def test_too_little_memory_is_an_error_of_the_device(
    tmp_path: Path, blobs: Path, hyper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ClassificationModel, "training_step", full)
    with pytest.raises(DeviceError, match="too small for this training; give a smaller --batch-size"):
        train(blobs, tmp_path, hyper("ConvRNN"), OPTIONS)


def test_a_loading_process_that_is_ended_is_a_sentence(
    tmp_path: Path, blobs: Path, hyper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        for process in multiprocessing.active_children():
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(30)  # which torch's handler of ended processes interrupts

    monkeypatch.setattr(ClassificationModel, "training_step", full)
    with pytest.raises(EdgeclfError, match=r"processes that load batches was ended from outside.*--num-workers"):
        train(blobs, tmp_path, replace(hyper("ConvRNN"), num_workers=1), OPTIONS)


def test_time_that_runs_out_leaves_a_checkpoint(
    tmp_path: Path, blobs: Path, hyper, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = ClassificationModel.training_step

    def slow(self: ClassificationModel, batch: Any, batch_nb: int) -> Any:
        time.sleep(1.1)
        return step(self, batch, batch_nb)

    monkeypatch.setattr(ClassificationModel, "training_step", slow)
    result = train(blobs, tmp_path, hyper("ConvRNN"), replace(OPTIONS, max_epochs=9, max_time="00:00:00:01"))
    assert result.epochs == 1
    assert content_of(result.last)["global_step"] == 1
    assert load_checkpoint(result.best).build_model()


def test_training_that_trains_nothing_is_an_error(
    tmp_path: Path, blobs: Path, hyper, trained: tuple[Path, TrainingResult]
) -> None:
    settings, options = replace(hyper("ConvRNN"), lr=0.01), replace(OPTIONS, max_epochs=3)
    with pytest.raises(EdgeclfError, match="Nothing was trained"):
        train(blobs, tmp_path, settings, options, resume=trained[1].last)


def test_an_out_that_is_a_file_is_refused_before_training(tmp_path: Path, blobs: Path, hyper) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="no file can be written there"):
            train(blobs, out, hyper("ConvRNN"), OPTIONS)


@pytest.fixture
def folder(tmp_path: Path, blobs: Path) -> Path:
    return Path(shutil.copytree(blobs, tmp_path / "data"))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_that_is_missing_or_without_labels_is_refused(
    folder: Path, hyper, add_recording: Callable[..., Path], split: str
) -> None:
    settings, out = replace(hyper("ConvRNN"), classes=("left",)), folder / "out"
    frames = np.zeros((4, 2, 48, 48), np.float32)
    shutil.rmtree(folder / split)
    with pytest.raises(InputFileError, match=f"no folder {split}"):
        train(folder, out, settings, OPTIONS)
    add_recording(folder / split, "all_right", frames, [1] * 4)  # which this model does not know
    with pytest.raises(InputFileError, match=f"{split}: no frame has a label"):
        train(folder, out, settings, OPTIONS)
    assert not out.exists()


# --- what stays as it was


def test_training_leaves_no_trace_in_its_inputs(folder: Path, tmp_path: Path, hyper) -> None:
    settings = hyper("ConvRNN")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    kept = copy.deepcopy(settings)
    train(folder, tmp_path / "out", settings, OPTIONS)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert settings == kept


def test_the_module_loads_again_by_lightnings_own_way(trained: tuple[Path, TrainingResult]) -> None:
    _, result = trained
    again = ClassificationModel.load_from_checkpoint(result.last)
    weights = load_checkpoint(result.last).weights
    assert all(torch.equal(value, weights[name]) for name, value in again.net.state_dict().items())
