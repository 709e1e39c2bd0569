"""Models broken on purpose, each as an export might get it wrong: `edgeclf parity` catches every one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from edgeclf.checkpoint import load_checkpoint
from edgeclf.data.labels import LABEL_MAP_FILE, LabelEvents, write_box_labels, write_label_map
from edgeclf_export.commands.parity import parity
from edgeclf_export.export import ExportRequest, export_checkpoint
from edgeclf_export.parity import check_parity
from edgeclf_export.shipped import Samples, find_samples
from edgeclf_runtime import frames
from edgeclf_runtime.errors import CheckFailedError, EdgeclfError, UsageError
from edgeclf_runtime.events import open_recording

pytestmark = pytest.mark.slow  # each runs the sample data set

INPUT, FORGET = 0, 1  # places of the gates in the weights of ConvRNN


@pytest.fixture(scope="module")
def samples() -> Samples:
    return find_samples()


@pytest.fixture(scope="module")
def exported(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next(iter(export_checkpoint(ExportRequest(samples.checkpoint, tmp_path_factory.mktemp("out"))))).path


def _rows_swapped(weight: torch.Tensor) -> torch.Tensor:
    gates = list(weight.chunk(4))
    gates[INPUT], gates[FORGET] = gates[FORGET], gates[INPUT]
    return torch.cat(gates)


def _with_a_swapped_gate(samples: Samples, _exported: Path, folder: Path) -> Path:
    content = torch.load(samples.checkpoint, weights_only=True)
    weights, changed = content["state_dict"], 0
    for name, value in weights.items():
        if "conv2." in name and value.ndim > 0 and ("conv_x2h" in name or "conv_h2h" in name):
            weights[name] = _rows_swapped(value)
            changed += 1
    assert changed
    torch.save(content, folder / "swapped.ckpt")
    return next(iter(export_checkpoint(ExportRequest(folder / "swapped.ckpt", folder)))).path


def _with_its_state_not_fed_back(_samples: Samples, exported: Path, folder: Path) -> Path:
    """Every `next_state` is zero: no frame knows of the one before."""
    model = onnx.load(exported)
    states = [output.name for output in model.graph.output if output.name.startswith("next_state.")]
    assert states
    renamed = {name: f"lost.{name}" for name in states}
    for node in model.graph.node:
        node.output[:] = [renamed.get(name, name) for name in node.output]
        node.input[:] = [renamed.get(name, name) for name in node.input]
    zero = onnx.numpy_helper.from_array(np.zeros((), np.float32), "zero_state")
    model.graph.initializer.append(zero)
    model.graph.node.extend(onnx.helper.make_node("Mul", [renamed[name], "zero_state"], [name]) for name in states)
    onnx.save(model, folder / "forgetful.onnx")
    return folder / "forgetful.onnx"


@pytest.mark.parametrize("break_it", [_with_a_swapped_gate, _with_its_state_not_fed_back])
def test_a_broken_graph_ends_with_exit_code_1(
    break_it: Callable[[Samples, Path, Path], Path], samples: Samples, exported: Path, tmp_path: Path
) -> None:
    model = break_it(samples, exported, tmp_path)
    arguments = [str(samples.checkpoint), str(model), str(samples.dataset), "--json", str(tmp_path / "p.json")]
    with pytest.raises(CheckFailedError, match="accuracy") as failed:
        CliRunner().invoke(parity, arguments, catch_exceptions=False)
    assert failed.value.exit_code == 1
    document = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert document["passed"] is False
    assert document["first_parting"] is not None
    assert document["mcnemar"]["p_value"] < 1e-6
    assert document["mcnemar"]["only_reference_right"] > document["mcnemar"]["only_exported_right"]
    assert document["drift"]["verdict"] == "apart"
    assert document["problems"] == []


def _with_another_argument(exported: Path, folder: Path) -> Path:
    """The contract says that a pixel is full after 2 events, and the classifier was trained on 5."""
    model = onnx.load(exported)
    for entry in model.metadata_props:
        if entry.key == "edgeclf":
            contract = json.loads(entry.value)
            assert contract["preprocessing"]["arguments"] == {"max_incr_per_pixel": 5.0}
            contract["preprocessing"]["arguments"]["max_incr_per_pixel"] = 2.0
            entry.value = json.dumps(contract)
    onnx.save(model, folder / "argument.onnx")
    return folder / "argument.onnx"


def test_a_wrong_preprocessing_argument_is_refused(samples: Samples, exported: Path, tmp_path: Path) -> None:
    model = _with_another_argument(exported, tmp_path)
    arguments = [str(samples.checkpoint), str(model), str(samples.dataset)]
    with pytest.raises(UsageError, match=r"max_incr_per_pixel is 2\.0, the checkpoint's 5\.0") as refused:
        CliRunner().invoke(parity, arguments, catch_exceptions=False)
    assert refused.value.exit_code == 2


@pytest.fixture
def of_events(samples: Samples, tmp_path: Path) -> Path:
    """A data set of the sample recording as DAT: frames are made as they are read, by each side on its own."""
    root = tmp_path / "events"
    (root / "test").mkdir(parents=True)
    write_label_map(root, load_checkpoint(samples.checkpoint).hyperparameters.classes)
    recording = open_recording(samples.recording)
    parts = list(recording)
    t = np.concatenate([events.t for events in parts])
    words = np.zeros(len(t), [("t", "<u4"), ("xyp", "<u4")])
    words["t"] = t
    x, y, p = (np.concatenate([getattr(events, axis) for events in parts]).astype(np.uint32) for axis in "xyp")
    words["xyp"] = x | y << 14 | p << 28
    width, height = recording.sensor_size
    header = f"% Width {width}\n% Height {height}\n% Version 2\n".encode()
    (root / "test" / "gestures_td.dat").write_bytes(header + bytes([0, 8]) + words.tobytes())
    labels = LabelEvents(np.array([500_000, 520_000]), np.array([1, 1], np.int64))
    write_box_labels(root / "test" / "gestures_bbox.npy", labels, (width, height))
    assert (root / LABEL_MAP_FILE).is_file()
    return root


class DeafMaker(frames.FrameMaker):
    """Makes frames with an argument of its own, whatever it is told."""

    def __init__(self, preprocess: str, preprocess_kwargs: Mapping[str, Any], *others: Any, **more: Any) -> None:
        assert preprocess_kwargs == {"max_incr_per_pixel": 5.0}
        super().__init__(preprocess, {"max_incr_per_pixel": 2.0}, *others, **more)


def test_frames_made_with_another_argument_than_the_contract_says_end_with_exit_code_1(
    samples: Samples, exported: Path, of_events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contract is right, and the runtime does not do as it says; training reads frames as ever."""
    assert check_parity(samples.checkpoint, exported, of_events)
    monkeypatch.setattr(frames, "FrameMaker", DeafMaker)
    arguments = [str(samples.checkpoint), str(exported), str(of_events), "--json", str(tmp_path / "p.json")]
    with pytest.raises(CheckFailedError, match="expected_calibration_error") as failed:
        CliRunner().invoke(parity, arguments, catch_exceptions=False)
    assert failed.value.exit_code == 1
    document = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert document["passed"] is False
    assert document["max_abs_logit_difference"] > 0.1
    assert document["drift"]["verdict"] == "apart"


def test_a_tensor_file_made_with_another_argument_is_refused(
    samples: Samples, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _with_another_argument(exported, tmp_path)
    monkeypatch.setattr("edgeclf_export.parity.check.Footing.difference", lambda *_: None)
    with pytest.raises(EdgeclfError, match=r"were made with max_incr_per_pixel 5\.0, the model's 2\.0"):
        check_parity(samples.checkpoint, model, samples.dataset)
