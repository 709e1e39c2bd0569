from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.formats.base import ExportJob, ExportOptions
from edgeclf_export.formats.torchscript import TorchScriptFormat
from edgeclf_export.step_graph import contract_of
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import ContractError
from edgeclf_runtime.precision import Precision

pytestmark = pytest.mark.slow  # exports every case

REPOSITORY = Path(__file__).parents[3]
ELSEWHERE = """
import sys
from pathlib import Path
from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.formats.base import ExportJob, ExportOptions
from edgeclf_export.formats.torchscript import TorchScriptFormat
from edgeclf_export.step_graph import contract_of

for checkpoint in reversed(sys.argv[1:]):
    loaded = load_checkpoint(Path(checkpoint))
    classifier = loaded.build_model()
    contract = TorchScriptFormat().contract(contract_of(loaded, classifier), ExportOptions())
    TorchScriptFormat().write(ExportJob(classifier, contract), Path(Path(checkpoint).stem + ".ts"))
"""


@pytest.fixture(scope="module")
def elsewhere(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same checkpoints written in another order, under other names, by another process in another folder."""
    folder = tmp_path_factory.mktemp("somewhere else")
    command = [sys.executable, "-W", "error", "-c", ELSEWHERE, *(str(path) for path in checkpoints.values())]
    subprocess.run(command, cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def written(case_name: str, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    classifier, contract = job_of(checkpoints[case_name])
    path = tmp_path_factory.mktemp("torchscript") / "model.ts"
    TorchScriptFormat().write(ExportJob(classifier, contract), path)
    return path, contract, classifier


def job_of(checkpoint: Path, precision: Precision = "fp32", options: ExportOptions | None = None):
    loaded = load_checkpoint(checkpoint)
    classifier = loaded.build_model()
    contract = replace(contract_of(loaded, classifier), precision=precision)
    return classifier, TorchScriptFormat().contract(contract, options or ExportOptions())


def inputs_of_a_step(contract: Contract, batch: int, seed: int = 0) -> list[np.ndarray]:
    """Frames, a stream of every three that starts anew, and a state that is not zero."""
    rng = np.random.default_rng(seed)
    keep = [np.arange(batch) % 3 != 1] if contract.state else []
    state = [rng.standard_normal((batch, *tensor.shape)).astype(contract.state_type) for tensor in contract.state]
    frames = rng.random((batch, *contract.frame_shape))
    return [*(value.astype(contract.edge_type) for value in (frames, *keep)), *state]


def step_of_pytorch(classifier, contract: Contract, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The classifier's own step in float32, on a state that was cleared row by row."""
    frames, *memory = (torch.tensor(value, dtype=torch.float32) for value in inputs)
    state = dict(zip([tensor.name for tensor in contract.state], memory[1:], strict=True))
    for value in state.values():
        for k, kept in enumerate(memory[0]):
            if not kept:
                value[k] = 0.0
    with torch.inference_mode():
        logits, after = classifier.step(frames, state)
    return [value.numpy() for value in (logits, logits.softmax(1), *(after[tensor.name] for tensor in contract.state))]


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
    found = TorchScriptFormat().load(path)[0](inputs_of_a_step(contract, batch=3))
    shapes = [(3, len(contract.labels))] * 2 + [(3, *tensor.shape) for tensor in contract.state]
    assert [value.shape for value in found] == shapes


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_one_step_equals_pytorch_at_any_batch_size(written, batch: int) -> None:
    path, contract, classifier = written
    step, _ = TorchScriptFormat().load(path)
    inputs = inputs_of_a_step(contract, batch)
    expected = step_of_pytorch(classifier, contract, inputs)
    for name, value, right in zip(contract.output_names, step(inputs), expected, strict=True):
        np.testing.assert_allclose(value, right, atol=1e-5, rtol=1e-4, err_msg=name)


def test_chained_steps_equal_the_classifier_on_whole_sequences(written) -> None:
    path, contract, classifier = written
    step, _ = TorchScriptFormat().load(path)
    rng = np.random.default_rng(1)
    frames = (rng.random((12, 2, *contract.frame_shape)) < 0.1).astype(np.float32)
    state = [np.zeros((2, *tensor.shape), np.float32) for tensor in contract.state]
    found = []
    for k, frame in enumerate(frames):
        keep = [np.array([1.0, k != 7], np.float32)] if contract.state else []  # the second stream starts anew at 7
        logits, _, *state = step([frame, *keep, *state])
        found.append(logits)
    with torch.inference_mode():
        first = classifier(torch.from_numpy(frames[:, :1]))
        second = torch.cat([classifier(torch.from_numpy(part)) for part in (frames[:7, 1:], frames[7:, 1:])])
    np.testing.assert_allclose(np.stack(found), torch.cat([first, second], dim=1).numpy(), atol=1e-5, rtol=1e-4)


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
    assert TorchScriptFormat().load(path)[1] == contract


def test_another_process_in_another_folder_writes_the_same_bytes(written, case_name: str, elsewhere: Path) -> None:
    path, _, _ = written
    assert path.read_bytes() == (elsewhere / f"{case_name}.ts").read_bytes()


def test_second_export_of_a_process_has_the_bytes_of_the_first(checkpoints, tmp_path: Path) -> None:
    classifier, contract = job_of(checkpoints["LeNetClassifier"])
    for name in ("first.ts", "second.ts"):
        TorchScriptFormat().write(ExportJob(classifier, contract), tmp_path / name)
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
        TorchScriptFormat().load(tmp_path / "foreign.ts")
