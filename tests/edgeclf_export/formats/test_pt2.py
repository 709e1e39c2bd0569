from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.formats.base import ExportJob, ExportOptions
from edgeclf_export.formats.pt2 import Pt2Format
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
from edgeclf_export.formats.pt2 import Pt2Format
from edgeclf_export.step_graph import contract_of

for checkpoint in reversed(sys.argv[1:]):
    loaded = load_checkpoint(Path(checkpoint))
    classifier = loaded.build_model()
    contract = Pt2Format().contract(contract_of(loaded, classifier), ExportOptions())
    Pt2Format().write(ExportJob(classifier, contract), Path(Path(checkpoint).stem + ".pt2"))
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
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    Pt2Format().write(ExportJob(classifier, contract), path)
    return path, contract, classifier


def job_of(checkpoint: Path, precision: Precision = "fp32", options: ExportOptions | None = None):
    loaded = load_checkpoint(checkpoint)
    classifier = loaded.build_model()
    contract = replace(contract_of(loaded, classifier), precision=precision)
    return classifier, Pt2Format().contract(contract, options or ExportOptions())


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
    step, _ = Pt2Format().load(path)
    inputs = inputs_of_a_step(contract, batch)
    expected = step_of_pytorch(classifier, contract, inputs)
    for name, value, right in zip(contract.output_names, step(inputs), expected, strict=True):
        np.testing.assert_allclose(value, right, atol=1e-5, rtol=1e-4, err_msg=name)


def test_chained_steps_equal_the_classifier_on_whole_sequences(written) -> None:
    path, contract, classifier = written
    step, _ = Pt2Format().load(path)
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


@pytest.mark.parametrize("options", [ExportOptions(), ExportOptions(float32_edges=True)])
def test_fp16_has_the_types_of_its_contract(case_name: str, checkpoints, tmp_path: Path, options) -> None:
    classifier, contract = job_of(checkpoints[case_name], "fp16", options)
    Pt2Format().write(ExportJob(classifier, contract), tmp_path / "model.fp16.pt2")
    step, inside = Pt2Format().load(tmp_path / "model.fp16.pt2")
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
    assert Pt2Format().load(path)[1] == contract


def test_another_process_in_another_folder_writes_the_same_bytes(written, case_name: str, elsewhere: Path) -> None:
    path, _, _ = written
    assert path.read_bytes() == (elsewhere / f"{case_name}.pt2").read_bytes()


def test_nothing_of_this_machine_is_inside(written) -> None:
    path, _, _ = written
    content = path.read_bytes()
    for folder in (REPOSITORY, Path(torch.__file__).parent, path.parent):
        assert str(folder).encode() not in content


def test_weights_ask_for_no_gradient_and_the_classifier_keeps_its_own(checkpoints, tmp_path: Path) -> None:
    classifier, contract = job_of(checkpoints["LeNetClassifier"])
    Pt2Format().write(ExportJob(classifier, contract), tmp_path / "model.pt2")
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
        Pt2Format().load(tmp_path / "foreign.pt2")
