from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data_module import ClassificationDataModule
from edgeclf.evaluation import evaluate
from edgeclf_export.recordings import ChainedStep, run_recording, stretches
from edgeclf_export.step_graph import StepGraph, contract_of
from edgeclf_runtime.golden import Array


@pytest.fixture
def parts(checkpoints: dict[str, Path], dataset: Path):
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    classifier = loaded.build_model()
    data = ClassificationDataModule(loaded.hyperparameters.to_dict(), dataset)
    return classifier, contract_of(loaded, classifier), data


def _counting(keep: bool):
    """Returns a step whose state counts its steps since the last reset."""

    def step(inputs: Sequence[Array]) -> list[Array]:
        state = inputs[-1] * inputs[1].reshape(-1, 1, 1, 1) if keep else inputs[-1]
        return [inputs[0][:, 0, 0, :2], inputs[0][:, 0, 0, :2], state + 1]

    return step


@pytest.mark.parametrize("keep", [True, False])
def test_the_state_is_fed_back_and_cleared_where_a_stream_starts_anew(parts, keep: bool) -> None:
    _, contract, _ = parts
    contract = replace(contract, state=contract.state[:1], keep_memory=keep)
    chained = ChainedStep(_counting(keep), contract, 2)
    frames = np.zeros((2, *contract.frame_shape), np.float32)
    counts = [chained(frames, np.array(k, np.float32))[2][:, 0, 0, 0].tolist() for k in ([0, 0], [1, 1], [1, 0])]
    assert counts == [[1, 1], [2, 2], [3, 1]]


@pytest.mark.parametrize("batch", [None, 3])
def test_a_recording_gives_what_pytorch_gives(parts, batch: int | None) -> None:
    classifier, contract, data = parts
    contract = replace(contract, batch=batch)
    graph = StepGraph(classifier, contract)

    def step(inputs: Sequence[Array]) -> list[Array]:
        assert len(inputs[0]) == (batch or 1)
        with torch.inference_mode():
            return [value.numpy() for value in graph(*map(torch.from_numpy, inputs))]

    right = evaluate(classifier, data.sequences("test"))
    for recording, expected in zip(data.split("test"), right, strict=True):
        found = run_recording(step, contract, recording)
        assert (found.path, found.labels.tolist()) == (expected.path, expected.labels.tolist())
        torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=0)


def test_stretches_are_consecutive_frames_of_the_recordings_middle(parts, monkeypatch: pytest.MonkeyPatch) -> None:
    _, contract, data = parts
    recordings = data.split("test")
    monkeypatch.setattr("edgeclf_export.recordings._LONGEST", 6)
    monkeypatch.setattr("edgeclf_export.recordings.STRETCHES", 3)
    kept = stretches(recordings, contract)
    assert len(kept) == 3
    for frames, recording in zip(kept, (recordings[0], recordings[2], recordings[4]), strict=True):
        with h5py.File(recording.path) as file:
            whole = file["data"][:]
        begin = (len(whole) - 6) // 2
        np.testing.assert_array_equal(frames, whole[begin : begin + 6])


def test_stretches_are_bounded_in_memory(parts, monkeypatch: pytest.MonkeyPatch) -> None:
    _, contract, data = parts
    size = 4 * int(np.prod(contract.frame_shape))
    monkeypatch.setattr("edgeclf_export.recordings._MOST_BYTES", 16 * 3 * size)
    assert [len(frames) for frames in stretches(data.split("test"), contract)] == [3] * 5
