from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from edgeclf.checkpoint import load_checkpoint
from edgeclf.evaluation import evaluate
from edgeclf_export.accuracy import AccuracyCheck, DataSet, ProvingGround
from edgeclf_export.step_graph import contract_of
from edgeclf_runtime.errors import InputFileError
from edgeclf_runtime.golden import Array
from tests.edgeclf_export.formats.beside_pytorch import step_in_pytorch


@pytest.fixture
def parts(checkpoints: dict[str, Path], dataset: Path):
    loaded = load_checkpoint(checkpoints["LeNetClassifier"])
    classifier = loaded.build_model()
    contract = contract_of(loaded, classifier)
    step = step_in_pytorch(classifier, contract)
    return loaded, contract, step, DataSet(dataset, calibration_split="test")


def test_the_same_step_has_the_same_kpis(parts) -> None:
    loaded, contract, step, data = parts
    check = ProvingGround(loaded, data).check(step, contract)
    assert check
    assert check.drop == 0
    assert check.before.keys() == check.after.keys() >= {"accuracy", "recording_accuracy"}


def test_a_step_that_names_other_classes_falls_by_what_scikit_learn_says(parts) -> None:
    loaded, contract, step, data = parts
    ground = ProvingGround(loaded, data)

    def always_right(inputs: Sequence[Array]) -> list[Array]:
        logits, *others = step(inputs)
        return [np.roll(logits, 1, axis=1), *others]

    check = ground.check(always_right, contract)
    results = evaluate(loaded.build_model(), ground._module.sequences("test"))
    labels = torch.cat([result.labels for result in results]).numpy()
    named = torch.cat([result.logits for result in results]).numpy()
    known = labels >= 0
    before = accuracy_score(labels[known], named.argmax(1)[known])
    after = accuracy_score(labels[known], np.roll(named, 1, axis=1).argmax(1)[known])
    assert math.isclose(check.drop, before - after, abs_tol=1e-6)
    assert bool(check) == (check.drop <= 0.01)
    assert check.drop != 0


@pytest.mark.parametrize(("after", "passed"), [(0.93, True), (0.895, True), (0.885, False), (math.nan, False)])
def test_the_accuracy_may_fall_by_so_much(after: float, passed: bool) -> None:
    check = AccuracyCheck({"accuracy": 0.9}, {"accuracy": after}, 0.01)
    assert bool(check) == passed
    assert check.to_dict()["passed"] == passed


def test_frames_come_from_the_split_that_is_asked_for(parts, tmp_path: Path) -> None:
    loaded, contract, _, data = parts
    ground = ProvingGround(loaded, data)
    assert len(ground.validation(contract)) == len(ground.calibration(contract)) == 5
    with pytest.raises(InputFileError, match="train"):
        ProvingGround(loaded, DataSet(data.path)).calibration(contract)
    with pytest.raises(InputFileError):
        ProvingGround(loaded, DataSet(tmp_path)).validation(contract)
