from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from sklearn.metrics import accuracy_score

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data.dataset import recordings
from edgeclf.data.labels import LABEL_MAP_FILE, LabelEvents, write_box_labels
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_export.parity import ParityCheck, check_parity
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.frames import open_frames
from edgeclf_runtime.session import Classifier, DeviceOptions
from edgeclf_runtime.tensor_file import TensorFile
from tests.edgeclf_export.parity.made_up import FOUR, recording, report_of

SIDE = 48  # of the data set's frames
FRAMES = 13 + 14 + 15 + 16 + 17


@pytest.fixture(scope="module")
def exported(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("exported")
    return {name: next(iter(export_checkpoint(ExportRequest(checkpoints[name], out)))).path for name in checkpoints}


@pytest.fixture(scope="module")
def wrong(exported: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported ConvRNN with another bias in its head."""
    model = onnx.load(exported["ConvRNNClassifier"])
    biases = [weights for weights in model.graph.initializer if weights.name.endswith("head.module.2.bias")]
    assert len(biases) == 1
    changed = numpy_helper.to_array(biases[0]) + np.array([0, 3, -3])
    biases[0].CopyFrom(numpy_helper.from_array(changed.astype("float32"), biases[0].name))
    path = tmp_path_factory.mktemp("wrong") / "wrong.onnx"
    onnx.save(model, path)
    return path


def test_exported_file_passes(
    case_name: str, checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path
) -> None:
    report = check_parity(checkpoints[case_name], exported[case_name], dataset)
    assert report
    assert report.frames == FRAMES
    assert report.top1_agreement == 1.0
    assert (report.disagreements, report.ties, report.first_parting) == (0, 0, None)
    assert 0 < report.max_abs_logit_difference < 1e-4
    has_memory = "WithoutMemory" not in case_name
    assert (report.drift is not None) == has_memory
    if report.drift is not None:
        assert report.drift.recordings.tolist() == [5] * 13 + [4, 3, 2, 1]
        assert report.drift.largest.max() < 1e-4
        assert report.drift.verdict == "even"
    assert report.no_drift == ("" if has_memory else "the model has no state")
    assert report.problems == ()


def test_both_sides_are_what_running_each_recording_alone_gives(
    checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path
) -> None:
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    hyper, model = loaded.hyperparameters, loaded.build_model()
    report = check_parity(checkpoints["ConvRNNClassifier"], exported["ConvRNNClassifier"], dataset, drift=False)
    right, predicted = [], []
    for one, reference, found in zip(
        recordings(dataset, "test", hyper.labels, hyper.delta_t, hyper.preprocess),
        report.reference.recordings,
        report.exported.recordings,
        strict=True,
    ):
        with TensorFile(one.path) as file, torch.inference_mode():
            alone = model(torch.from_numpy(file.read(0, len(file)))[:, None])[:, 0]
        assert reference.path == found.path == str(one.path)
        torch.testing.assert_close(reference.logits, alone, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.logits, alone, atol=1e-4, rtol=1e-4)
        right += one.labels.tolist()
        predicted += alone.argmax(1).tolist()
    assert report.kpis["accuracy"].reference == pytest.approx(accuracy_score(right, predicted))
    assert report.drift is None
    assert report.no_drift == "it was not asked for"


@pytest.fixture
def mixed(dataset: Path, tmp_path: Path) -> Path:
    """Two recordings of the data set and a DAT file, which goes through the runtime's own streaming."""
    mixed = tmp_path / "mixed"
    (mixed / "test").mkdir(parents=True)
    shutil.copy(dataset / LABEL_MAP_FILE, mixed)
    for name, source in (("a", "bar_0"), ("a-1", "bar_4")):
        for ending in (".h5", "_bbox.npy"):
            shutil.copy(dataset / "test" / f"{source}{ending}", mixed / "test" / f"{name}{ending}")
    rng = np.random.default_rng(0)
    events = np.zeros(5000, [("t", "<u4"), ("xyp", "<u4")])
    events["t"] = np.sort(rng.integers(20_000, 100_000, 5000))
    events["xyp"] = rng.integers(0, SIDE, 5000) | rng.integers(0, SIDE, 5000) << 14 | rng.integers(0, 2, 5000) << 28
    header = f"% Width {SIDE}\n% Height {SIDE}\n% Version 2\n".encode()
    (mixed / "test" / "dat_td.dat").write_bytes(header + bytes([0, 8]) + events.tobytes())
    write_box_labels(
        mixed / "test" / "dat_bbox.npy", LabelEvents(np.array([50_000]), np.array([1], np.int64)), (SIDE, SIDE)
    )
    return mixed


def test_recordings_are_paired_by_file_whatever_their_names_and_kinds(
    checkpoints: dict[str, Path], exported: dict[str, Path], mixed: Path
) -> None:
    """`a` comes before `a-1`, `a.h5` after `a-1.h5`."""
    report = check_parity(checkpoints["ConvRNNClassifier"], exported["ConvRNNClassifier"], mixed)
    assert report
    assert report.frames == 13 + 17 + 8
    assert report.max_abs_logit_difference < 1e-4
    assert report.drift is not None
    assert report.drift.largest.max() < 1e-4
    assert [one.name for one in report.exported.recordings] == ["a", "a-1", "dat"]
    assert [one.name for one in report.reference.recordings] == ["a", "a-1", "dat"]


@pytest.mark.parametrize(("change", "how_many"), [(lambda frames: [*frames, frames[-1]], "more"),
                                                  (lambda frames: frames[:-1], "fewer")])  # fmt: skip
def test_a_file_that_makes_other_frames_of_a_recording_is_a_sentence(
    change: Callable[[list], list],
    how_many: str,
    checkpoints: dict[str, Path],
    exported: dict[str, Path],
    mixed: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def opened(path: Path, contract: Contract) -> list:
        frames = list(open_frames(path, contract))
        return change(frames) if path.suffix == ".dat" else frames

    monkeypatch.setattr("edgeclf_export.recordings.open_frames", opened)
    with pytest.raises(UsageError, match=rf"dat_td\.dat: the exported file makes {how_many} frames of it than the 8"):
        check_parity(checkpoints["ConvRNNClassifier"], exported["ConvRNNClassifier"], mixed)


def test_a_split_without_a_label_is_a_sentence_before_anything_runs(
    checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "test").mkdir()
    shutil.copy(dataset / LABEL_MAP_FILE, tmp_path)
    shutil.copy(dataset / "test" / "bar_0.h5", tmp_path / "test")
    left_out = LabelEvents(np.arange(13) * 10_000, np.full(13, -1))
    write_box_labels(tmp_path / "test" / "bar_0_bbox.npy", left_out, (SIDE, SIDE))
    with pytest.raises(UsageError, match=f"{tmp_path / 'test'}: no frame of its recordings has a label"):
        ParityCheck(checkpoints["ConvRNNClassifier"], exported["ConvRNNClassifier"], tmp_path)


def test_logits_that_are_not_finite_fail_it_where_no_kpi_looks() -> None:
    rng = np.random.default_rng(0)
    reference = [recording(f"r{k}", 30, len(FOUR), rng) for k in range(3)]
    exported = [replace(one, logits=one.logits.clone()) for one in reference]
    assert report_of(reference, exported, FOUR)
    assert exported[1].labels[0] == -1
    exported[1].logits[0, 2] = np.nan
    report = report_of(reference, exported, FOUR)
    assert not report
    assert report.failed == []
    assert report.to_dict()["problems"] == list(report.problems) == ["its logits are not finite in 1 frame"]
    assert report.to_dict()["passed"] is False
    assert "FAILED: its logits are not finite in 1 frame;" in repr(report)
    exported[1].logits[1, 2] = np.nan  # a frame that has a label
    assert report_of(reference, exported, FOUR).failed


@pytest.mark.parametrize("fails", [False, True])
def test_the_exported_file_is_closed_when_the_run_ends(
    fails: bool,
    checkpoints: dict[str, Path],
    exported: dict[str, Path],
    dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check = ParityCheck(checkpoints["LeNetClassifier"], exported["LeNetClassifier"], dataset)
    if fails:
        with monkeypatch.context() as patched:
            patched.setattr(Classifier, "step", Mock(side_effect=EdgeclfError("no memory")))
            with pytest.raises(EdgeclfError, match="no memory"):
                check.run()
    else:
        assert check.run()
    with pytest.raises(UsageError, match="was closed"):
        check.run()


def test_the_device_is_a_name_or_options_and_all_options_are_named(
    checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path
) -> None:
    checkpoint, model = checkpoints["LeNetClassifier"], exported["LeNetClassifier"]
    for device in ("cpu", DeviceOptions("cpu", threads=1)):
        assert check_parity(checkpoint, model, dataset, device=device, drift=False)
    with pytest.raises(TypeError, match="positional"):
        check_parity(checkpoint, model, dataset, "test")  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        ParityCheck(checkpoint, model, dataset, "test")  # type: ignore[misc]


def test_kpis_are_those_of_the_command_line_contract(
    checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path
) -> None:
    report = check_parity(checkpoints["LeNetClassifier"], exported["LeNetClassifier"], dataset, drift=False)
    per_class = {f"{kpi}_{label}" for kpi in ("precision", "recall", "auroc") for label in ("background", "left")}
    always = {"accuracy", "recording_accuracy", "mean_recording_accuracy", "t2p_median_ms", "t2p_std_ms",
              "t2p_never_recognised", "t2p_never_recognised_rate"}  # fmt: skip
    assert always | per_class <= set(report.kpis)
    assert (report.reference.name, report.exported.name) == ("PyTorch", "LeNetClassifier.onnx, cpu")


def test_an_exported_file_with_other_weights_fails(checkpoints: dict[str, Path], wrong: Path, dataset: Path) -> None:
    report = check_parity(checkpoints["ConvRNNClassifier"], wrong, dataset)
    assert not report
    assert report.disagreements > 0
    assert report.top1_agreement == 1 - report.disagreements / FRAMES
    assert report.first_parting is not None
    assert report.first_parting.reference_label != report.first_parting.exported_label
    assert report.drift is not None
    assert report.drift.largest.max() < 1e-4  # the head is no part of the memory


def test_a_wide_enough_tolerance_lets_it_through(checkpoints: dict[str, Path], wrong: Path, dataset: Path) -> None:
    report = check_parity(checkpoints["ConvRNNClassifier"], wrong, dataset, drift=False)
    wide = dict.fromkeys(report.failed, 1e4)
    assert not check_parity(checkpoints["ConvRNNClassifier"], wrong, dataset, tolerances={report.failed[0]: 1e4})
    undefined = [name for name in report.failed if np.isnan(report.kpis[name].difference)]
    assert (
        check_parity(checkpoints["ConvRNNClassifier"], wrong, dataset, tolerances=wide, drift=False).failed == undefined
    )


def test_what_watches_sees_both_sides_to_their_end(
    checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path
) -> None:
    seen: dict[str, list[int]] = {}

    class Counting:
        def __init__(self, items, label, length=None) -> None:
            self.items, self.counts = items, seen.setdefault(label, [length, 0])

        def __enter__(self):
            for item in self.items:
                self.counts[1] += 1
                yield item

        def __exit__(self, *_: object) -> None:
            pass

    ParityCheck(checkpoints["LeNetClassifier"], exported["LeNetClassifier"], dataset, drift=False).run(Counting)
    assert set(seen) == {"PyTorch", "LeNetClassifier.onnx, cpu"}
    assert all(length == count > 0 for length, count in seen.values())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"classes": ("up", "down")}, "its outputs are background, left, right, the checkpoint's background, up, down"),
        ({"height": 40}, "frames .* are 48×48, the checkpoint's 40×48"),
        ({"delta_t": 20_000}, "frames last, in µs, 10000, the checkpoint's 20000"),
        ({"preprocess": "diff"}, "preprocessing is histo, the checkpoint's diff"),
        ({"preprocess_kwargs": {"max_incr_per_pixel": 2.0}}, "max_incr_per_pixel is 5.0, the checkpoint's 2.0"),
    ],
)
def test_another_classifier_is_refused(
    changes: dict, says: str, checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    other = replace(loaded.hyperparameters, **changes)
    weights = {f"net.{name}": value for name, value in loaded.weights.items()}
    path = tmp_path / "other.ckpt"
    torch.save({"hyper_parameters": other.to_dict(), "state_dict": weights}, path)
    with pytest.raises(UsageError, match=says) as refused:
        ParityCheck(path, exported["ConvRNNClassifier"], dataset)
    assert "this is another classifier than the checkpoint" in str(refused.value)


def test_a_checkpoint_of_unknown_objects_is_loaded_where_it_is_trusted(
    checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    content = torch.load(checkpoints["LeNetClassifier"], weights_only=True)
    path = tmp_path / "objects.ckpt"
    torch.save(content | {"callbacks": {"path": Path("a")}}, path)
    with pytest.raises(InputFileError, match="--trust-checkpoint"):
        ParityCheck(path, exported["LeNetClassifier"], dataset)
    assert len(ParityCheck(path, exported["LeNetClassifier"], dataset, trusted=True).labels) == 3
    assert check_parity(path, exported["LeNetClassifier"], dataset, trusted=True, drift=False)


@pytest.mark.slow
def test_the_documented_test_passes_and_fails_naming_kpis(
    checkpoints: dict[str, Path], exported: dict[str, Path], wrong: Path, dataset: Path, tmp_path: Path
) -> None:
    """What users write, in a pytest of their own."""
    for name, model in (("right", exported["ConvRNNClassifier"]), ("wrong", wrong)):
        (tmp_path / f"test_{name}.py").write_text(
            "from edgeclf_export.parity import check_parity\n"
            f"def test_{name}(): assert check_parity({str(checkpoints['ConvRNNClassifier'])!r}, {str(model)!r}, "
            f"{str(dataset)!r})\n",
            encoding="utf-8",
        )
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir", str(tmp_path),
         str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "1 failed, 1 passed" in ended.stdout
    assert "FAILED" in ended.stdout
    assert "ParityReport FAILED: " in ended.stdout
    failed = check_parity(checkpoints["ConvRNNClassifier"], wrong, dataset, drift=False).failed
    assert f"{failed[0]} " in ended.stdout
