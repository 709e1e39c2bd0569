"""A Metavision export as the reference: one of ours, and such as nobody's edgeclf wrote."""

# No `from __future__ import annotations`: scripting reads the types of a class's attributes, and there takes no text.

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_export.parity import ParityCheck, check_parity
from edgeclf_export.torchscript_file import making_torchscript
from edgeclf_runtime.backends.torchscript import load_script
from edgeclf_runtime.errors import EdgeclfError, InputFileError, UsageError
from edgeclf_runtime.tensor_file import TensorFile

WEIGHTS = [[0.5, -1.0, 2.0], [1.5, 0.0, -2.0]]
KEPT = 0.75
INFO = {
    "label_map": ["background", "left", "right"], "delta_t": 10_000, "height": 48, "width": 48, "preprocess": "histo",
    "preprocess_kwargs": {"max_incr_per_pixel": 5.0},
}  # fmt: skip


class Foreign(nn.Module):
    """Remembers how active each polarity was, and keeps that to itself."""

    memory: Tensor
    weights: Tensor

    def __init__(self, gives_probabilities: bool = False) -> None:
        super().__init__()
        self.memory = torch.zeros(0, 2)
        self.weights = torch.tensor(WEIGHTS)
        self.gives_probabilities = gives_probabilities

    def forward(self, x: Tensor) -> Tensor:
        if self.memory.size(0) != x.size(1):
            self.memory = torch.zeros(x.size(1), 2)
        logits: list[Tensor] = []
        for frame in x.unbind(0):
            self.memory = 0.75 * self.memory + frame.sum((2, 3))
            logits.append(self.memory @ self.weights)
        given = torch.stack(logits)
        return given.softmax(-1) if self.gives_probabilities else given


class WithReset(Foreign):
    """As Metavision's LeNet has it."""

    @torch.jit.export
    def reset(self, mask: Tensor) -> None:
        if self.memory.size(0) == mask.size(0):
            self.memory = self.memory * mask.reshape(-1, 1)


class WithResetAll(Foreign):
    """As Metavision's ConvRNN has it."""

    @torch.jit.export
    def reset_all(self) -> None:
        self.memory = torch.zeros(0, 2)


class Narrow(nn.Module):
    """Has one output too few."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(x.size(0), x.size(1), 2)


class OfWindows(nn.Module):
    """Takes frames side by side only."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.dim() == 4, "windows, please"
        return x


@pytest.fixture(scope="module")
def exported(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    request = ExportRequest(checkpoints["ConvRNNClassifier"], tmp_path_factory.mktemp("out"), ("onnx", "metavision"))
    return {file.format: file.path for file in export_checkpoint(request)}


def _write(folder: Path, module: nn.Module, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with making_torchscript():
        torch.jit.script(module.eval()).save(str(folder / "model_classifier.ptjit"))
    info = {key: value for key, value in (INFO | changes).items() if value is not None}
    (folder / "info_classifier_jit.json").write_text(json.dumps(info), encoding="utf-8")
    return folder


def _by_hand(path: Path) -> np.ndarray:
    with TensorFile(path) as file:
        frames = file.read(0, len(file)).astype(np.float64)
    memory, logits = np.zeros(2), []
    for frame in frames:
        memory = KEPT * memory + frame.sum((1, 2))
        logits.append(memory @ np.array(WEIGHTS))
    return np.stack(logits)


def _check(checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path, folder: Path) -> ParityCheck:
    return ParityCheck(checkpoints["ConvRNNClassifier"], exported["onnx"], dataset, metavision=folder)


def test_our_own_export_for_metavision_is_the_same_classifier(
    checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path
) -> None:
    folder = exported["metavision"].parent
    report = check_parity(checkpoints["ConvRNNClassifier"], exported["onnx"], dataset, metavision=folder)
    assert report
    assert (report.disagreements, report.drift) == (0, None)
    assert report.no_drift == "Metavision's export keeps its state to itself"
    assert 0 < report.max_abs_logit_difference < 1e-4
    assert report.reference.name == f"Metavision, {folder.name}"


@pytest.mark.parametrize("kind", [WithResetAll, WithReset, Foreign])
def test_one_that_nobodys_edgeclf_wrote_starts_every_recording_anew(
    kind: type[Foreign], checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    report = _check(checkpoints, exported, dataset, _write(tmp_path / "theirs", kind())).run()
    assert not report
    assert report.reference.name == "Metavision, theirs"
    assert len(report.reference.recordings) == 5
    for recording in report.reference.recordings:
        np.testing.assert_allclose(recording.logits, _by_hand(Path(recording.path)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("to_half", [False, True])
def test_the_same_classifier_that_gives_probabilities_differs_by_rounding(
    to_half: bool, checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    """Softmax forgets by how much all logits are larger, so that logits themselves would differ by that."""

    class Softmax(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module
            self.to_half = to_half

        def forward(self, x: Tensor) -> Tensor:
            given = self.module(x).softmax(-1)
            return given.half() if self.to_half else given

        @torch.jit.export
        def reset_all(self) -> None:
            self.module.reset_all()

    module = load_script(exported["metavision"], "cpu")
    report = _check(checkpoints, exported, dataset, _write(tmp_path, Softmax(module))).run()
    assert report or to_half
    assert (report.drift, report.problems) == (None, ())
    assert 0 < report.max_abs_logit_difference < (0.01 if to_half else 1e-4)


def test_one_frame_that_looks_like_probabilities_makes_no_logits_such(
    checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    class Sometimes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = torch.zeros(x.size(0), x.size(1), 3)
            logits[:, :, 1] = 1.0
            logits[x.size(0) - 1] = 7.0
            return logits

    report = _check(checkpoints, exported, dataset, _write(tmp_path, Sometimes())).run()
    given = report.reference.recordings[0].logits
    assert given[0].tolist() == [0, 1, 0]
    assert given[-1].tolist() == [7, 7, 7]


def test_probabilities_are_taken_for_what_they_are(
    checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    report = _check(checkpoints, exported, dataset, _write(tmp_path, WithResetAll(True))).run()
    for recording in report.reference.recordings:
        right = torch.from_numpy(_by_hand(Path(recording.path))).softmax(1)
        torch.testing.assert_close(recording.result().probabilities.double(), right, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"label_map": {"1": "left", "0": "background", "2": "right"}},
        {"label_map": ["left", "right"]},
        {"preprocess_kwargs": None, "max_incr_per_pixel": 5},
    ],
)
def test_documents_of_several_ages(
    changes: dict[str, Any], checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    folder = _write(tmp_path, WithResetAll(), **changes)
    (folder / "model_classifier.ptjit").rename(folder / "mine.ptjit")
    (folder / "info_classifier_jit.json").rename(folder / "info_mine.json")
    assert _check(checkpoints, exported, dataset, folder).run().frames


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label_map": ["background", "right", "left"]}, "its outputs are background, right, left, the checkpoint's"),
        ({"delta_t": 20_000}, "frames last, in µs, 20000, the checkpoint's 10000"),
        ({"width": 64}, "are 48×64, the checkpoint's 48×48"),
        ({"preprocess": "diff"}, "preprocessing is diff, the checkpoint's histo"),
        ({"preprocess_kwargs": {"max_incr_per_pixel": 2}}, "max_incr_per_pixel is 2, the checkpoint's 5.0"),
        ({"label_map": None}, "it does not say what label_map is"),
        ({"delta_t": "soon"}, "this is no document of a Metavision export"),
        ({"label_map": 3}, "this is no document of a Metavision export"),
    ],
)
def test_what_does_not_fit_is_said(
    changes: dict[str, Any],
    says: str,
    checkpoints: dict[str, Path],
    exported: dict[str, Path],
    dataset: Path,
    tmp_path: Path,
) -> None:
    folder = _write(tmp_path, WithResetAll(), **changes)
    with pytest.raises(UsageError, match=re.escape(says)) as refused:
        _check(checkpoints, exported, dataset, folder)
    assert "info_classifier_jit.json" in str(refused.value)


@pytest.mark.parametrize(
    ("module", "error", "says"),
    [
        (Narrow(), UsageError, "it gives [13, 1, 2] for 13 frames"),
        (OfWindows(), EdgeclfError, "it fails on the frames"),
    ],
)
def test_a_classifier_of_another_kind_is_a_sentence(
    module: nn.Module,
    error: type[EdgeclfError],
    says: str,
    checkpoints: dict[str, Path],
    exported: dict[str, Path],
    dataset: Path,
    tmp_path: Path,
) -> None:
    check = _check(checkpoints, exported, dataset, _write(tmp_path, module))
    with pytest.raises(error, match=re.escape(says)):
        check.run()


def test_a_folder_without_its_files_is_a_sentence(
    checkpoints: dict[str, Path], exported: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputFileError, match="this is no folder"):
        _check(checkpoints, exported, dataset, tmp_path / "nowhere")
    with pytest.raises(InputFileError, match=r"none of its files is called \*\.ptjit"):
        _check(checkpoints, exported, dataset, tmp_path)
    for name in ("a.ptjit", "b.ptjit"):
        (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(InputFileError, match=r"2 of its files are called \*\.ptjit"):
        _check(checkpoints, exported, dataset, tmp_path)
    folder = _write(tmp_path / "damaged", WithResetAll())
    (folder / "model_classifier.ptjit").write_bytes(b"no model")
    with pytest.raises(InputFileError, match="PyTorch cannot load it"):
        _check(checkpoints, exported, dataset, folder)
