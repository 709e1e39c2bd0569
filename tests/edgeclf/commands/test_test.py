from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data.labels import LabelEvents, write_box_labels, write_label_map
from edgeclf.data_module import ClassificationDataModule
from edgeclf.evaluation import evaluate
from edgeclf.utils_metrics import compute_kpis, compute_recording_kpis
from edgeclf_runtime.tensor_file import TensorAttributes, write_tensor_file


@pytest.fixture
def checkpoint(tmp_path: Path, hyper, build) -> Path:
    settings = hyper("ConvRNN")
    weights = {f"net.{name}": value for name, value in build(settings).state_dict().items()}
    torch.save({"state_dict": weights, "hyper_parameters": settings.to_dict()}, tmp_path / "a é.ckpt")
    return tmp_path / "a é.ckpt"


@pytest.mark.parametrize("split", ["test", "val"])
def test_kpis_as_a_table_and_as_json(checkpoint: Path, blobs: Path, run, split: str) -> None:
    loaded = load_checkpoint(checkpoint)
    data = ClassificationDataModule(loaded.hyperparameters.to_dict(), blobs)
    results = [recording.result() for recording in evaluate(loaded.build_model(), data.sequences(split))]
    expected = compute_kpis(results, loaded.hyperparameters.labels, 10_000)
    options = [] if split == "test" else ["--split", split]
    ran = run("test", checkpoint, blobs, *options, "--json", "-")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert found.keys() == {"kpis", "recordings"}
    numbers = {name: float("nan") if value is None else value for name, value in found["kpis"].items()}
    assert numbers == pytest.approx(expected, nan_ok=True)
    ran = run("test", checkpoint, blobs, *options)
    assert (ran.code, ran.err) == (0, "")
    rows = dict(line.split() for line in ran.out.splitlines()[1:])
    assert rows == {name: f"{value:.4f}" for name, value in expected.items()}


def test_json_into_a_file(checkpoint: Path, blobs: Path, run, tmp_path: Path) -> None:
    ran = run("test", checkpoint, blobs, "--json", tmp_path / "new" / "kpis.json")
    assert ran.code == 0
    assert "accuracy" in ran.out
    assert "accuracy" in json.loads((tmp_path / "new" / "kpis.json").read_text())["kpis"]


@pytest.fixture
def expected(checkpoint: Path, blobs: Path):
    """What the classifier gives for the recordings of the test split, and the names of its outputs."""
    loaded = load_checkpoint(checkpoint)
    data = ClassificationDataModule(loaded.hyperparameters.to_dict(), blobs)
    found = evaluate(loaded.build_model(), data.sequences("test"))
    return [recording.result() for recording in found], loaded.hyperparameters.labels


def test_a_line_for_each_recording(checkpoint: Path, blobs: Path, run, expected) -> None:
    results, labels = expected
    table = compute_recording_kpis(results, labels, 10_000)
    ran = run("test", checkpoint, blobs, "--recordings")
    _, _, listed = ran.out.partition("\n\n")
    lines = [line.split() for line in listed.splitlines()[1:]]
    assert [(name, int(frames), share) for name, frames, share, *_ in lines] == [
        (row.name, row.frames, f"{row.accuracy:.4f}") for row in table
    ]
    assert [name for name, *_ in lines] == ["test_0", "test_1", "test_2"]
    document = json.loads(run("test", checkpoint, blobs, "--json", "-").out)["recordings"]
    assert [row["name"] for row in document] == ["test_0", "test_1", "test_2"]
    assert [row["accuracy"] for row in document] == [
        accuracy_score(r.labels, r.predictions) for r in results if (r.labels >= 0).all()
    ]
    assert [row["gestures"] for row in document] == [1, 1, 1]


def test_plots_into_a_folder(checkpoint: Path, blobs: Path, run, tmp_path: Path, expected) -> None:
    folder = tmp_path / "neu é" / "plots"
    ran = run("test", checkpoint, blobs, "--plots", folder, "--worst", 2)
    assert ran.code == 0, ran.err
    assert str(folder / "worst" / "index.html") in ran.err
    assert "accuracy" in ran.out
    pictures = ["confusion.png", "precision_recall.png", "reliability.png", "roc.png", "time_to_prediction.png"]
    assert sorted(path.name for path in folder.iterdir()) == [*pictures, "worst"]
    assert sorted(path.name for path in (folder / "worst").iterdir()) == ["01.png", "02.png", "index.html"]
    for path in folder.rglob("*.png"):
        with Image.open(path) as image:
            assert len(image.convert("RGB").getcolors(1 << 24)) > 10
    results, _ = expected
    worst = sorted(results, key=lambda r: accuracy_score(r.labels, r.predictions))[0]
    assert f"<b>1. {worst.name}</b>" in (folder / "worst" / "index.html").read_text()


def test_frames_of_a_number_of_events_have_no_times_but_plots_all_the_same(hyper, build, run, tmp_path: Path) -> None:
    made = TensorAttributes("histo", 0, (48, 48), 0, {"max_incr_per_pixel": 5.0}, mode="n_events", n_events=50)
    rng = np.random.default_rng(0)
    ends = np.sort(rng.integers(1000, 90_000, 12))
    root = tmp_path / "data"
    write_tensor_file(root / "test" / "a.h5", list(rng.random((12, 2, 48, 48), np.float32)), made, ends)
    write_box_labels(root / "test" / "a_bbox.npy", LabelEvents(ends[4:8], np.array([0, 0, 1, 1])), (48, 48))
    write_label_map(root, ["left", "right"])
    settings = replace(hyper("ConvRNN"), mode="n_events", n_events=50)
    weights = {f"net.{name}": value for name, value in build(settings).state_dict().items()}
    torch.save({"state_dict": weights, "hyper_parameters": settings.to_dict()}, tmp_path / "a.ckpt")
    ran = run("test", tmp_path / "a.ckpt", root, "--json", "-", "--plots", tmp_path / "plots")
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert document["kpis"]["t2p_median_ms"] is None
    assert document["kpis"]["t2p_std_ms"] is None
    never = document["recordings"][0]["never_recognised"]
    assert document["kpis"]["t2p_never_recognised"] == never
    assert document["kpis"]["t2p_never_recognised_rate"] == never / 2  # two gestures: left, right
    assert document["recordings"][0]["t2p_median_ms"] is None
    assert (tmp_path / "plots" / "time_to_prediction.png").is_file()
    assert (tmp_path / "plots" / "worst" / "01.png").is_file()


def test_where_nothing_can_be_written_is_said_before_the_work(
    checkpoint: Path, blobs: Path, run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeclf.commands.test.evaluate", lambda *_: pytest.fail("it worked first"))
    (tmp_path / "file").touch()
    before = checkpoint.read_bytes()
    for arguments, says in (
        (("--json", tmp_path), "this is a folder"),
        (("--json", tmp_path / "file" / "kpis.json"), "cannot be written there"),
        (("--json", checkpoint), "would overwrite the checkpoint"),
        (("--plots", tmp_path / "file"), "cannot be written there"),
    ):
        ran = run("test", checkpoint, blobs, *arguments)
        assert (ran.code, ran.out) == (2, "")
        assert says in ran.err
        assert "Traceback" not in ran.err
    assert checkpoint.read_bytes() == before


def test_what_cannot_be_used_is_one_sentence(checkpoint: Path, blobs: Path, run, tmp_path: Path) -> None:
    for arguments, says in (
        ((tmp_path / "no.ckpt", blobs), "no such checkpoint file"),
        ((blobs / "label_map_dictionary.json", blobs), "not a PyTorch checkpoint"),
        ((checkpoint, tmp_path), "has no label_map_dictionary.json"),
        ((checkpoint, tmp_path / "nowhere"), "there is no such data set folder"),
        ((checkpoint, blobs, "--split", "all"), "--split"),
    ):
        ran = run("test", *arguments)
        assert (ran.code, ran.out) == (2, "")
        assert says in ran.err
        assert "Traceback" not in ran.err
