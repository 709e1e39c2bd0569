from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeclf_export.formats.base import ExportJob, ExportOptions
from edgeclf_export.formats.pt2 import Pt2Format
from edgeclf_runtime.errors import ContractError
from tests.edgeclf_export.formats.beside_pytorch import (
    assert_chained_steps_equal_whole_sequences,
    assert_one_step_equals_pytorch,
    inputs_of_a_step,
    job_of,
    step_of_pytorch,
    written_elsewhere,
)

pytestmark = pytest.mark.slow  # exports every case

REPOSITORY = Path(__file__).parents[3]
FORMAT = Pt2Format()


@pytest.fixture(scope="module")
def elsewhere(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_elsewhere(FORMAT, checkpoints.values(), tmp_path_factory.mktemp("somewhere else"))


@pytest.fixture(scope="module")
def written(case_name: str, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    classifier, contract = job_of(FORMAT, checkpoints[case_name])
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    FORMAT.write(ExportJob(classifier, contract), path)
    return path, contract, classifier


def test_inputs_and_outputs_are_positional_in_the_order_of_the_contract(written) -> None:
    path, contract, _ = written
    program = torch.export.load(path)
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    outputs = [len(contract.labels)]
    shapes = {"frames": [*contract.frame_shape], "keep_memory": [], "logits": outputs, "probabilities": outputs}
    shapes |= {name: [*s.shape] for s in contract.state for name in (s.input_name, s.output_name)}
    signature = program.graph_signature
    for found, names in (
        (signature.user_inputs, contract.input_names),
        (signature.user_outputs, contract.output_names),
    ):
        sizes = [[size if isinstance(size, int) else "any" for size in values[name].shape] for name in found]
        assert sizes == [["any", *shapes[name]] for name in names]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_one_step_equals_pytorch_at_any_batch_size(written, batch: int) -> None:
    path, contract, classifier = written
    step, _ = FORMAT.load(path)
    assert_one_step_equals_pytorch(step, contract, classifier, batch)


def test_chained_steps_equal_the_classifier_on_whole_sequences(written) -> None:
    path, contract, classifier = written
    step, _ = FORMAT.load(path)
    assert_chained_steps_equal_whole_sequences(step, contract, classifier)


@pytest.mark.parametrize("options", [ExportOptions(), ExportOptions(float32_edges=True)])
def test_fp16_has_the_types_of_its_contract(case_name: str, checkpoints, tmp_path: Path, options) -> None:
    classifier, contract = job_of(FORMAT, checkpoints[case_name], "fp16", options)
    FORMAT.write(ExportJob(classifier, contract), tmp_path / "model.fp16.pt2")
    step, inside = FORMAT.load(tmp_path / "model.fp16.pt2")
    assert inside == contract
    assert contract.edge_type == ("float32" if options.float32_edges else "float16")
    inputs = inputs_of_a_step(contract, batch=2)
    found, expected = step(inputs), step_of_pytorch(classifier, contract, inputs)
    assert [value.dtype for value in found] == [contract.edge_type] * 2 + ["float16"] * len(contract.state)
    for name, value, right in zip(contract.output_names, found, expected, strict=True):
        np.testing.assert_allclose(value, right, atol=0.02, rtol=0.02, err_msg=name)
    assert {value.dtype for value in torch.export.load(tmp_path / "model.fp16.pt2").state_dict.values()} == {
        torch.float16
    }


def test_batch_norm_is_folded(written) -> None:
    path, _, classifier = written
    called = [str(node.target) for node in torch.export.load(path).graph.nodes if node.op == "call_function"]
    convolutions = [module for module in classifier.modules() if isinstance(module, torch.nn.Conv2d)]
    assert not [name for name in called if "norm" in name]
    assert called.count("aten.conv2d.default") == len(convolutions)


def test_metadata_is_the_contract_in_one_member_of_the_archive(written) -> None:
    path, contract, _ = written
    with zipfile.ZipFile(path) as archive:
        assert archive.read("archive/extra/edgeclf").decode() == contract.to_json()
    assert FORMAT.load(path)[1] == contract


def test_another_process_in_another_folder_writes_the_same_bytes(written, case_name: str, elsewhere: Path) -> None:
    path, _, _ = written
    assert path.read_bytes() == (elsewhere / f"{case_name}.pt2").read_bytes()


def test_nothing_of_this_machine_is_inside(written) -> None:
    path, _, _ = written
    content = path.read_bytes()
    for folder in (REPOSITORY, Path(torch.__file__).parent, path.parent):
        assert str(folder).encode() not in content


def test_weights_ask_for_no_gradient_and_the_classifier_keeps_its_own(checkpoints, tmp_path: Path) -> None:
    classifier, contract = job_of(FORMAT, checkpoints["LeNetClassifier"])
    FORMAT.write(ExportJob(classifier, contract), tmp_path / "model.pt2")
    assert not any(value.requires_grad for value in torch.export.load(tmp_path / "model.pt2").parameters())
    assert all(value.requires_grad for value in classifier.parameters())


def test_example_that_ahead_of_time_compilation_asks_for_is_inside(written) -> None:
    path, contract, _ = written
    program = torch.export.load(path)
    inputs, named = program.example_inputs
    assert tuple(inputs[0].shape) == (2, *contract.frame_shape)
    assert (len(inputs), named) == (len(contract.input_names), {})


def test_program_without_a_contract_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.zeros(1),)), buffer)
    (tmp_path / "foreign.pt2").write_bytes(buffer.getvalue())
    with pytest.raises(ContractError, match=r"foreign\.pt2: this model was not exported by edgeclf"):
        FORMAT.load(tmp_path / "foreign.pt2")
