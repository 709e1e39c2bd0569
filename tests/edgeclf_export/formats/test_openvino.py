from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from edgeclf.hyperparameters import HyperParameters
from edgeclf_export.formats.base import ExportJob, ExportOptions
from edgeclf_export.formats.openvino import OpenVinoFormat, import_openvino
from edgeclf_runtime.errors import ContractError
from tests.edgeclf_export.formats.beside_pytorch import (
    EXPORT,
    assert_chained_steps_equal_whole_sequences,
    assert_one_step_equals_pytorch,
    inputs_of_a_step,
    job_of,
    step_of_pytorch,
    written_elsewhere,
)

pytestmark = pytest.mark.slow  # exports every case

REPOSITORY = Path(__file__).parents[3]

# What is needed to compute the models, and nothing that only moves data about or finds a shape out.
ALLOWED = {
    "Add", "AvgPool", "Clamp", "Concat", "Constant", "Convolution", "GroupConvolution", "MatMul", "MaxPool", "Multiply",
    "Parameter", "ReduceMean", "Relu", "Reshape", "Result", "Sigmoid", "Slice", "Softmax", "Split", "Tanh",
}  # fmt: skip

WITHOUT_NETWORK = """
import sys

def refuse(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect", "socket.sendto"):
        print(event, arguments, flush=True)
        raise OSError("no network here")

sys.addaudithook(refuse)
"""
FORMAT = OpenVinoFormat()


@pytest.fixture(scope="module")
def elsewhere(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_elsewhere(FORMAT, checkpoints.values(), tmp_path_factory.mktemp("somewhere else"))


@pytest.fixture(scope="module")
def written(case_name: str, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    classifier, contract = job_of(FORMAT, checkpoints[case_name])
    path = tmp_path_factory.mktemp("openvino") / "model.xml"
    FORMAT.write(ExportJob(classifier, contract), path)
    return path, contract, classifier


def read(path: Path):
    return import_openvino().Core().read_model(path)


def test_graph_has_the_names_and_shapes_of_the_contract_in_its_order(written) -> None:
    path, contract, _ = written
    model = read(path)
    outputs = [len(contract.labels)]
    shapes = {"frames": [*contract.frame_shape], "keep_memory": [], "logits": outputs, "probabilities": outputs}
    shapes |= {name: [*s.shape] for s in contract.state for name in (s.input_name, s.output_name)}
    for values, names in ((model.inputs, contract.input_names), (model.outputs, contract.output_names)):
        assert [value.get_names() for value in values] == [{name} for name in names]
        sizes = [[d.get_length() if d.is_static else "any" for d in value.partial_shape] for value in values]
        assert sizes == [["any", *shapes[name]] for name in names]
        assert {value.element_type.to_string() for value in values} == {"f32"}


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_one_step_equals_pytorch_at_any_batch_size(written, batch: int) -> None:
    path, contract, classifier = written
    step, _ = FORMAT.load(path)
    assert_one_step_equals_pytorch(step, contract, classifier, batch)


def test_chained_steps_equal_the_classifier_on_whole_sequences(written) -> None:
    path, contract, classifier = written
    step, _ = FORMAT.load(path)
    assert_chained_steps_equal_whole_sequences(step, contract, classifier)


def test_output_that_is_an_input_keeps_its_name(tmp_path: Path) -> None:
    """With two frames at a time the next state of a feed-forward model is the frame that went in."""
    hyper = HyperParameters(
        models="SqueezenetClassifier",
        classes=("background", "left"),
        height=48,
        width=48,
        delta_t=10_000,
        preprocess="histo",
        preprocess_kwargs={"max_incr_per_pixel": 5.0},
        event_input_width=48,
        event_input_height=48,
        num_ev_reps=2,
    )
    weights = {f"net.{name}": value for name, value in hyper.build_model().state_dict().items()}
    torch.save({"hyper_parameters": hyper.to_dict(), "state_dict": weights}, tmp_path / "two.ckpt")
    classifier, contract = job_of(FORMAT, tmp_path / "two.ckpt")
    FORMAT.write(ExportJob(classifier, contract), tmp_path / "two.xml")
    step, _ = FORMAT.load(tmp_path / "two.xml")
    inputs = inputs_of_a_step(contract, batch=2)
    _, _, after = step(inputs)
    assert contract.state[0].shape == contract.frame_shape
    np.testing.assert_array_equal(after, inputs[0])


def test_batch_is_fixed_where_asked_for(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    classifier, contract = job_of(FORMAT, checkpoints["ConvRNNClassifier"], options=ExportOptions(batch=3))
    FORMAT.write(ExportJob(classifier, contract), tmp_path / "three.xml")
    model = read(tmp_path / "three.xml")
    assert {value.partial_shape[0].get_length() for value in [*model.inputs, *model.outputs]} == {3}
    step, inside = FORMAT.load(tmp_path / "three.xml")
    assert inside.batch == 3
    inputs = inputs_of_a_step(contract, batch=3)
    for value, right in zip(step(inputs), step_of_pytorch(classifier, contract, inputs), strict=True):
        np.testing.assert_allclose(value, right, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [ExportOptions(), ExportOptions(float32_edges=True)])
def test_fp16_has_the_types_of_its_contract(case_name: str, checkpoints, tmp_path: Path, options) -> None:
    classifier, contract = job_of(FORMAT, checkpoints[case_name], "fp16", options)
    FORMAT.write(ExportJob(classifier, contract), tmp_path / "model.fp16.xml")
    step, inside = FORMAT.load(tmp_path / "model.fp16.xml")
    assert inside == contract
    assert contract.edge_type == ("float32" if options.float32_edges else "float16")
    inputs = inputs_of_a_step(contract, batch=2)
    found, expected = step(inputs), step_of_pytorch(classifier, contract, inputs)
    assert [value.dtype for value in found] == [contract.edge_type] * 2 + ["float16"] * len(contract.state)
    for name, value, right in zip(contract.output_names, found, expected, strict=True):
        np.testing.assert_allclose(value, right, atol=0.02, rtol=0.02, err_msg=name)


@pytest.mark.parametrize("case", ["ConvRNNClassifier", "LeNetClassifier"])
def test_int8_computes_its_convolutions_in_int8(case: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    classifier, contract = job_of(FORMAT, checkpoints[case], "int8")
    rng = np.random.default_rng(2)
    frames = [(rng.random((20, *contract.frame_shape)) < 0.1).astype(np.float32) for _ in range(3)]
    for name in ("model.int8.xml", "again.int8.xml"):
        FORMAT.write(ExportJob(classifier, contract, frames), tmp_path / name)
    for suffix in (".xml", ".bin"):
        assert (tmp_path / f"model.int8{suffix}").read_bytes() == (tmp_path / f"again.int8{suffix}").read_bytes()
    compiled = import_openvino().Core().compile_model(read(tmp_path / "model.int8.xml"), "CPU")
    information = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ops()]
    computed_in = [
        i["runtimePrecision"].astype(str) for i in information if i["layerType"].astype(str) == "Convolution"
    ]
    assert len([kind for kind in computed_in if kind in ("u8", "i8")]) >= len(computed_in) / 2
    step, inside = FORMAT.load(tmp_path / "model.int8.xml")
    assert inside == contract
    state = [np.zeros((1, *tensor.shape), np.float32) for tensor in contract.state]
    for frame in frames[0]:
        inputs = [frame[None], np.ones(1, np.float32), *state]
        found, expected = step(inputs), step_of_pytorch(classifier, contract, inputs)
        _, _, *state = expected
        assert np.linalg.norm(found[0] - expected[0]) < 0.2 * np.linalg.norm(expected[0])


def test_every_precision_says_what_the_cpu_computes_in(checkpoints, tmp_path: Path, monkeypatch) -> None:
    """A CPU with bfloat16 would compute in it by default, and the one that tests this may have none."""
    asked = []
    core = import_openvino().Core
    compile_model = core.compile_model

    def spy(self, model, device_name, config):
        asked.append((device_name, config["INFERENCE_PRECISION_HINT"]))
        return compile_model(self, model, device_name, config)

    monkeypatch.setattr(core, "compile_model", spy)
    for precision in ("fp32", "fp16"):
        classifier, contract = job_of(FORMAT, checkpoints["LeNetClassifier"], precision)
        FORMAT.write(ExportJob(classifier, contract), tmp_path / f"{precision}.xml")
        FORMAT.load(tmp_path / f"{precision}.xml")
    assert asked == [("CPU", "f32"), ("CPU", "f16")]


def test_batch_norm_is_folded_and_nothing_needless_is_left(written) -> None:
    path, _, classifier = written
    types = [operation.get_type_name() for operation in read(path).get_ops()]
    convolutions = [layer for layer in classifier.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert set(types) <= ALLOWED
    assert types.count("Convolution") + types.count("GroupConvolution") == len(convolutions)


def test_weights_stay_in_float32(written) -> None:
    path, _, classifier = written
    constants = [operation for operation in read(path).get_ops() if operation.get_type_name() == "Constant"]
    assert "f16" not in {constant.get_element_type().to_string() for constant in constants}
    convolutions = [layer.weight for layer in classifier.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert path.with_suffix(".bin").stat().st_size >= 4 * sum(weight.numel() for weight in convolutions)


def test_metadata_is_the_contract_in_the_models_information(written) -> None:
    path, contract, _ = written
    element = ElementTree.parse(path).getroot().find("rt_info/edgeclf")
    assert element is not None
    assert element.get("value") == contract.to_json()
    assert FORMAT.load(path)[1] == contract
    assert contract.versions["openvino"].split(".")[0] in element.get("value", "")


def test_another_process_in_another_folder_writes_the_same_bytes(written, case_name: str, elsewhere: Path) -> None:
    path, _, _ = written
    for suffix in (".xml", ".bin"):
        assert path.with_suffix(suffix).read_bytes() == (elsewhere / f"{case_name}{suffix}").read_bytes()


def test_nothing_of_this_machine_is_inside(written) -> None:
    path, _, _ = written
    content = path.read_bytes()
    for folder in (REPOSITORY, Path(torch.__file__).parent, path.parent):
        assert str(folder).encode() not in content


def test_nobody_is_told_of_an_export(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """OpenVINO would send events when it is imported and when it converts, where nobody has forbidden it."""
    script = WITHOUT_NETWORK + EXPORT + "format_.load(Path(Path(checkpoint).stem + '.xml'))"
    in_ci = ("CI", "TF_BUILD", "JENKINS_URL")  # where OpenVINO sends nothing by itself
    environment = {name: value for name, value in os.environ.items() if name not in in_ci} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", script, FORMAT.name, str(checkpoints["LeNetClassifier"])]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert done.stdout == ""
    assert (tmp_path / "LeNetClassifier.xml").is_file()
    assert not (tmp_path / "intel").exists()  # where it keeps the user's identity


def test_model_without_a_contract_is_refused(written, tmp_path: Path) -> None:
    path, _, _ = written
    foreign = tmp_path / "foreign.xml"
    tree = ElementTree.parse(path)
    information = tree.getroot().find("rt_info")
    assert information is not None
    information.remove(information.find("edgeclf"))  # type: ignore[arg-type]
    tree.write(foreign)
    foreign.with_suffix(".bin").write_bytes(path.with_suffix(".bin").read_bytes())
    with pytest.raises(ContractError, match=r"foreign\.xml: this model was not exported by edgeclf"):
        FORMAT.load(foreign)
