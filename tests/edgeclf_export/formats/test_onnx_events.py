from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgeclf.checkpoint import load_checkpoint
from edgeclf_export.formats.base import OPSET, ExportJob, ExportOptions
from edgeclf_export.formats.onnx import OnnxFormat
from edgeclf_export.formats.onnx_events import OnnxEventsFormat
from edgeclf_export.step_graph import contract_of
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.preprocessing import area_resize, create_preprocessing

pytestmark = pytest.mark.slow  # exports every case

FORMAT = OnnxEventsFormat()
SENSOR = (64, 56)  # larger than the frames of the checkpoints here, 48×48, and no multiple of them


def contract_for(checkpoint: Path, options: ExportOptions | None = None, **changes: object):
    """Returns the classifier of a checkpoint and the contract of its file, changed as told beforehand."""
    loaded = load_checkpoint(checkpoint)
    classifier = loaded.build_model()
    base = replace(contract_of(loaded, classifier), **changes)
    return classifier, FORMAT.contract(base, options or ExportOptions())


@pytest.fixture(scope="module")
def written(case_name: str, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("onnx-events")
    classifier, contract = contract_for(checkpoints[case_name], sensor_size=SENSOR)
    return write_both(classifier, contract, folder)


def write_both(classifier, contract: Contract, folder: Path) -> tuple[Path, Contract, Path]:
    """Writes the file and the step graph of the same classifier; returns its path, its contract and the other path."""
    FORMAT.write(ExportJob(classifier, contract), folder / "model.events.onnx")
    step_contract = OnnxFormat().contract(replace(contract, takes="frames"), ExportOptions(batch=1))
    OnnxFormat().write(ExportJob(classifier, step_contract), folder / "model.onnx")
    return folder / "model.events.onnx", contract, folder / "model.onnx"


def slice_of(rng: np.random.Generator, count: int) -> Events:
    x, y = rng.integers(0, SENSOR[0], count), rng.integers(0, SENSOR[1], count)
    hot = rng.random(count) < 0.2
    x[hot], y[hot] = 30, 20
    t, p = np.sort(rng.integers(0, 10_000, count)), rng.integers(0, 2, count)
    return Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8))


def rows_of(events: Events, padding: int = 0):
    rows = np.stack([events.x, events.y, events.p, events.t], axis=1).astype(np.int64)
    return np.pad(rows, ((0, padding), (0, 0)), constant_values=-1)


def test_chained_steps_equal_the_step_graph_on_the_runtimes_frames(written) -> None:
    assert_chained_steps_equal_the_step_graph(*written)


def test_chained_steps_of_a_model_that_takes_diff(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    loaded = load_checkpoint(checkpoints["ConvRNNClassifier"])
    hyper = replace(
        loaded.hyperparameters, preprocess="diff", preprocess_channels=1, preprocess_kwargs={"max_incr_per_pixel": 1.5}
    )
    torch.manual_seed(0)
    classifier = hyper.build_model().eval()
    contract = contract_of(replace(loaded, hyperparameters=hyper), classifier)
    contract = FORMAT.contract(replace(contract, sensor_size=SENSOR), ExportOptions())
    assert contract.frame_shape == (1, 48, 48)
    assert_chained_steps_equal_the_step_graph(*write_both(classifier, contract, tmp_path))


def assert_chained_steps_equal_the_step_graph(path: Path, contract: Contract, step_path: Path) -> None:
    (step, found), (reference, _) = FORMAT.load(path), OnnxFormat().load(step_path)
    assert found == contract
    make_frame = create_preprocessing(
        contract.preprocess, contract.sensor_size, contract.delta_t, **contract.preprocess_kwargs
    )
    rng = np.random.default_rng(1)
    state = [np.zeros((1, *tensor.shape), np.float32) for tensor in contract.state]
    right = list(state)
    first_logits = None
    for k, count in enumerate([300, 4000, 0, 1, 900, 2500, 0, 700, 1200, 3000]):
        events = slice_of(rng, count)
        frame = area_resize(make_frame(events, 0), *contract.frame_shape[1:])[None]
        keep = [np.array([0.0 if k in (0, 6) else 1.0], np.float32)] if contract.state else []
        logits, probabilities, *state = step([rows_of(events, padding=k % 3), *keep, *state])
        expected = reference([frame, *keep, *right])
        right = expected[2:]
        for value, one in zip([logits, probabilities, *state], expected, strict=True):
            np.testing.assert_allclose(value, one, rtol=0, atol=1e-5)
        first_logits = logits if first_logits is None else first_logits
    assert np.abs(logits - first_logits).max() > 1e-4  # the events make a difference


def test_names_types_and_shapes_are_those_of_the_contract(written) -> None:
    path, contract, _ = written
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {given.name: (given.type, given.shape) for given in session.get_inputs()}
    outputs = {made.name: (made.type, made.shape) for made in session.get_outputs()}
    assert list(inputs) == contract.input_names
    assert list(outputs) == contract.output_names
    assert contract.input_names[0] == "events"
    assert inputs["events"] == ("tensor(int64)", ["event_count", 4])
    assert ("keep_memory" in inputs) == bool(contract.state)
    assert inputs.get("keep_memory", ("tensor(float)", [1])) == ("tensor(float)", [1])
    assert outputs["logits"] == outputs["probabilities"] == ("tensor(float)", [1, len(contract.labels)])
    for tensor in contract.state:
        assert inputs[tensor.input_name] == outputs[tensor.output_name] == ("tensor(float)", [1, *tensor.shape])


def test_file_says_what_it_takes(written) -> None:
    path, contract, _ = written
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert Contract.from_metadata(metadata, "model.events.onnx") == contract
    assert (contract.takes, contract.batch, contract.opset, contract.sensor_size) == ("events", 1, OPSET, SENSOR)


def test_same_checkpoint_gives_the_same_bytes(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    contents = []
    for _ in range(2):
        classifier, contract = contract_for(checkpoints["ConvRNNClassifier"], sensor_size=SENSOR)
        FORMAT.write(ExportJob(classifier, contract), tmp_path / "model.events.onnx")
        contents.append((tmp_path / "model.events.onnx").read_bytes())
    assert contents[0] == contents[1]


def test_frames_of_the_sensors_own_size_are_not_shrunk(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    classifier, contract = contract_for(checkpoints["ConvRNNClassifier"], ExportOptions(opset=20))
    FORMAT.write(ExportJob(classifier, contract), tmp_path / "model.events.onnx")
    model = onnx.load(tmp_path / "model.events.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    assert not {"MatMul", "AveragePool"} & {node.op_type for node in model.graph.node}


def test_sensor_size_is_that_of_the_checkpoint_else_the_one_given(checkpoints: dict[str, Path]) -> None:
    checkpoint = checkpoints["LeNetClassifier"]
    given = ExportOptions(sensor_size=(640, 480))
    assert contract_for(checkpoint)[1].sensor_size == (48, 48)
    assert contract_for(checkpoint, given, sensor_size=None)[1].sensor_size == (640, 480)
    assert contract_for(checkpoint, given, sensor_size=(640, 480))[1].sensor_size == (640, 480)
    with pytest.raises(UsageError, match=r"its sensor is 48×48.*--sensor-size says 640×480"):
        contract_for(checkpoint, given)


def test_what_it_cannot_write_is_refused_before_anything_is_traced(checkpoints: dict[str, Path]) -> None:
    checkpoint = checkpoints["LeNetClassifier"]
    with pytest.raises(UsageError, match="give --sensor-size WIDTH HEIGHT"):
        contract_for(checkpoint, sensor_size=None)
    with pytest.raises(UsageError, match="timesurface"):
        contract_for(checkpoint, preprocess="timesurface")
    with pytest.raises(UsageError, match="enlarged"):
        contract_for(checkpoint, ExportOptions(sensor_size=(40, 48)), sensor_size=None)
    with pytest.raises(UsageError, match="no precision fp16"):
        FORMAT.check("fp16", ExportOptions())
    with pytest.raises(UsageError, match="takes no --batch"):
        FORMAT.check("fp32", ExportOptions(batch=2))
