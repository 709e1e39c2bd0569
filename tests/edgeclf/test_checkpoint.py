from __future__ import annotations

import argparse
import collections
import hashlib
import os
import pathlib
import pickle
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf.hyperparameters import HyperParameters
from edgeclf_runtime.errors import InputFileError

METAVISION = {
    "models": "ConvRNNClassifier",
    "classes": ["paper", "rock", "scissor"],
    "in_channels": 2,
    "feature_base": 2,
    "feature_channels_out": 8,
    "height": 32,
    "width": 40,
    "delta_t": np.int64(10_000),
    "preprocess": "histo",
    "max_incr_per_pixel": np.float64(5.0),
    "lr": np.float32(0.001),
    "dataset_path": "/data/rps",
    "use_label_freq": np.bool_(False),
    "frame_dtype": np.dtype("float32"),
    "num_workers": 2,
    "root_dir": None,
}
"""Names as Metavision ML 4's `train_classification.py` writes them, with the NumPy values that real files hold."""

FEED_FORWARD = {
    "models": "Mobilenetv2Classifier",
    "classes": ["background", "paper", "rock"],
    "forward_label_dict": {0: "background", 1: "paper", 2: "rock", 255: "ignore"},
    "backward_label_dict": {"background": 0, "paper": 1, "rock": 2, "ignore": 255},
    "preprocess_channels": 2,
    "width_mul": 0.1,
    "num_ev_reps": 2,
    "height": 32,
    "width": 32,
    "delta_t": 10_000,
    "preprocess": "histo",
    "preprocess_kwargs": {"max_incr_per_pixel": 5},
}


def lightning_file(hyper_parameters: Any, settings: HyperParameters) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Returns what a Lightning `.ckpt` holds, and the network's weights."""
    torch.manual_seed(0)
    weights = settings.build_model().state_dict()
    content = {
        "epoch": 3,
        "global_step": 40,
        "pytorch-lightning_version": "1.8.6",
        "state_dict": {**{f"net.{name}": w for name, w in weights.items()}, "criterion.weight": torch.ones(3)},
        "loops": {},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "dirpath": "/x"}},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": np.float64(1e-3)}]}],
        "lr_schedulers": [],
        "hparams_name": "hparams",
        "hyper_parameters": hyper_parameters,
    }
    return content, weights


@pytest.mark.parametrize("form", [dict, lambda values: argparse.Namespace(**values)], ids=["dict", "namespace"])
@pytest.mark.parametrize("values", [METAVISION, FEED_FORWARD], ids=["recurrent", "feed-forward"])
def test_metavision_checkpoints_load(tmp_path: Path, form: Callable[..., Any], values: dict[str, Any]) -> None:
    settings = HyperParameters.from_mapping(values)
    content, weights = lightning_file(form(values), settings)
    path = tmp_path / "a checkpoint é.ckpt"
    torch.save(content, path)
    loaded = load_checkpoint(str(path))
    assert loaded.hyperparameters == settings
    assert loaded.resumable
    assert loaded.path == path
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.weights.keys() == weights.keys()
    model = loaded.build_model()
    assert not model.training
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    x = torch.rand(3, 1, 2, settings.height, settings.width)
    with torch.inference_mode():
        expected = settings.build_model().eval()
        expected.load_state_dict(weights)
        assert torch.equal(model(x), expected(x))


def test_what_the_metavision_values_mean(tmp_path: Path) -> None:
    content, _ = lightning_file(METAVISION, HyperParameters.from_mapping(METAVISION))
    torch.save(content, tmp_path / "a.ckpt")
    found = load_checkpoint(tmp_path / "a.ckpt").hyperparameters
    assert found.labels == ("background", "paper", "rock", "scissor")
    assert (found.preprocess_channels, found.delta_t, type(found.delta_t)) == (2, 10_000, int)
    assert found.preprocess_kwargs == {"max_incr_per_pixel": 5.0}
    content, _ = lightning_file(FEED_FORWARD, HyperParameters.from_mapping(FEED_FORWARD))
    torch.save(content, tmp_path / "b.ckpt")
    loaded = load_checkpoint(tmp_path / "b.ckpt")
    assert loaded.hyperparameters.labels == ("background", "paper", "rock")
    assert loaded.weights["model.features.0.0.weight"].shape[1] == 4


def test_numpy_values_under_the_name_of_numpy_1(tmp_path: Path) -> None:
    """NumPy 1 wrote `numpy.core`, NumPy 2 writes `numpy._core`; checkpoints of either load with either."""
    content, _ = lightning_file(METAVISION, HyperParameters.from_mapping(METAVISION))
    path = tmp_path / "a.ckpt"
    for old, new in ((b"numpy._core.multiarray", b"numpy.core.multiarray"), (b"numpy.core.multiarray",) * 2):
        torch.save(content, path, pickle_protocol=2)
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, data in parts.items():
                archive.writestr(name, data.replace(old, new) if name.endswith("data.pkl") else data)
        assert load_checkpoint(path).hyperparameters.delta_t == 10_000


# --- what is refused


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch '{self.target}'",))


class MaliciousSetState:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('run')",))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int, legacy: bool) -> None:
    target, path = tmp_path / "was run", tmp_path / "a.ckpt"
    content = {"hyper_parameters": METAVISION | {"lr": Malicious(target)}, "state_dict": {}}
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InputFileError, match=r"a\.ckpt"):
        load_checkpoint(path)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists()  # so the file was dangerous


def test_what_a_refused_checkpoint_holds_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    for held, named in (
        (Malicious(tmp_path / "x"), r"system\)"),
        (MaliciousSetState(), r"exec\)"),
        (pathlib.PurePosixPath("a"), r"PurePosixPath\)"),
    ):
        torch.save({"hyper_parameters": {"a": held}, "state_dict": {}}, path)
        with pytest.raises(InputFileError, match=rf"a\.ckpt: this checkpoint holds Python objects.*{named}"):
            load_checkpoint(path)


def test_a_trusted_checkpoint_may_hold_any_objects(tmp_path: Path) -> None:
    content, _ = lightning_file(METAVISION, HyperParameters.from_mapping(METAVISION))
    content["callbacks"] = {"kept": pathlib.PurePosixPath("a"), "in": collections.deque([1])}
    path = tmp_path / "a.ckpt"
    torch.save(content, path)
    with pytest.raises(InputFileError, match="--trust-checkpoint"):
        load_checkpoint(path)
    loaded = load_checkpoint(path, trusted=True)
    assert loaded.weights.keys() == {n.removeprefix("net.") for n in content["state_dict"] if n.startswith("net.")}
    assert loaded.hyperparameters == HyperParameters.from_mapping(METAVISION)


def test_a_trusted_checkpoint_of_a_package_that_is_missing_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    module = types.ModuleType("not_installed")
    exec("class Thing:\n    pass", module.__dict__)
    module.Thing.__module__ = "not_installed"
    sys.modules["not_installed"] = module
    try:
        torch.save({"hyper_parameters": {"a": module.Thing()}, "state_dict": {}}, path)
    finally:
        del sys.modules["not_installed"]
    with pytest.raises(InputFileError, match="needs Python code that is not to be had here"):
        load_checkpoint(path, trusted=True)


def test_a_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    target, path = tmp_path / "was run", tmp_path / "a.ckpt"
    path.write_bytes(pickle.dumps(Malicious(target), protocol=2))
    with pytest.raises(InputFileError):
        load_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x89HDF\r\n", b"\x80\x04\x95"])
def test_files_of_something_else_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(InputFileError, match=r"a\.ckpt: this is not a PyTorch checkpoint, or it is damaged"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no.ckpt"):
        with pytest.raises(InputFileError, match="there is no such checkpoint file"):
            load_checkpoint(path)


def test_a_damaged_checkpoint_is_a_sentence(tmp_path: Path) -> None:
    """Four bytes changed, or cut short, in 150 ways: never another exception."""
    content, _ = lightning_file(METAVISION, HyperParameters.from_mapping(METAVISION))
    path = tmp_path / "a.ckpt"
    torch.save({key: content[key] for key in ("hyper_parameters", "state_dict")}, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for i in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(0, 3000, 4):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(len(whole))] if i % 3 == 0 else damaged)
        try:
            load_checkpoint(path).build_model()
        except InputFileError as error:
            assert str(path) in str(error)  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        torch.zeros(3),
        {"state_dict": {"net.a": torch.zeros(1)}},
        {"state_dict": [1], "hyper_parameters": METAVISION},
        {"state_dict": {"net.a": torch.zeros(1)}, "hyper_parameters": 3},
        {"state_dict": {"backbone.a": torch.zeros(1), 3: torch.zeros(1)}, "hyper_parameters": METAVISION},
        {"state_dict": {"net.a": torch.zeros(1)}, "hyper_parameters": {"lr": 1.0}},
    ],
)
def test_checkpoints_of_something_else_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.ckpt")
    says = r"a\.ckpt.*(not a classifier's checkpoint|which every event-camera classifier has)"
    with pytest.raises(InputFileError, match=says):
        load_checkpoint(tmp_path / "a.ckpt")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    content, _ = lightning_file(METAVISION | {"feature_base": 4}, HyperParameters.from_mapping(METAVISION))
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(InputFileError, match=r"a\.ckpt: the weights do not fit ConvRNNClassifier.*size mismatch"):
        load_checkpoint(tmp_path / "a.ckpt").build_model()


@pytest.mark.parametrize(
    ("changes", "says"), [({"preprocess": "sorcery"}, "sorcery"), ({"in_channels": 3}, "preprocess_channels is 3")]
)
def test_a_network_that_cannot_be_names_the_file(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    content, _ = lightning_file(METAVISION | changes, HyperParameters.from_mapping(METAVISION))
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(InputFileError, match=rf"a\.ckpt: .*{says}"):
        load_checkpoint(tmp_path / "a.ckpt").build_model()


def test_weights_alone_are_not_resumable(tmp_path: Path) -> None:
    content, _ = lightning_file(METAVISION, HyperParameters.from_mapping(METAVISION))
    del content["optimizer_states"]
    torch.save(content, tmp_path / "a.ckpt")
    assert not load_checkpoint(tmp_path / "a.ckpt").resumable


def test_what_a_checkpoint_says_of_its_training(tmp_path: Path) -> None:
    """Of another type it is none of ours: Metavision's precision is a number of bits."""
    values = METAVISION | {"seed": 4, "precision": 16, "max_epochs": np.int64(3), "patience": True}
    content, _ = lightning_file(values, HyperParameters.from_mapping(METAVISION))
    torch.save(content, tmp_path / "a.ckpt")
    loaded = load_checkpoint(tmp_path / "a.ckpt")
    assert (loaded.epoch, loaded.trained_with) == (3, {"seed": 4})
    assert loaded.epochs_in_vain is None
    for count, says in ((2, 2), (0, 0), ("2", None)):
        name = "EarlyStopping{'monitor': 'val_loss', 'mode': 'min'}"
        content |= {"callbacks": {"ModelCheckpoint{}": {}, name: {"wait_count": count}}, "global_step": 12}
        torch.save(content, tmp_path / "a.ckpt")
        assert load_checkpoint(tmp_path / "a.ckpt").epochs_in_vain == says
        assert load_checkpoint(tmp_path / "a.ckpt").steps == 12
    del content["epoch"]
    torch.save(content, tmp_path / "a.ckpt")
    assert load_checkpoint(tmp_path / "a.ckpt").epoch is None
