"""Training in processes of their own: killed in the middle, and several at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data.dataset import recordings
from edgeclf.data_module import ClassificationDataModule
from edgeclf.evaluation import evaluate
from edgeclf.hyperparameters import HyperParameters
from edgeclf.lightning_model import ClassificationModel
from edgeclf.training import TrainerOptions, train
from edgeclf.utils_metrics import compute_kpis

pytestmark = pytest.mark.slow

KILLED = """
import os, signal, sys
from edgeclf.cli import main
from edgeclf.lightning_model import ClassificationModel

step = ClassificationModel.training_step

def killed(self, batch, batch_nb):
    if (self.current_epoch, batch_nb) == (2, 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_nb)

ClassificationModel.training_step = killed
main()
"""
# What each process saw and has in the end goes to a file of its own. No dropout, which draws in each process anew.
WATCHED = """
import json, sys, torch
from pathlib import Path
from edgeclf.hyperparameters import HyperParameters
from edgeclf.lightning_model import ClassificationModel
from edgeclf.training import TrainerOptions, train

told = json.loads(sys.argv[1])
seen = []
step = ClassificationModel.training_step

def watched(self, batch, batch_nb):
    seen.extend((self.current_epoch, i.path, i.start_frame, i.frames) for i in batch["video_infos"] if i.path)
    return step(self, batch, batch_nb)

def without_dropout(self):
    for module in self.net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0

def at_the_end(self):
    left = {"seen": seen, "state": self.state_dict()}
    torch.save(left, Path(told["out"]) / f"process_{self.global_rank}.pt")

ClassificationModel.training_step = watched
ClassificationModel.on_fit_start = without_dropout
ClassificationModel.on_fit_end = at_the_end
torch.set_num_threads(1)
hyper = HyperParameters.from_mapping(told["hyper"])
train(Path(told["dataset"]), Path(told["out"]), hyper, TrainerOptions(**told["options"]))
"""


def program(tmp_path: Path, text: str) -> Path:
    (tmp_path / "program.py").write_text(text)
    return tmp_path / "program.py"


def run(*command: object) -> subprocess.CompletedProcess[str]:
    alone = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "RANK", "WORLD_SIZE")}
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=300,
        env=alone | {"OMP_NUM_THREADS": "1"},
        check=False,
    )


def watched(
    tmp_path: Path, dataset: Path, name: str, hyper: HyperParameters, devices: int, epochs: int = 2
) -> tuple[Path, list[dict[str, Any]]]:
    """Trains in so many processes; returns the folder, and what each saw and has in the end."""
    out = tmp_path / name
    options = {
        "max_epochs": epochs, "accelerator": "cpu", "devices": str(devices), "progress_bar": False,
        "strategy": "ddp" if devices > 1 else "auto",
    }  # fmt: skip
    told = {"dataset": str(dataset), "out": str(out), "hyper": hyper.to_dict(), "options": options}
    ran = run(sys.executable, program(tmp_path, WATCHED), json.dumps(told))
    assert ran.returncode == 0, ran.stderr
    return out, [torch.load(out / f"process_{rank}.pt", weights_only=True) for rank in range(devices)]


def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path: Path, blobs: Path) -> None:
    """`kill -9` in the second batch of the third epoch of four; Squeezenet draws dropout at random."""
    edgeclf = Path(sys.executable).with_name("edgeclf")
    arguments = [
        "train", blobs, tmp_path / "out", "--model", "Squeezenet", "--num-ev-reps", 2, "--batch-size", 4,
        "--lr", 0.002, "--seed", 3, "--max-epochs", 4, "--accelerator", "cpu", "--devices", 1, "--random-shift", 2,
    ]  # fmt: skip
    ran = run(sys.executable, program(tmp_path, KILLED), *arguments)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert load_checkpoint(tmp_path / "out" / "last.ckpt").epoch == 1
    again = run(edgeclf, "train", blobs, tmp_path / "out", "--resume", "--accelerator", "cpu", "--devices", 1)
    assert again.returncode == 0, again.stderr
    assert again.stderr.endswith("after 4 epochs\n")
    settings = load_checkpoint(tmp_path / "out" / "last.ckpt").hyperparameters
    train(blobs, tmp_path / "whole", settings, TrainerOptions(4, None, "cpu", "1", seed=3, progress_bar=False))
    for file in ("best.ckpt", "last.ckpt"):
        one, other = load_checkpoint(tmp_path / "out" / file), load_checkpoint(tmp_path / "whole" / file)
        assert all(torch.equal(one.weights[name], value) for name, value in other.weights.items())
        assert one.hyperparameters == other.hyperparameters
    table = (tmp_path / "whole" / "metrics.csv").read_text()
    assert (tmp_path / "out" / "metrics.csv").read_text() == table
    assert len(table.splitlines()) == 5


def test_two_processes_share_the_recordings_and_agree(tmp_path: Path, blobs: Path, hyper, add_recording) -> None:
    """With a batch of one recording, the processes have unequally much, and one of them a recording without a label."""
    data = tmp_path / "data"
    for split in ("train", "val"):
        (data / split).mkdir(parents=True)
        for path in (blobs / split).iterdir():
            (data / split / path.name).symlink_to(path)
    (data / "label_map_dictionary.json").symlink_to(blobs / "label_map_dictionary.json")
    frames = torch.rand(15, 2, 48, 48).numpy()
    add_recording(data / "train", "unlabelled", frames, [-1] * 15)
    settings = replace(hyper("ConvRNN"), batch_size=1, num_tbins=3, lr=0.01, class_weights=(0.5, 1.0, 2.0))
    out, left = watched(tmp_path, data, "out", settings, devices=2)

    of_each = recordings(data, "train", settings.labels, 10_000, "histo", {"max_incr_per_pixel": 5.0})
    every = sorted((str(r.path), start) for r in of_each for start in range(0, len(r), 3))
    for epoch in range(2):
        seen = [sorted((p, start) for e, p, start, _ in process["seen"] if e == epoch) for process in left]
        assert sorted(seen[0] + seen[1]) == every  # once, in one of them
        assert {p for p, _ in seen[0]}.isdisjoint(p for p, _ in seen[1])
        assert len(seen[0]) != len(seen[1])  # so one of them ended with filler alone
    states = [process["state"] for process in left]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())

    last = load_checkpoint(out / "last.ckpt")
    assert all(torch.equal(states[0][f"net.{name}"], value) for name, value in last.weights.items())
    data_module = ClassificationDataModule(settings.to_dict(), data)
    alone = [recording.result() for recording in evaluate(last.build_model(), data_module.sequences("val"))]
    kpis = compute_kpis(alone, settings.labels, 10_000)
    logged = dict(zip(*(line.split(",") for line in _lines(out)[:: len(_lines(out)) - 1]), strict=True))
    for name, value in (("val_acc", kpis["accuracy"]), ("val_recall_left", kpis["recall_left"])):
        assert float(logged[name]) == value
    assert len(_lines(out)) == 3  # header and two epochs: one process writes


def _lines(out: Path) -> list[str]:
    return (out / "metrics.csv").read_text().splitlines()


def test_two_processes_learn_what_one_with_twice_the_batch_learns(tmp_path: Path, blobs: Path, hyper) -> None:
    """Squeezenet has no batch normalisation, so nothing but rounding tells both apart; frames are 35, batches of 6."""
    settings = replace(hyper("Squeezenet"), lr=1e-4, class_weights=(0.2, 1.0, 3.0))
    _, one = watched(tmp_path, blobs, "one", replace(settings, batch_size=6), devices=1)
    _, two = watched(tmp_path, blobs, "two", replace(settings, batch_size=3), devices=2)
    together = sorted(two[0]["seen"] + two[1]["seen"])
    assert together == sorted(one[0]["seen"])
    start = _untrained(settings)
    for name, value in one[0]["state"].items():
        difference = (two[0]["state"][name] - value).abs()
        # Adam divides a gradient by its own size: where it is no larger than its rounding, which batches of other sizes
        # change, a weight may go another part of the learning rate. It is a few in a hundred thousand.
        assert (difference > 2e-6 + 1e-3 * value.abs()).float().mean() < 1e-3
        assert difference.max() < settings.lr / 4
        assert torch.equal(two[0]["state"][name], two[1]["state"][name])
    moved = [(one[0]["state"][name] - value).abs().max().item() for name, value in start.items()]
    assert max(moved) > 1e-4  # far more than that


def _untrained(settings: HyperParameters) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return ClassificationModel(settings.to_dict()).state_dict()


FAILS = """
import sys
from edgeclf.cli import main
from edgeclf.lightning_model import ClassificationModel
from edgeclf_runtime.errors import EdgeclfError

step = ClassificationModel.training_step

def failing(self, batch, batch_nb):
    if self.global_rank == {rank}:
        raise EdgeclfError("This one had a bad day.")
    return step(self, batch, batch_nb)

ClassificationModel.training_step = failing
main()
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_whose_other_one_failed_says_so_and_no_more(tmp_path: Path, blobs: Path, rank: int) -> None:
    ran = run(
        sys.executable, program(tmp_path, FAILS.format(rank=rank)), "train", blobs, tmp_path / "out", "--accelerator",
        "cpu", "--devices", 2, "--strategy", "ddp", "--max-epochs", 1, "--feature-base", 2,
    )  # fmt: skip
    assert ran.returncode != 0
    assert "Error: This one had a bad day.\n" in ran.stderr
    assert "Traceback" not in ran.stderr
    others = [line for line in ran.stderr.splitlines() if line != "Error: This one had a bad day."]
    known = "Error: Another process of this training ended, and its message says why; so this one ends too."
    assert set(others) <= {known}
    if rank:  # the other way round, the first process ends the other one
        assert others == [known]


def test_the_command_starts_the_other_process_and_one_of_them_reports(tmp_path: Path, blobs: Path) -> None:
    edgeclf = Path(sys.executable).with_name("edgeclf")
    ran = run(
        edgeclf, "train", blobs, tmp_path / "neu é", "--accelerator", "cpu", "--devices", 2, "--strategy", "ddp",
        "--max-epochs", 1, "--feature-base", 2, "--feature-channels-out", 8, "--json", "-",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["epochs"] == 1
    assert [line.split(":")[0] for line in ran.stderr.splitlines()] == [str(tmp_path / "neu é" / "best.ckpt")]
