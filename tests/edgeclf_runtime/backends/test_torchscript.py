from __future__ import annotations

import logging
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from edgeclf_runtime.backends import DeviceOptions, open_backend
from edgeclf_runtime.errors import DeviceError, EdgeclfError, InputFileError, MissingPackageError, UsageError

_WEIGHTS = torch.tensor([[-2, -3, 4, 2], [-1, 5, -2, 2.5]])
_BIAS = torch.tensor([0.5, -0.2, 0.0, 0.3])


class Inside(nn.Module):
    """The tiny model on a list, without `keep_memory`, as in a file for Metavision's programs."""

    def forward(self, values: list[torch.Tensor]) -> list[torch.Tensor]:
        frames, acc, last = values
        acc = acc * 0.5 + frames.mean(dim=(2, 3))
        added = last.amax(dim=(1, 2, 3))[:, None] * torch.eye(1, 4, device=frames.device)
        logits = acc @ _WEIGHTS.to(frames) + _BIAS.to(frames) + last.mean(dim=(2, 3)).sum(1, keepdim=True) + added
        return [logits, acc, frames]  # the last state is the frame itself, which the caller may overwrite


class Tiny(nn.Module):
    """The tiny model of `conftest.py`."""

    def __init__(self):
        super().__init__()
        self.inside = Inside()

    def forward(self, frames, keep, acc, last):
        logits, acc, last = self.inside([frames, acc * keep[:, None], last * keep[:, None, None, None]])
        return logits, logits.softmax(dim=1), acc, last


class Implicit(nn.Module):
    """What a file for Metavision's programs has of the names that tell it."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def reset_all(self) -> None:
        pass


def example():
    return torch.zeros(2, 2, 12, 16), torch.ones(2), torch.zeros(2, 2), torch.zeros(2, 2, 12, 16)


@pytest.fixture
def write(tmp_path, tiny):
    """Writes the tiny model as `a.ts`, `a.pt2` or `a.ptjit`."""

    def write(suffix):
        path = tmp_path / f"a.{suffix}"
        extra = {"edgeclf": tiny.to_json()}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*torch\.jit\.\w+` is (deprecated|not supported).*")
            if suffix == "pt2":
                dim = torch.export.Dim("batch", min=1)
                program = torch.export.export(Tiny(), example(), dynamic_shapes=({0: dim},) * 4)
                torch.export.save(program, path, extra_files=extra)
            elif suffix == "ts":
                torch.jit.save(torch.jit.trace(Tiny(), example()), path, _extra_files=extra)
            else:
                frames, _, *state = example()
                step = torch.jit.trace(Inside(), ([frames, *state],), strict=False)
                torch.jit.save(torch.jit.script(Implicit(step)), path, _extra_files=extra)
        return path

    return write


@pytest.mark.parametrize("suffix", ["ts", "pt2", "ptjit"])
def test_any_streams_in_any_order_as_each_alone(write, write_model, alone, any_order, device, suffix):
    reference = write_model()
    with open_backend(write(suffix), DeviceOptions(device, threads=1)) as backend:
        assert (backend.device, str(backend.placement)) == (device, "PyTorch")
        references = [alone(reference, backend.contract) for _ in range(3)]
        any_order(backend.remember(3), references, backend.contract, 40, 1e-5)


@pytest.mark.parametrize("suffix", ["ts", "ptjit"])
def test_nothing_is_remembered_from_run_to_run(write, outputs_by_hand, tiny, suffix):
    frames = np.random.default_rng(0).random((4, *tiny.frame_shape)).astype(np.float32)
    with open_backend(write(suffix), DeviceOptions("cpu", threads=1)) as backend:
        state = [np.zeros((1, *tensor.shape), np.float32) for tensor in tiny.state]
        found = []
        for k, frame in enumerate(frames):
            keep, given = np.full(1, float(k != 2), np.float32), frame[None].copy()
            backend.run([given * 2, keep, *state])
            logits, _, *after = backend.run([given, keep, *state])
            given[:] = np.nan  # what came out is not a view of it
            found.append(logits[0])
            state = after
    np.testing.assert_allclose(found, outputs_by_hand(frames, resets=(0, 2))[0], rtol=1e-5, atol=1e-5)


def test_outputs_are_the_callers_and_frames_may_be_overwritten(write, tiny):
    frames = np.random.default_rng(0).random((1, *tiny.frame_shape)).astype(np.float32)
    with open_backend(write("ts"), DeviceOptions("cpu", threads=1)) as backend:
        memory, again = backend.remember(1), backend.remember(1)
        given = frames.copy()
        first, _ = memory.step(given, [0], [True])
        right = first.copy()
        given[:] = 9
        second, _ = memory.step(frames, [0], [True])
        np.testing.assert_array_equal(first, right)
        again.step(frames, [0], [True])
        np.testing.assert_array_equal(second, again.step(frames, [0], [True])[0])


def test_closed(write, tiny):
    backend = open_backend(write("ts"), DeviceOptions("cpu", threads=1))
    memory = backend.remember(1)
    backend.close()
    with pytest.raises(UsageError, match=r"a\.ts: the model was closed"):
        memory.step(np.zeros((1, *tiny.frame_shape), np.float32), [0], [True])


def test_failure_of_pytorch_is_a_sentence(write):
    memory = open_backend(write("ts"), DeviceOptions("cpu", threads=1)).remember(1)
    with pytest.raises(EdgeclfError, match=r"PyTorch failed on a frame \(.+\); try"):
        memory.step(np.zeros((1, 3, 5, 5), np.float32), [0], [True])


def test_cut_short(write):
    path = write("ts")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(InputFileError, match=r"a\.ts: "):
        open_backend(path, DeviceOptions("cpu"))


def test_what_is_no_program(tmp_path, tiny):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.ts", "w") as archive:
        archive.writestr("a/extra/edgeclf", tiny.to_json())
    with pytest.raises(InputFileError, match=r"a\.ts: PyTorch cannot load it \(.+\); export"):
        open_backend(tmp_path / "a.ts", DeviceOptions("cpu"))


def test_without_pytorch(write, monkeypatch):
    path = write("ts")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackageError, match=r"a\.ts: .* not installed: pip install 'edgeclf\[train\]'"):
        open_backend(path, DeviceOptions("cpu"))


def test_devices(write, monkeypatch, caplog):
    path = write("ts")
    caplog.set_level(logging.INFO, "edgeclf_runtime")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"CUDA was asked for .*: the installed PyTorch finds no CUDA"):
        open_backend(path, DeviceOptions("cuda"))
    assert open_backend(path, DeviceOptions("auto")).device == "cpu"
    assert open_backend(path, DeviceOptions("cuda", allow_cpu_fallback=True)).device == "cpu"
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    with pytest.raises(UsageError, match="for other files than PyTorch's"):
        open_backend(path, DeviceOptions(provider="CUDAExecutionProvider"))


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
