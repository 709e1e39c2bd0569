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
from edgeclf_export.recordings import recording_logits, run_frames, run_recording, stretches
from edgeclf_export.step_graph import contract_of
from edgeclf_runtime.errors import UsageError
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
        for what in ("name", "path"):
            assert getattr(found, what) == getattr(expected, what)
        for what in ("labels", "end_us"):
            assert getattr(found, what).tolist() == getattr(expected, what).tolist()
        torch.testing.assert_close(found.logits, expected.logits, atol=1e-4, rtol=0)


def test_a_dat_recording_is_called_by_its_name(parts) -> None:
    _, _, data = parts
    recording = replace(data.split("test")[0], path=Path("folder/hand_td.dat"))
    assert recording_logits(recording, np.zeros((13, 3), np.float32)).name == "hand"


@pytest.mark.parametrize(("labelled", "how_many"), [(12, "more"), (14, "fewer")])
def test_other_frames_than_the_data_set_has_are_a_sentence(parts, labelled: int, how_many: str) -> None:
    _, contract, data = parts
    first = data.split("test")[0]
    other = replace(first, labels=np.zeros(labelled, np.int64))
    seen = []

    def run(frame: Array) -> Array:
        seen.append(frame)
        return np.zeros(3, np.float32)

    with pytest.raises(UsageError, match=rf"bar_0\.h5: the exported file makes {how_many} frames .* the {labelled}"):
        run_frames(other, contract, run)
    assert len(seen) == min(labelled, 13)
    assert run_frames(first, contract, run).shape == (13, 3)


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
