from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch

from edgeclf_export.accuracy import DataSet
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_export.formats import FORMATS, ExportJob, ExportOptions
from edgeclf_export.formats.base import NEWEST_OPSET
from edgeclf_runtime.contract import METADATA_KEY
from edgeclf_runtime.errors import CheckFailedError, EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.golden import golden_path, read_golden, replay
from edgeclf_runtime.precision import Precision
from edgeclf_runtime.session import Classifier


def test_writes_the_files_and_the_runtime_loads_the_onnx(
    case_name: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "with space"
    files = list(export_checkpoint(ExportRequest(checkpoints[case_name], out, ("onnx", "torchscript"))))
    assert [file.path for file in files] == [out / f"{case_name}.onnx", out / f"{case_name}.ts"]
    assert all(file.validation for file in files)
    beside = {golden_path(file.path) for file in files}
    assert set(out.iterdir()) == {file.path for file in files} | beside
    with Classifier.load(files[0].path, "cpu") as classifier:
        assert classifier.contract == files[0].contract
        assert bool(classifier.contract.state) == ("WithoutMemory" not in case_name)
        assert replay(classifier.run, classifier.contract, read_golden(files[0].path, classifier.contract))


def test_the_metadata_names_checkpoint_versions_command_and_golden_vectors(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    checkpoint = checkpoints["LeNetClassifier"]
    request = ExportRequest(checkpoint, tmp_path, options=ExportOptions(opset=19, batch=2))
    (file,) = export_checkpoint(request)
    found = {entry.key: entry.value for entry in onnx.load(file.path).metadata_props}
    document = json.loads(found[METADATA_KEY])
    assert document["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert document["golden_sha256"] == hashlib.sha256(golden_path(file.path).read_bytes()).hexdigest()
    assert document["versions"]["onnx"] == onnx.__version__
    assert document["command"] == (
        "edgeclf export LeNetClassifier.ckpt OUT --format onnx --precision fp32 --name LeNetClassifier --opset 19 "
        "--batch 2"
    )
    assert (document["opset"], document["batch"]) == (19, 2)


_EXPORT = """
import sys
from pathlib import Path
from edgeclf_export.export import ExportRequest, export_checkpoint
list(export_checkpoint(ExportRequest(Path(sys.argv[1]), Path(sys.argv[2]))))
"""


def test_the_same_checkpoint_gives_the_same_bytes(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """In another process, with other hashes, into another folder."""
    checkpoint = checkpoints["ConvRNNClassifier"]
    (file,) = export_checkpoint(ExportRequest(checkpoint, tmp_path / "one"))
    other = tmp_path / "some" / "other folder"
    subprocess.run([sys.executable, "-c", _EXPORT, str(checkpoint), str(other)], check=True)
    for path in (file.path, golden_path(file.path)):
        assert path.read_bytes() == (other / path.name).read_bytes()


def test_a_file_that_fails_validation_is_not_left_behind(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tmp_path / "ConvRNNClassifier.ts"
    before.write_text("an older file")
    known = FORMATS["torchscript"]
    written = type(known).write

    def write_another_model(self, job: ExportJob, path: Path) -> None:
        classifier = type(job.classifier)(cin=2, base=4, cout=8, num_classes=3).eval()
        written(self, replace(job, classifier=classifier), path)

    monkeypatch.setattr(type(known), "write", write_another_model)
    with pytest.raises(CheckFailedError, match="does not compute what PyTorch does"):
        list(export_checkpoint(ExportRequest(checkpoints["ConvRNNClassifier"], tmp_path, ("torchscript",))))
    assert [p.name for p in tmp_path.iterdir()] == [before.name]
    assert before.read_text() == "an older file"


def test_a_state_fed_back_under_a_wrong_name_is_refused(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph broken on purpose: two of its outputs have each other's name."""
    known = type(FORMATS["onnx"])
    written = known.write

    def write_with_swapped_names(self, job: ExportJob, path: Path) -> None:
        written(self, job, path)
        model = onnx.load(path)
        names = {"next_state.conv2.1.h": "next_state.conv2.1.c", "next_state.conv2.1.c": "next_state.conv2.1.h"}
        for node in model.graph.node:
            node.output[:] = [names.get(name, name) for name in node.output]
            node.input[:] = [names.get(name, name) for name in node.input]
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)

    monkeypatch.setattr(known, "write", write_with_swapped_names)
    with pytest.raises(CheckFailedError, match=r"next_state\.conv2\.1\.[hc] differs"):
        list(export_checkpoint(ExportRequest(checkpoints["ConvRNNClassifier"], tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_what_was_exported_before_a_failure_stays(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeclf_export.formats.torchscript.StepGraph", _raises)
    made = export_checkpoint(ExportRequest(checkpoints["LeNetClassifier"], tmp_path, ("onnx", "torchscript")))
    first = next(made)
    with pytest.raises(EdgeclfError, match=r"cannot be written as torchscript \(RuntimeError: on purpose\)"):
        next(made)
    assert set(tmp_path.iterdir()) == {first.path, golden_path(first.path)}


def _raises(*_: object) -> None:
    raise RuntimeError("on purpose")


def test_half_precision_is_decided_by_the_kpis(checkpoints: dict[str, Path], dataset: Path, tmp_path: Path) -> None:
    checkpoint = checkpoints["LeNetClassifier"]
    request = ExportRequest(checkpoint, tmp_path, precisions=("fp16",), data=DataSet(dataset))
    (file,) = export_checkpoint(request)
    assert file.path.name == "LeNetClassifier.fp16.onnx"
    assert (file.contract.edge_type, file.contract.state_type) == ("float16", "float16")
    assert file.accuracy
    assert file.accuracy.before.keys() == file.accuracy.after.keys()
    document = json.loads(json.dumps(file.to_dict()))
    assert document["accuracy"]["passed"]
    assert document["validation"]["outputs"].keys() == set(file.contract.output_names)
    with Classifier.load(file.path, "cpu") as classifier:
        assert replay(classifier.run, classifier.contract, read_golden(file.path, classifier.contract))


def test_an_accuracy_that_falls_too_far_leaves_no_file(
    checkpoints: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    data = DataSet(dataset, max_accuracy_drop=-1.1)
    with pytest.raises(CheckFailedError, match=r"its accuracy is 0\.\d+, and the checkpoint's 0\.\d+"):
        list(
            export_checkpoint(ExportRequest(checkpoints["LeNetClassifier"], tmp_path, precisions=("fp16",), data=data))
        )
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_numbers_are_the_checkpoints_fault(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    content = torch.load(checkpoints["LeNetClassifier"], weights_only=True)
    next(iter(content["state_dict"].values()))[0] = float("nan")
    torch.save(content, tmp_path / "diverged.ckpt")
    with pytest.raises(InputFileError, match="not finite numbers"):
        list(export_checkpoint(ExportRequest(tmp_path / "diverged.ckpt", tmp_path / "out")))


def test_what_the_exporter_cannot_do_is_a_sentence(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise torch.onnx.errors.OnnxExporterError("no such operator\nand a long report")

    monkeypatch.setattr("torch.onnx.export", fails)
    with pytest.raises(Exception, match=r"cannot be written as onnx \(OnnxExporterError: no such operator\)"):
        list(export_checkpoint(ExportRequest(checkpoints["LeNetClassifier"], tmp_path)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formats": ("tflite",)}, "no format 'tflite'"),
        ({"name": "../elsewhere"}, "is no file's name"),
        ({"name": ".."}, "is no file's name"),
        ({"name": "a\nb"}, "can be printed"),
        ({"options": ExportOptions(opset=17)}, "only 18 to 25"),
        ({"options": ExportOptions(opset=26)}, "only 18 to 25"),
        ({"options": ExportOptions(float32_edges=True)}, "give --precision fp16 too"),
        ({"precisions": ("int8",)}, "give --dataset"),
        ({"formats": ("torchscript",), "precisions": ("fp16",)}, "torchscript has no precision fp16"),
        ({"formats": ("torchscript",), "options": ExportOptions(batch=2)}, "torchscript takes no --batch"),
        ({"options": ExportOptions(sensor_size=(64, 48))}, "onnx takes no --sensor-size"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_done(
    checkpoints: dict[str, Path], tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    request = replace(ExportRequest(checkpoints["LeNetClassifier"], tmp_path / "out"), **changes)
    with pytest.raises(UsageError, match=message):
        list(export_checkpoint(request))
    assert list(tmp_path.iterdir()) == []


def test_what_a_later_format_cannot_do_is_said_before_the_first_is_written(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    content = torch.load(checkpoints["LeNetClassifier"], weights_only=True)
    content["hyper_parameters"] |= {"preprocess": "timesurface", "preprocess_kwargs": {}}
    torch.save(content, tmp_path / "surface.ckpt")
    request = ExportRequest(tmp_path / "surface.ckpt", tmp_path / "out", ("onnx", "onnx-events"))
    with pytest.raises(UsageError, match="timesurface"):
        list(export_checkpoint(request))
    assert not (tmp_path / "out").exists()


def test_the_command_is_the_one_that_makes_the_file(checkpoints: dict[str, Path], dataset: Path) -> None:
    request = ExportRequest(
        checkpoints["LeNetClassifier"].with_name("my best.ckpt"),
        Path("out"),
        precisions=("int8",),
        data=DataSet(dataset, "val", "test"),
        trusted=True,
    )
    assert request.command(FORMATS["onnx"], "int8") == (
        "edgeclf export 'my best.ckpt' OUT --format onnx --precision int8 --name 'my best' "
        f"--dataset '{dataset.name}' --split val --calibration-split test --trust-checkpoint"
    )


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_newest_opset_runs(
    checkpoints: dict[str, Path], dataset: Path, tmp_path: Path, precision: Precision
) -> None:
    data = DataSet(dataset, calibration_split="test", max_accuracy_drop=1.0)
    options = ExportOptions(opset=NEWEST_OPSET)
    request = ExportRequest(
        checkpoints["LeNetClassifier"], tmp_path, precisions=(precision,), options=options, data=data
    )
    (file,) = export_checkpoint(request)
    assert file.contract.opset == NEWEST_OPSET


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputFileError, match="no such checkpoint"):
        list(export_checkpoint(ExportRequest(tmp_path / "none.ckpt", tmp_path / "out")))
    assert list(tmp_path.iterdir()) == []
