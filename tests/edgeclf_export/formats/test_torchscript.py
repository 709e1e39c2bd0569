from __future__ import annotations

import io
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from edgeclf_export.formats.base import ExportJob
from edgeclf_export.formats.torchscript import TorchScriptFormat
from edgeclf_runtime.errors import ContractError
from tests.edgeclf_export.formats.beside_pytorch import (
    assert_chained_steps_equal_whole_sequences,
    assert_one_step_equals_pytorch,
    inputs_of_a_step,
    job_of,
    written_elsewhere,
)

pytestmark = pytest.mark.slow  # exports every case

REPOSITORY = Path(__file__).parents[3]
FORMAT = TorchScriptFormat()


@pytest.fixture(scope="module")
def elsewhere(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_elsewhere(FORMAT, checkpoints.values(), tmp_path_factory.mktemp("somewhere else"))


@pytest.fixture(scope="module")
def written(case_name: str, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    classifier, contract = job_of(FORMAT, checkpoints[case_name])
    path = tmp_path_factory.mktemp("torchscript") / "model.ts"
    FORMAT.write(ExportJob(classifier, contract), path)
    return path, contract, classifier


def loaded_by_pytorch(path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(path)


def test_inputs_and_outputs_are_positional_in_the_order_of_the_contract(written) -> None:
    path, contract, _ = written
    _, *inputs = loaded_by_pytorch(path).graph.inputs()
    (outputs,) = loaded_by_pytorch(path).graph.outputs()
    assert len(inputs) == len(contract.input_names)
    assert len(outputs.type().elements()) == len(contract.output_names)
    found = FORMAT.load(path)[0](inputs_of_a_step(contract, batch=3))
    shapes = [(3, len(contract.labels))] * 2 + [(3, *tensor.shape) for tensor in contract.state]
    assert [value.shape for value in found] == shapes


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_one_step_equals_pytorch_at_any_batch_size(written, batch: int) -> None:
    path, contract, classifier = written
    step, _ = FORMAT.load(path)
    assert_one_step_equals_pytorch(step, contract, classifier, batch)


def test_chained_steps_equal_the_classifier_on_whole_sequences(written) -> None:
    path, contract, classifier = written
    step, _ = FORMAT.load(path)
    assert_chained_steps_equal_whole_sequences(step, contract, classifier)


def test_it_is_frozen_with_batch_norm_folded(written) -> None:
    path, _, classifier = written
    module = loaded_by_pytorch(path)
    assert not list(module.parameters())
    assert not list(module.buffers())
    assert not list(module.children())
    called = [node.kind() for node in module.inlined_graph.nodes()]
    convolutions = [layer for layer in classifier.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert not [kind for kind in called if "norm" in kind or kind.startswith("prim::GetAttr")]
    assert called.count("aten::_convolution") == len(convolutions)


def test_metadata_is_the_contract_in_one_member_of_the_archive(written) -> None:
    path, contract, _ = written
    with zipfile.ZipFile(path) as archive:
        assert archive.read("archive/extra/edgeclf").decode() == contract.to_json()
    assert FORMAT.load(path)[1] == contract


def test_another_process_in_another_folder_writes_the_same_bytes(written, case_name: str, elsewhere: Path) -> None:
    path, _, _ = written
    assert path.read_bytes() == (elsewhere / f"{case_name}.ts").read_bytes()


def test_second_export_of_a_process_has_the_bytes_of_the_first(checkpoints, tmp_path: Path) -> None:
    classifier, contract = job_of(FORMAT, checkpoints["LeNetClassifier"])
    for name in ("first.ts", "second.ts"):
        FORMAT.write(ExportJob(classifier, contract), tmp_path / name)
    assert (tmp_path / "first.ts").read_bytes() == (tmp_path / "second.ts").read_bytes()


def test_nothing_of_this_machine_is_inside(written) -> None:
    path, _, _ = written
    content = path.read_bytes()
    for folder in (REPOSITORY, Path(torch.__file__).parent, path.parent):
        assert str(folder).encode() not in content


def test_archive_is_sound_and_its_tensors_can_be_mapped(written) -> None:
    """The members lie where PyTorch's own writer puts them: uncompressed, at multiples of 64 bytes."""
    path, _, _ = written
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for member in archive.infolist():
            name_size, extra_size = struct.unpack_from("<HH", content, member.header_offset + 26)
            start = member.header_offset + 30 + name_size + extra_size
            assert start % 64 == 0
            assert content[start : start + member.file_size] == archive.read(member)


def test_module_without_a_contract_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(torch.nn.ReLU()), buffer)
    (tmp_path / "foreign.ts").write_bytes(buffer.getvalue())
    with pytest.raises(ContractError, match=r"foreign\.ts: this model was not exported by edgeclf"):
        FORMAT.load(tmp_path / "foreign.ts")
