from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.formats.torchscript import TorchScriptFormat
from edgeclf_export.step_graph import StepGraph, contract_of
from edgeclf_export.validation import validate


def test_file_carries_the_contract_and_computes_the_same(
    case_name: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    loaded = load_checkpoint(checkpoints[case_name])
    classifier = loaded.build_model()
    contract = contract_of(loaded, classifier)
    path = tmp_path / "model.ts"
    TorchScriptFormat().write(StepGraph(classifier, contract), contract, path)
    step, inside = TorchScriptFormat().load(path)
    assert json.loads(inside.to_json()) == json.loads(contract.to_json())
    assert validate(step, inside, classifier, steps=20)


def test_batch_axis_is_dynamic(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    classifier = loaded.build_model()
    contract = contract_of(loaded, classifier)
    path = tmp_path / "model.ts"
    TorchScriptFormat().write(StepGraph(classifier, contract), contract, path)
    step, _ = TorchScriptFormat().load(path)
    for batch in (1, 7):
        inputs = [
            np.zeros((batch, *contract.frame_shape), np.float32),
            np.ones(batch, np.float32),
            *(np.zeros((batch, *tensor.shape), np.float32) for tensor in contract.state),
        ]
        assert [len(output) for output in step(inputs)] == [batch] * len(contract.output_names)
