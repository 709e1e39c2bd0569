from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data_module import ClassificationDataModule
from edgeclf.evaluation import evaluate
from edgeclf.utils_metrics import compute_kpis


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
    assert found.keys() == {"kpis"}
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
