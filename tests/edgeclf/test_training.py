from __future__ import annotations

import copy
import csv
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data_module import ClassificationDataModule
from edgeclf.evaluation import evaluate
from edgeclf.hyperparameters import HyperParameters
from edgeclf.lightning_model import ClassificationModel
from edgeclf.training import TrainerOptions, TrainingResult, _quiet_lightning, hyperparameters_for, train
from edgeclf.utils_metrics import compute_kpis
from edgeclf_runtime.errors import DeviceError, EdgeclfError, InputFileError, UsageError

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
    result = train(blobs, tmp_path, settings, replace(OPTIONS, max_epochs=20))
    assert result.val_accuracy > 0.8
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val_acc"]]
    assert len(rows) == 20
    assert max(float(row["val_acc"]) for row in rows) == pytest.approx(result.val_accuracy)
    assert {"val_loss", "val_recording_acc"} <= rows[0].keys()


def test_files_are_where_they_are_promised(trained: tuple[Path, TrainingResult]) -> None:
    out, result = trained
    assert sorted(path.name for path in out.iterdir()) == ["best.ckpt", "hparams.yaml", "last.ckpt", "metrics.csv"]
    assert result.epochs == 3
    assert content_of(out / "last.ckpt")["epoch"] == 2


def test_the_learning_rate_falls_along_a_cosine(trained: tuple[Path, TrainingResult]) -> None:
    """0.01 · (1 + cos(2π/3)) / 2 in the last epoch of three."""
    (optimizer,) = content_of(trained[1].last)["optimizer_states"]
    assert optimizer["param_groups"][0]["lr"] == pytest.approx(0.01 / 4)


def test_best_is_the_best_and_last_is_the_last(
    tmp_path: Path, blobs: Path, hyper, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {0: 0.2, 1: 0.9, 2: 0.4, 3: 0.9}
    kpis = ClassificationModel._kpis
    monkeypatch.setattr(
        ClassificationModel, "_kpis", lambda self: kpis(self) | {"accuracy": scores[self.current_epoch]}
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


def test_a_second_training_in_the_same_folder_takes_the_place_of_the_first(
    tmp_path: Path, blobs: Path, hyper, trained: tuple[Path, TrainingResult]
) -> None:
    out = Path(shutil.copytree(trained[0], tmp_path / "out"))
    result = train(blobs, out, hyper("ConvRNN"), OPTIONS)
    assert content_of(result.best)["epoch"] == content_of(result.last)["epoch"] == 0
    assert sorted(path.name for path in out.iterdir()) == ["best.ckpt", "hparams.yaml", "last.ckpt", "metrics.csv"]


def test_lightnings_test_loop_gives_the_kpis(blobs: Path, trained: tuple[Path, TrainingResult]) -> None:
    loaded = load_checkpoint(trained[1].best)
    data = ClassificationDataModule(loaded.hyperparameters.to_dict(), blobs)
    module = ClassificationModel(loaded.hyperparameters.to_dict())
    module.net.load_state_dict(dict(loaded.weights))
    with _quiet_lightning():
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
    with pytest.raises(UsageError, match=r"best\.ckpt: its weights do not fit ConvRNNClassifier"):
        train(blobs, tmp_path / "x", replace(settings, feature_base=4), OPTIONS, finetune=trained[1].best)


# --- what goes wrong


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"devices": "many"}, UsageError),
        ({"devices": "0"}, UsageError),
        ({"devices": "-3"}, UsageError),
        ({"precision": "3-true"}, UsageError),
        ({"accelerator": "abacus"}, UsageError),
        ({"max_time": "soon"}, UsageError),
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


# --- hyper-parameters


def test_hyper_parameters_come_from_the_data_set(blobs: Path, hyper) -> None:
    found = hyperparameters_for(
        blobs, "ConvRNNClassifier", feature_base=2, feature_channels_out=8, num_tbins=4, lr=None
    )
    assert found == replace(hyper("ConvRNN"), batch_size=8)
    assert hyperparameters_for(blobs, "SqueezenetClassifier").classes == ("background", "left", "right")


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


def test_more_processes_than_one_are_refused(tmp_path: Path, blobs: Path, hyper) -> None:
    with pytest.raises(UsageError, match="make 2 processes"):
        train(
            blobs,
            tmp_path,
            hyper("ConvRNN"),
            TrainerOptions(max_epochs=1, accelerator="cpu", devices="2", progress_bar=False),
        )
