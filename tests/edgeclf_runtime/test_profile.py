from __future__ import annotations

import hashlib
import json
import logging
import shutil

import pytest

from edgeclf_runtime.backends import DeviceOptions
from edgeclf_runtime.errors import InputFileError, UsageError
from edgeclf_runtime.machine.processor import read_processor
from edgeclf_runtime.profile import Profile, read_profile, write_profile

EVERYTHING = DeviceOptions(
    threads=3, provider="TensorrtExecutionProvider", provider_options={"device_id": "1"}, bfloat16=True
)
MEASURED = {"p50_us": 812.5, "kpis": {"accuracy": 0.75, "auroc": float("nan")}}


@pytest.fixture
def written(write_model, tmp_path):
    """A profile beside its model."""
    model = write_model()
    path = tmp_path / "ä profile.json"
    write_profile(path, model, DeviceOptions("cpu", threads=2), MEASURED)
    return path, model


def changed(path, **changes):
    """Rewrites a profile; a change to None leaves the field out."""
    document = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in document.items() if value != "left out"}))
    return path


def test_document(written):
    path, model = written
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "edgeclf_profile": 1,
        "model": "tiny.onnx",
        "model_sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "device": "cpu",
        "provider": None,
        "provider_options": {},
        "threads": 2,
        "bfloat16": False,
        "measured": {
            "processor": read_processor().name,
            "p50_us": 812.5,
            "kpis": {"accuracy": 0.75, "auroc": None},
        },
    }


@pytest.mark.parametrize("options", [DeviceOptions("cpu", 2), DeviceOptions("cuda"), DeviceOptions(), EVERYTHING])
def test_there_and_back(write_model, tmp_path, caplog, options):
    model = write_model()
    write_profile(tmp_path / "a.json", model, options, {"p50_us": 1})
    found = read_profile(tmp_path / "a.json")
    assert found == Profile(model, options, {"processor": read_processor().name, "p50_us": 1})
    assert not caplog.records


@pytest.mark.parametrize(
    ("profile", "model", "expected"),
    [
        ("a.json", "best.onnx", "best.onnx"),
        ("a.json", "models/ü best.onnx", "models/ü best.onnx"),
        ("runs/a.json", "models/best.onnx", "../models/best.onnx"),
        ("deep/runs/a.json", "models/best.onnx", None),
    ],
)
def test_model_is_named_from_the_profile_where_it_is_near(write_model, tmp_path, profile, model, expected):
    target = tmp_path / "root" / model
    target.parent.mkdir(parents=True)
    write_model().rename(target)
    write_profile(tmp_path / "root" / profile, target, DeviceOptions(), {})
    named = json.loads((tmp_path / "root" / profile).read_text(encoding="utf-8"))["model"]
    assert named == (expected or str(target))
    assert read_profile(tmp_path / "root" / profile).model.samefile(target)
    (tmp_path / "root").rename(tmp_path / "elsewhere")
    if expected is not None:
        assert read_profile(tmp_path / "elsewhere" / profile).model.is_file()


def test_model_in_a_folder_of_metavision(write_model, tmp_path):
    (tmp_path / "exported").mkdir()
    shutil.copy(write_model(), tmp_path / "exported" / "model_classifier.ptjit")
    write_profile(tmp_path / "a.json", tmp_path / "exported", DeviceOptions(), {})
    assert read_profile(tmp_path / "a.json").model == tmp_path / "exported" / "model_classifier.ptjit"


def test_weights_of_openvino_belong_to_the_model(tmp_path):
    model, weights = tmp_path / "a.xml", tmp_path / "a.bin"
    model.write_text("<net/>")
    weights.write_bytes(b"weights")
    write_profile(tmp_path / "a.json", model, DeviceOptions(), {})
    assert read_profile(tmp_path / "a.json").model == model
    weights.write_bytes(b"others")
    with pytest.raises(InputFileError, match="not the one any more that was measured"):
        read_profile(tmp_path / "a.json")


def test_another_processor(written, caplog):
    path, model = written
    changed(path, measured={"processor": "Z80"})
    with caplog.at_level(logging.WARNING):
        assert read_profile(path).model == model
    assert "measured on another processor (Z80, and this is" in caplog.text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"edgeclf_profile": 2}, "is of version 2, and this edgeclf knows version 1"),
        ({"edgeclf_profile": "left out"}, "this JSON document is no profile"),
        ({"model": "left out"}, "this profile is damaged"),
        ({"model": 5}, "this profile is damaged"),
        ({"model_sha256": None}, "this profile is damaged"),
        ({"device": "tpu"}, "this profile is damaged"),
        ({"device": ["cpu"]}, "this profile is damaged"),
        ({"device": "cpu", "provider": "CUDAExecutionProvider"}, "this profile is damaged"),
        ({"threads": 0}, "this profile is damaged"),
        ({"threads": "2"}, "this profile is damaged"),
        ({"threads": True}, "this profile is damaged"),
        ({"provider_options": ["a"]}, "this profile is damaged"),
        ({"provider_options": {"device_id": 1}}, "this profile is damaged"),
        ({"provider_options": {"enable_cuda_graph": 1}}, "this profile is damaged"),
        ({"bfloat16": 1}, "this profile is damaged"),
        ({"measured": []}, "this profile is damaged"),
        ({"model": "other.onnx"}, r"its model .*other\.onnx is not there; copy it there"),
        ({"model_sha256": "ab"}, r"its model .*tiny\.onnx is not the one any more"),
    ],
)
def test_what_is_no_profile(written, changes, says):
    path = changed(written[0], **changes)
    with pytest.raises(InputFileError, match=says) as error:
        read_profile(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"{", "it is not JSON"), (b"\xff", "it is not JSON"), (b"[1]", "no profile"), (b"[" * 99_999, "it is not JSON")],
)
def test_what_is_not_json(tmp_path, content, says):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputFileError, match=says):
        read_profile(tmp_path / "a.json")


def test_no_file(tmp_path):
    with pytest.raises(InputFileError, match="cannot be read"):
        read_profile(tmp_path / "a.json")
    with pytest.raises(InputFileError, match="cannot be read"):
        read_profile(tmp_path)


def test_what_cannot_be_written(write_model, tmp_path):
    with pytest.raises(InputFileError, match="no such model file"):
        write_profile(tmp_path / "a.json", tmp_path / "a.onnx", DeviceOptions(), {})
    with pytest.raises(UsageError, match="this is a folder"):
        write_profile(tmp_path, write_model(), DeviceOptions(), {})
