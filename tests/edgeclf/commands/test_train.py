from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgeclf.checkpoint import load_checkpoint

SMALL = ("--max-epochs", 1, "--feature-base", 2, "--feature-channels-out", 8, "--accelerator", "cpu", "--devices", 1)


def test_training_resuming_and_finetuning(tmp_path: Path, blobs: Path, run) -> None:
    out = tmp_path / "läufe 1"
    first = run("train", blobs, out, *SMALL, "--batch-size", 50, "--num-tbins", 40, "--json", "-")
    assert first.code == 0, first.err
    assert first.err.startswith(f"{out / 'best.ckpt'}: ")
    assert "of the validation frames right, after 1 epochs" in first.err
    document = json.loads(first.out)
    assert document.keys() == {"best", "last", "epochs", "val_accuracy"}
    assert document["best"] == str(out / "best.ckpt")
    hyper = load_checkpoint(out / "last.ckpt").hyperparameters
    assert (hyper.models, hyper.batch_size, hyper.num_tbins) == ("ConvRNNClassifier", 50, 40)
    assert (hyper.feature_base, hyper.feature_channels_out, hyper.classes) == (2, 8, ("left", "right"))

    second = run("train", blobs, out, *SMALL[2:], "--max-epochs", 2, "--resume", "--json", tmp_path / "a.json", "-q")
    assert (second.code, second.err, second.out) == (0, "", "")
    assert json.loads((tmp_path / "a.json").read_text())["epochs"] == 2

    other = tmp_path / "other"
    third = run("train", blobs, other, *SMALL[2:], "--max-epochs", 3, "--resume", "--checkpoint", out / "last.ckpt")
    assert third.code == 0, third.err
    assert third.err.endswith("after 3 epochs\n")
    fourth = run("train", blobs, other, *SMALL, "--finetune", "--checkpoint", out / "best.ckpt")
    assert fourth.code == 0, fourth.err
    assert (other / "best.ckpt").is_file()


@pytest.mark.parametrize("name", ["squeezenet", "SqueezenetClassifier"])
def test_the_options_of_feed_forward_models(tmp_path: Path, blobs: Path, run, name: str) -> None:
    ran = run("train", blobs, tmp_path, *SMALL, "--model", name, "--num-ev-reps", 2, "--lr", 0.01, "--wd", 0)
    assert ran.code == 0, ran.err
    hyper = load_checkpoint(tmp_path / "best.ckpt").hyperparameters
    assert (hyper.models, hyper.num_ev_reps, hyper.lr, hyper.wd) == ("SqueezenetClassifier", 2, 0.01, 0.0)
    assert hyper.labels == ("background", "left", "right")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "ResNet"], "no model called 'ResNet'; there are ConvRNN, LeNet, Mobilenetv2, Squeezenet"),
        (["--resume", "--finetune"], "give one of them"),
        (["--finetune"], "name it with --checkpoint"),
        (["--checkpoint", "a.ckpt"], "where --resume goes on or --finetune starts"),
        (["--resume"], "last.ckpt: there is no such checkpoint file"),
        (["--devices", "none"], "--devices none"),
        (["--precision", "7"], "--precision 7"),
        (["--max-time", "now"], "--max-time now"),
        (["--seed", "-1"], "--seed"),
        (["--max-epochs", "0"], "--max-epochs"),
        (["--lr", "0"], "--lr"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(tmp_path: Path, blobs: Path, run, arguments, says: str) -> None:
    ran = run("train", blobs, tmp_path / "out", "--accelerator", "cpu", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert "Traceback" not in ran.err
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_folder_that_is_no_data_set(tmp_path: Path, run) -> None:
    ran = run("train", tmp_path, tmp_path / "out")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        f"Error: {tmp_path}: this data set folder has no label_map_dictionary.json, which names the classes "
        '(like {"0": "paper", "1": "rock"}).\n'
    )


@pytest.mark.slow
def test_a_terminals_user_sees_no_warnings(tmp_path: Path, blobs: Path) -> None:
    """In a process of its own, where warnings are shown as they are to a user."""
    command = [sys.executable, "-c", "from edgeclf.cli import main; main()", "train", blobs, tmp_path, *SMALL]
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    assert [line.split(":")[0] for line in ran.stderr.splitlines()] == [str(tmp_path / "best.ckpt")]
