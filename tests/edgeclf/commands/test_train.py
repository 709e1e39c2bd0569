from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data.labels import write_label_map

SMALL = ("--max-epochs", 1, "--feature-base", 2, "--feature-channels-out", 8, "--accelerator", "cpu", "--devices", 1)


def test_training_resuming_and_finetuning(tmp_path: Path, blobs: Path, run) -> None:
    out = tmp_path / "läufe 1"
    first = run("train", blobs, out, *SMALL, "--batch-size", 50, "--num-tbins", 40, "--json", "-")
    assert first.code == 0, first.err
    assert first.err.startswith(f"{out / 'best.ckpt'}: ")
    assert "of the validation frames right, after 1 epoch\n" in first.err
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
    start = ("--finetune", "--checkpoint", out / "best.ckpt")
    refused = run("train", blobs, other, *SMALL, *start)
    assert (refused.code, refused.out) == (2, "")
    assert "it holds the checkpoints of a training" in refused.err
    fourth = run("train", blobs, other, *SMALL, *start, "--overwrite")
    assert fourth.code == 0, fourth.err
    assert fourth.err.startswith(f"{out / 'best.ckpt'}: the outputs background, left, right are taken over\n")
    assert load_checkpoint(other / "best.ckpt").epoch == 0


def test_resuming_keeps_what_is_not_given(tmp_path: Path, blobs: Path, run) -> None:
    machine = SMALL[-4:]
    first = run(
        "train", blobs, tmp_path, *machine, "--model", "squeezenet", "--max-epochs", 2, "--lr", 0.01, "--seed", 7,
        "--batch-size", 9, "--precision", "bf16-mixed", "--patience", 5, "--num-ev-reps", 2,
    )  # fmt: skip
    assert first.code == 0, first.err
    before = load_checkpoint(tmp_path / "last.ckpt")
    assert before.trained_with == {"max_epochs": 2, "seed": 7, "precision": "bf16-mixed", "patience": 5}
    second = run("train", blobs, tmp_path, *machine, "--resume", "--max-epochs", 3, "--wd", 0.5)
    assert second.code == 0, second.err
    after = load_checkpoint(tmp_path / "last.ckpt")
    assert after.hyperparameters == replace(before.hyperparameters, wd=0.5)
    assert after.trained_with == before.trained_with | {"max_epochs": 3}
    assert after.epoch == 2
    done = run("train", blobs, tmp_path, *machine, "--resume")  # three epochs, as before
    assert done.code == 0, done.err
    assert done.err.endswith("after 3 epochs\n")


def test_every_hyper_parameter_has_its_option(tmp_path: Path, blobs: Path, run) -> None:
    given = {
        "lr": 0.01, "lr_scheduler_step_gamma": 0.5, "wd": 0.125, "class_weights": (0.5, 1.0, 2.0), "batch_size": 3,
        "num_tbins": 4, "max_consecutive_batch": 2, "num_workers": 0, "label_delta_t": 20_000, "random_shift": 1,
        "random_rotation": 10.0, "random_scale": 0.125, "random_shear": 5.0, "random_crop": 0.25,
        "flip_horizontal": 0.5, "flip_vertical": 0.25, "feature_base": 2, "feature_channels_out": 8,
        "width_mul": 0.5, "num_ev_reps": 1, "preprocess": "histo", "delta_t": 10_000,
    }  # fmt: skip
    options: list[object] = ["--max-incr-per-pixel", 5, "--height-width", 32, 40]
    for name, value in given.items():
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        options += [f"--{name.replace('_', '-')}", shown]
    ran = run(
        "train", blobs, tmp_path, *options, "--use-label-freq", "--interpolate-labels", "--max-epochs", 1, *SMALL[-4:]
    )
    assert ran.code == 0, ran.err
    found = load_checkpoint(tmp_path / "best.ckpt").hyperparameters
    assert {name: getattr(found, name) for name in given} == given
    assert found.use_label_freq
    assert found.interpolate_labels
    assert (found.height, found.width, found.preprocess_kwargs) == (32, 40, {"max_incr_per_pixel": 5.0})
    of_the_data = {"models", "classes", "height", "width", "preprocess_kwargs", "mode", "preprocess_channels"}
    of_the_data |= {"event_input_height", "event_input_width", "n_events"}
    flags = {"use_label_freq", "interpolate_labels"}
    assert {field.name for field in fields(found)} == given.keys() | of_the_data | flags


def test_smaller_frames_stay_where_training_goes_on(tmp_path: Path, blobs: Path, run) -> None:
    first = run("train", blobs, tmp_path, *SMALL, "--height-width", 32, 40)
    assert first.code == 0, first.err
    second = run("train", blobs, tmp_path, *SMALL[-4:], "--resume", "--max-epochs", 2)
    assert second.code == 0, second.err
    assert load_checkpoint(tmp_path / "last.ckpt").hyperparameters.height == 32
    third = run("train", blobs, tmp_path, *SMALL[-4:], "--resume", "--max-epochs", 3, "--height-width", 40, 40)
    assert third.code == 2
    assert "height was 32 and is 40" in third.err


def test_recordings_are_trained_on_as_chosen_and_gone_on_with(tmp_path: Path, run) -> None:
    """Random events of a sensor of 48×48 pixels, in DAT files."""
    rng = np.random.default_rng(0)
    data, out = tmp_path / "data", tmp_path / "out"
    for split in ("train", "val"):
        (data / split).mkdir(parents=True)
        t = np.sort(rng.integers(0, 40_000, 3000)).astype("<u4")
        x, y, p = rng.integers(0, 48, t.size), rng.integers(0, 48, t.size), rng.integers(0, 2, t.size)
        words = np.stack([t, (x | y << 14 | p << 28).astype("<u4")], axis=1)
        header = b"% Width 48\n% Height 48\n% Version 2\n" + bytes([0, 8])
        (data / split / "a_td.dat").write_bytes(header + words.tobytes())
        np.savez(data / split / "a_labels.npz", ts=np.arange(0, 40_000, 10_000), labels=np.array([0, 1, 0, 1]))
    (data / "label_map_dictionary.json").write_text('{"0": "a", "1": "b"}')
    chosen = ("--preprocess", "diff", "--delta-t", 5000, "--max-incr-per-pixel", 2, "--height-width", 32, 32)
    first = run("train", data, out, *SMALL, *chosen)
    assert first.code == 0, first.err
    before = load_checkpoint(out / "last.ckpt").hyperparameters
    assert (before.preprocess, before.delta_t, before.preprocess_kwargs) == ("diff", 5000, {"max_incr_per_pixel": 2.0})
    assert (before.height, before.width, before.preprocess_channels) == (32, 32, 1)
    second = run("train", data, out, *SMALL[-4:], "--resume", "--max-epochs", 2)
    assert second.code == 0, second.err
    assert load_checkpoint(out / "last.ckpt").hyperparameters == before
    third = run("train", data, out, *SMALL[-4:], "--resume", "--max-epochs", 3, "--delta-t", 10_000)
    assert third.code == 2
    assert "delta_t was 5000 and is 10000" in third.err


def test_a_stopped_training_is_not_gone_on_with(tmp_path: Path, blobs: Path, run) -> None:
    """With a rate so small that no weight changes, the loss falls in the first epoch alone."""
    tiny = ("--lr", 1e-30, "--wd", 0, "--patience", 1, "--model", "squeezenet")
    first = run("train", blobs, tmp_path, *SMALL[2:], "--max-epochs", 9, *tiny)
    assert first.code == 0, first.err
    assert first.err.endswith("after 2 epochs\n")
    again = run("train", blobs, tmp_path, *SMALL[-4:], "--resume")
    assert (again.code, again.out) == (2, "")
    assert "give a larger --patience than 1" in again.err


def test_balanced_class_weights_are_those_of_the_training_frames(tmp_path: Path, blobs: Path, run) -> None:
    """Recordings of 9, 6, 13 and 7 frames, the first two of each background, the classes in turn."""
    ran = run("train", blobs, tmp_path, *SMALL, "--class-weights", "balanced")
    assert ran.code == 0, ran.err
    expected = [35 / (3 * frames) for frames in (8, 7 + 11, 4 + 5)]
    assert load_checkpoint(tmp_path / "best.ckpt").hyperparameters.class_weights == pytest.approx(expected)
    assert ran.err.startswith("class weights: background 1.46, left 0.648, right 1.3\n")


def test_the_default_batch_is_as_the_help_says(tmp_path: Path, blobs: Path, run) -> None:
    shown = " ".join(run("train", "--help").out.split())
    assert "for feed-forward models windows of frames. [default: (8 recordings, 64 windows)" in shown
    for name, size in (("ConvRNN", 8), ("Squeezenet", 64)):
        ran = run("train", blobs, tmp_path / name, *SMALL, "--model", name)
        assert ran.code == 0, ran.err
        assert load_checkpoint(tmp_path / name / "best.ckpt").hyperparameters.batch_size == size


def test_videos_and_both_logs(tmp_path: Path, blobs: Path, run) -> None:
    both = ("--logger", "csv", "--logger", "tensorboard")
    ran = run("train", blobs, tmp_path / "a", *SMALL, "--demo-every", 1, *both)
    assert ran.code == 0, ran.err
    video = tmp_path / "a" / "videos" / "demo_epoch_000.mp4"
    assert video.is_file()
    assert f"{video}: a demo video, after epoch 0\n" in ran.err
    assert {"metrics.csv", "tensorboard"} <= {path.name for path in (tmp_path / "a").iterdir()}
    assert run("train", blobs, tmp_path / "b", *SMALL, "--logger", "tensorboard").code == 0
    assert not (tmp_path / "b" / "metrics.csv").exists()


def test_training_that_diverges_ends_with_exit_code_1(tmp_path: Path, blobs: Path, run) -> None:
    ran = run("train", blobs, tmp_path, *SMALL, "--max-epochs", 5, "--lr", 1e30)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: Training diverged: ")
    assert len(ran.err.splitlines()) == 1


def test_where_the_json_goes_is_checked_before_training(tmp_path: Path, blobs: Path, run) -> None:
    ran = run("train", blobs, tmp_path / "out", *SMALL, "--json", tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert "this is a folder" in ran.err
    assert not (tmp_path / "out").exists()


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
        (["--use-label-freq"], "give it with --label-delta-t"),
        (["--label-delta-t", "10000"], "give that too"),
        (["--class-weights", "heavy"], "--class-weights heavy"),
        (["--class-weights", "1,2"], "2 class_weights and 3 outputs (background, left, right)"),
        (["--class-weights", "1,nan,1"], "class_weights"),
        (["--patience", "0"], "--patience"),
        (["--logger", "paper"], "--logger"),
        (["--strategy", "ddp_spawn", "--devices", "2"], "give --strategy ddp"),
        (["--devices", "none"], "--devices none"),
        (["--precision", "7"], "--precision 7"),
        (["--max-time", "now"], "--max-time now"),
        (["--seed", "-1"], "--seed"),
        (["--max-epochs", "0"], "--max-epochs"),
        (["--lr", "0"], "--lr"),
        (["--height-width", "48"], "--height-width"),
        (["--height-width", "0", "48"], "--height-width"),
        (["--height-width", "64", "64"], "48"),
        (["--model", "lenet", "--height-width", "40", "40"], "at least 48×48"),
        (["--preprocess", "sorcery"], "--preprocess"),
        (["--preprocess", "diff"], "its frames were made with preprocess histo"),
        (["--delta-t", "5000"], "its frames were made with delta_t 10000"),
        (["--max-incr-per-pixel", "2"], "its frames were made with max_incr_per_pixel 5.0"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(tmp_path: Path, blobs: Path, run, arguments, says: str) -> None:
    ran = run("train", blobs, tmp_path / "out", "--accelerator", "cpu", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.err
    assert "Traceback" not in ran.err
    assert not list(tmp_path.rglob("*.ckpt"))


def test_an_option_that_means_nothing_to_the_model_is_said(tmp_path: Path, blobs: Path, run) -> None:
    ran = run("train", blobs, tmp_path, *SMALL, "--num-ev-reps", 3)
    assert ran.code == 0
    assert (
        "--num-ev-reps means nothing to ConvRNNClassifier and is not used; it is for Mobilenetv2Classifier" in ran.err
    )


def test_resuming_on_another_data_set_is_a_sentence(tmp_path: Path, blobs: Path, run) -> None:
    assert run("train", blobs, tmp_path / "out", *SMALL, "--class-weights", "balanced").code == 0
    other = tmp_path / "other"
    shutil.copytree(blobs, other)
    write_label_map(other, ["left", "right", "up"])
    ran = run("train", other, tmp_path / "out", "--max-epochs", 2, "--resume")
    assert ran.code == 2
    assert "trained on a data set with the classes left, right, and" in ran.err
    assert "has left, right, up; give that data set" in ran.err


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


@pytest.mark.slow
def test_the_progress_bar_is_on_standard_error_alone(tmp_path: Path, blobs: Path) -> None:
    """Standard error is a terminal here, and standard output, where the result goes, a pipe."""
    terminal, other_end = pty.openpty()
    fcntl.ioctl(other_end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))  # rows and columns
    command = [sys.executable, "-c", "from edgeclf.cli import main; main()", "train", blobs, tmp_path, *SMALL]
    with subprocess.Popen(
        [str(part) for part in [*command, "--json", "-"]], stdout=subprocess.PIPE, stderr=other_end, text=True
    ) as process:
        os.close(other_end)
        shown = b""
        with contextlib.suppress(OSError):  # a terminal whose other end is closed
            while part := os.read(terminal, 65536):
                shown += part
        assert process.stdout is not None
        document = json.loads(process.stdout.read())
    os.close(terminal)
    assert process.returncode == 0
    assert document["epochs"] == 1
    assert "Epoch 0: 100%" in shown.decode()
    assert "val_loss" in shown.decode()
