from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.benchmark import torch_candidates
from edgeclf_export.benchmark.torch_candidates import (
    TorchCandidate,
    open_compiled,
    open_eager,
    open_metavision,
    open_torchscript,
    write_metavision,
    write_torchscript,
)
from edgeclf_export.formats.base import ExportJob, ExportOptions
from edgeclf_export.formats.onnx import OnnxFormat
from edgeclf_export.step_graph import contract_of
from edgeclf_runtime.backends.base import Array
from edgeclf_runtime.backends.torchscript import torchscript_wanted
from edgeclf_runtime.errors import DeviceError, EdgeclfError, InputFileError
from edgeclf_runtime.session import Classifier
from edgeclf_runtime.tensor_file import TensorFile

CASES = [
    "ConvRNNClassifier",
    "LeNetClassifier",
    "Mobilenetv2Classifier",
    "SqueezenetClassifier",
    "SqueezenetWithoutMemory",
]
STREAMS = 2
CLOSE = 1e-5  # a tenth of what is let through for fp32; a state that is not fed back is further off
RESET = 7


@pytest.fixture(scope="module", params=CASES)
def case_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def frames(dataset: Path) -> Array:
    """Event frames of two recordings, `[T, 2, C, H, W]`."""
    files = [TensorFile(dataset / "test" / f"bar_{number}.h5") for number in (0, 1)]
    return np.stack([file.read(0, 13) for file in files], axis=1)


@pytest.fixture(scope="module")
def expected(
    case_name: str, checkpoints: dict[str, Path], frames: Array, tmp_path_factory: pytest.TempPathFactory
) -> Array:
    """What the runtime gives for the frames, memory cleared on the way, `[T, B, K]`."""
    path = tmp_path_factory.mktemp("out") / "a.onnx"
    loaded = load_checkpoint(checkpoints[case_name])
    classifier, form = loaded.build_model(), OnnxFormat()
    contract = form.contract(contract_of(loaded, classifier), ExportOptions())
    form.write(ExportJob(classifier, contract), path)
    with Classifier.load(path, "cpu", STREAMS, threads=1) as exported:
        return _over(frames, lambda frame: exported.step(frame).probabilities, exported.reset)


def _over(frames: Array, step: Callable[[Array], Array], reset: Callable[[], None]) -> Array:
    found = []
    for k, frame in enumerate(frames):
        if k == RESET:
            reset()
        found.append(step(frame))
    return np.stack(found)


def _run(opens: Callable[..., TorchCandidate], source: Path, frames: Array) -> Array:
    # As it gets to the process that measures it.
    opened = pickle.loads(pickle.dumps(partial(opens, source, "cpu", 1, frames.shape[1])))
    with opened() as candidate:
        assert candidate.device == "cpu"
        return _over(frames, candidate.step, candidate.reset)


@pytest.mark.parametrize("opens", [open_eager, open_torchscript, open_metavision])
def test_equals_the_runtime(
    case_name: str, checkpoints: dict[str, Path], frames: Array, expected: Array, opens: Callable[..., TorchCandidate]
) -> None:
    assert _run(opens, checkpoints[case_name], frames) == pytest.approx(expected, abs=CLOSE)


def test_memory_and_frames_show(case_name: str, checkpoints: dict[str, Path], frames: Array, expected: Array) -> None:
    with open_eager(checkpoints[case_name], "cpu", 1, STREAMS) as candidate:
        forgetful = []
        for frame in frames:
            candidate.reset()
            forgetful.append(candidate.step(frame))
    has_memory = case_name != "SqueezenetWithoutMemory"
    assert (np.abs(np.stack(forgetful) - expected).max() > 100 * CLOSE) == has_memory
    assert np.ptp(expected, axis=0).max() > 100 * CLOSE


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler imports what PyTorch has deprecated
@pytest.mark.parametrize("case_name", CASES[:4], indirect=True)
def test_compiled_equals_the_runtime(
    case_name: str,
    checkpoints: dict[str, Path],
    frames: Array,
    expected: Array,
) -> None:
    torch.compiler.reset()
    with open_compiled(checkpoints[case_name], "cpu", 1, STREAMS) as candidate:
        # What is promised of the warm-up: from the fourth step on nothing is compiled, `reset` or not.
        for frame in frames[:3]:
            candidate.step(frame)
        candidate.reset()
        with torch.compiler.set_stance("fail_on_recompile"):
            assert _over(frames, candidate.step, candidate.reset) == pytest.approx(expected, abs=CLOSE)


def test_exported_files_and_folders(checkpoints: dict[str, Path], frames: Array, tmp_path: Path) -> None:
    checkpoint = checkpoints["ConvRNNClassifier"]
    eager = _run(open_eager, checkpoint, frames)
    script, metavision = write_torchscript(checkpoint, tmp_path), write_metavision(checkpoint, tmp_path)
    assert script == tmp_path / "ConvRNNClassifier.ts"
    assert _run(open_torchscript, script, frames) == pytest.approx(eager, abs=CLOSE)
    assert metavision.name == "model_classifier.ptjit"
    for source in (metavision, metavision.parent):
        assert _run(open_metavision, source, frames) == pytest.approx(eager, abs=CLOSE)


def test_a_classifier_of_metavisions_own(tmp_path: Path) -> None:
    class Theirs(torch.nn.Module):  # without a contract
        def __init__(self) -> None:
            super().__init__()
            self.seen = torch.zeros(1)

        @torch.jit.export
        def get_probas(self, x: torch.Tensor) -> torch.Tensor:
            assert x.dim() == 5
            self.seen = self.seen + x.mean()
            return self.seen.expand(x.size(0), x.size(1), 3)

        @torch.jit.export
        def reset_all(self) -> None:
            self.seen = torch.zeros(1)

    with torchscript_wanted():
        torch.jit.save(torch.jit.script(Theirs()), str(tmp_path / "a.ptjit"))
    found = _run(open_metavision, tmp_path / "a.ptjit", np.ones((RESET + 2, 1, 2, 4, 4), np.float32))
    assert found[:, 0, 0].tolist() == [*range(1, RESET + 1), 1, 2]


def test_frames_may_be_read_only_and_change_after_the_step(checkpoints: dict[str, Path], frames: Array) -> None:
    checkpoint = checkpoints["Mobilenetv2Classifier"]  # whose memory is frames
    right = _run(open_eager, checkpoint, frames)
    read_only = frames.copy()
    read_only.setflags(write=False)
    assert np.array_equal(_run(open_eager, checkpoint, read_only), right)
    buffer = np.empty_like(frames[0])
    with open_eager(checkpoint, "cpu", 1, STREAMS) as candidate:

        def step(frame: Array) -> Array:
            buffer[:] = frame
            return candidate.step(buffer)

        found = _over(frames, step, candidate.reset)
    assert np.array_equal(found, right)


def test_threads(checkpoints: dict[str, Path]) -> None:
    before = torch.get_num_threads()
    try:
        for opens in (open_eager, open_torchscript, open_metavision, open_compiled):
            torch.set_num_threads(1)
            opens(checkpoints["LeNetClassifier"], "cpu", 2, 1).close()
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_torch_is_imported_by_who_opens() -> None:
    code = f"import sys, {torch_candidates.__name__}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("opens", [open_eager, open_torchscript, open_metavision, open_compiled])
def test_what_cannot_be_opened(tmp_path: Path, opens: Callable[..., Any]) -> None:
    with pytest.raises(InputFileError, match=r"no\.ckpt: there is no such checkpoint"):
        opens(tmp_path / "no.ckpt", "cpu", 1, 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
@pytest.mark.parametrize("opens", [open_eager, open_torchscript, open_metavision, open_compiled])
def test_cuda_that_is_not_there(checkpoints: dict[str, Path], opens: Callable[..., Any]) -> None:
    with pytest.raises(DeviceError, match="finds no CUDA"):
        opens(checkpoints["LeNetClassifier"], "cuda", 1, 1)


def test_frames_that_do_not_fit_and_closing(checkpoints: dict[str, Path]) -> None:
    candidate = open_eager(checkpoints["ConvRNNClassifier"], "cpu", 1, 1)
    with pytest.raises(EdgeclfError, match=r"PyTorch failed on a frame: .*channels"):
        candidate.step(np.zeros((1, 5, 48, 48), np.float32))
    candidate.close()
    with pytest.raises(EdgeclfError, match="was closed"):
        candidate.step(np.zeros((1, 2, 48, 48), np.float32))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA")
@pytest.mark.parametrize("opens", [open_eager, open_torchscript, open_metavision])
def test_on_cuda(
    case_name: str, checkpoints: dict[str, Path], frames: Array, opens: Callable[..., TorchCandidate]
) -> None:
    right = _run(open_eager, checkpoints[case_name], frames)
    with opens(checkpoints[case_name], "cuda", 1, STREAMS) as candidate:
        assert candidate.device == "cuda"
        assert _over(frames, candidate.step, candidate.reset) == pytest.approx(right, abs=1e-4)
