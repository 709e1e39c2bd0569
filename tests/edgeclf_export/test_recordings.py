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
from edgeclf_export.recordings import run_recording, stretches
from edgeclf_export.step_graph import contract_of
from edgeclf_runtime.golden import Array
from tests.edgeclf_export.formats.beside_pytorch import step_in_pytorch


@pytest.fixture
def parts(checkpoints: dict[str, Path], dataset: Path):
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    classifier = loaded.build_model()
    data = ClassificationDataModule(loaded.hyperparameters.to_dict(), dataset)
    return classifier, contract_of(loaded, classifier), data


@pytest.mark.parametrize("batch", [None, 3])
def test_a_recording_gives_what_pytorch_gives(parts, batch: int | None) -> None:
    classifier, contract, data = parts
    contract = replace(contract, batch=batch)
    in_pytorch = step_in_pytorch(classifier, contract)

    def step(inputs: Sequence[Array]) -> Sequence[Array]:
        assert len(inputs[0]) == (batch or 1)
        return in_pytorch(inputs)

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
