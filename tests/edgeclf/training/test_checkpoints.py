from __future__ import annotations

import argparse
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf.lightning_model import ClassificationModel
from edgeclf.training import TrainerOptions, train
from edgeclf.training.checkpoints import WholeCheckpoints
from edgeclf_runtime.errors import EdgeclfError, InputFileError

OPTIONS = TrainerOptions(max_epochs=1, accelerator="cpu", devices="1", progress_bar=False)

# Ends itself by force when it has written the first half of a checkpoint's bytes.
KILLED = """
import io, os, signal, sys
import torch
from edgeclf.training.checkpoints import WholeCheckpoints

save = torch.save

def killed(content, target, *rest):
    whole = io.BytesIO()
    save(content, whole)
    target.write(whole.getvalue()[:len(whole.getvalue()) // 2])
    target.flush()
    os.kill(os.getpid(), signal.SIGKILL)

torch.save = killed
WholeCheckpoints().save_checkpoint({"weights": torch.ones(10_000)}, sys.argv[1])
"""


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """The validation accuracy of each epoch, to be filled in."""
    scores: dict[int, float] = {}
    kpis = ClassificationModel._kpis
    monkeypatch.setattr(
        ClassificationModel, "_kpis", lambda self, found: kpis(self, found) | {"accuracy": scores[self.current_epoch]}
    )
    return scores


def content_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def test_a_checkpoint_is_what_torch_saves(tmp_path: Path) -> None:
    path = tmp_path / "läufe" / "a.ckpt"
    WholeCheckpoints().save_checkpoint({"a": torch.arange(3), "b": [1, "é"]}, path)
    found = content_of(path)
    assert (found["a"].tolist(), found["b"]) == ([0, 1, 2], [1, "é"])
    again = WholeCheckpoints().load_checkpoint(path)
    assert (again["a"].tolist(), again["b"]) == ([0, 1, 2], [1, "é"])
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]


def test_a_process_that_ends_while_it_writes_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"old": torch.zeros(5)}, path)
    before = path.read_bytes()
    ran = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert path.read_bytes() == before
    (part,) = set(tmp_path.iterdir()) - {path}  # so it was in the middle of it, and in this folder
    assert 10_000 < part.stat().st_size < 40_000


def test_training_writes_beside_the_target_and_clears_what_a_killed_one_left(
    tmp_path: Path, blobs: Path, hyper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file that training moves to its place comes from the same folder."""
    tmp_path.joinpath(f".last.{ended_process()}.part.ckpt").write_bytes(b"half")
    moved: list[tuple[Path, Path]] = []
    replace_by = Path.replace

    def seen(self: Path, target: Any) -> Path:
        moved.append((self, Path(target)))
        return replace_by(self, target)

    def refused(*paths: object, **_: object) -> None:
        raise AssertionError(f"copied over: {paths}")

    monkeypatch.setattr(Path, "replace", seen)
    monkeypatch.setattr(shutil, "move", refused)
    train(blobs, tmp_path, hyper("ConvRNN"), OPTIONS)
    assert {target.name for _, target in moved} >= {"best.ckpt", "last.ckpt"}
    assert all(source.parent == target.parent for source, target in moved)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.ckpt", "hparams.yaml", "last.ckpt", "metrics.csv"]


def ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"old": torch.zeros(5)}, path)
    before = path.read_bytes()

    class Unwilling:
        def __reduce__(self) -> str:
            raise ValueError("not me")

    with pytest.raises(ValueError, match="not me"):
        WholeCheckpoints().save_checkpoint({"a": torch.ones(1000), "b": Unwilling()}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_a_sentence() -> None:
    with pytest.raises(EdgeclfError, match=r"/dev/full: this checkpoint could not be written \(No space left"):
        WholeCheckpoints().save_checkpoint({"a": torch.ones(100_000)}, "/dev/full")


def test_the_best_score_moves_with_the_folder(
    tmp_path: Path, blobs: Path, hyper, scored: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    scored |= {0: 0.2, 1: 0.9, 2: 0.4, 3: 0.5, 4: 0.95}
    settings = hyper("ConvRNN")
    train(blobs, tmp_path / "a", settings, replace(OPTIONS, max_epochs=2))
    best = (tmp_path / "a" / "best.ckpt").read_bytes()
    (tmp_path / "a").rename(tmp_path / "b é")
    monkeypatch.chdir(tmp_path)
    out = Path("b é")
    result = train(blobs, out, settings, replace(OPTIONS, max_epochs=4), resume=out / "last.ckpt")
    assert (out / "best.ckpt").read_bytes() == best
    assert result.val_accuracy == pytest.approx(0.9)
    assert (content_of(out / "best.ckpt")["epoch"], content_of(out / "last.ckpt")["epoch"]) == (1, 3)
    better = train(blobs, out, settings, replace(OPTIONS, max_epochs=5), resume=out / "last.ckpt")
    assert better.val_accuracy == pytest.approx(0.95)
    assert content_of(out / "best.ckpt")["epoch"] == 4
    assert not (tmp_path / "a").exists()


def test_in_another_folder_the_best_is_the_best_from_then_on(
    tmp_path: Path, blobs: Path, hyper, scored: dict[int, float]
) -> None:
    """And so it is in the same one where somebody took best.ckpt away."""
    scored |= {0: 0.9, 1: 0.3, 2: 0.2}
    settings, options = hyper("ConvRNN"), replace(OPTIONS, max_epochs=3)
    first = train(blobs, tmp_path / "a", settings, OPTIONS)
    before = first.best.read_bytes()
    result = train(blobs, tmp_path / "b", settings, options, resume=first.last)
    assert result.val_accuracy == pytest.approx(0.3)
    assert content_of(result.best)["epoch"] == 1
    assert first.best.read_bytes() == before
    first.best.unlink()
    again = train(blobs, tmp_path / "a", settings, options, resume=first.last)
    assert again.val_accuracy == pytest.approx(0.3)
    assert content_of(again.best)["epoch"] == 1


def test_older_trainings_checkpoints_go_on(tmp_path: Path, blobs: Path, hyper, scored: dict[int, float]) -> None:
    """Lightning's own callbacks keep their state under these names."""
    scored |= {0: 0.9, 1: 0.3}
    result = train(blobs, tmp_path, hyper("ConvRNN"), replace(OPTIONS, patience=3))
    names = sorted(name.partition("{")[0] for name in content_of(result.last)["callbacks"])
    assert names == ["EarlyStopping", "ModelCheckpoint", "ModelCheckpoint"]


@pytest.mark.parametrize("form", ["namespace", "numpy"])
def test_going_on_admits_what_loading_admits(tmp_path: Path, blobs: Path, hyper, form: str) -> None:
    result = train(blobs, tmp_path, hyper("ConvRNN"), OPTIONS)
    content = content_of(result.last)
    values = content["hyper_parameters"] | {"height": np.int64(48), "lr": np.float32(0.001)}
    content["hyper_parameters"] = argparse.Namespace(**values) if form == "namespace" else values
    torch.save(content, result.last)
    settings = load_checkpoint(result.last).hyperparameters
    again = train(blobs, tmp_path, settings, replace(OPTIONS, max_epochs=2), resume=result.last)
    assert again.epochs == 2


def test_reading_refuses_what_is_not_admitted(tmp_path: Path) -> None:
    torch.save({"a": Path("x")}, tmp_path / "a.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        WholeCheckpoints().load_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    with pytest.raises(InputFileError, match="Python objects"):
        load_checkpoint(tmp_path / "a.ckpt")
