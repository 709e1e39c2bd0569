from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgeclf_runtime.contract import CONTRACT_VERSION, METADATA_KEY, Contract, background_index
from edgeclf_runtime.errors import ContractError


def changed(contract, **changes):
    return {METADATA_KEY: json.dumps(json.loads(contract.to_json()) | changes)}


def test_document(tiny):
    # Name for name: files that are out there hold this.
    assert (CONTRACT_VERSION, METADATA_KEY) == (1, "edgeclf")
    assert json.loads(tiny.to_json()) == {
        "contract_version": 1,
        "architecture": "Tiny",
        "labels": ["background", "paper", "rock", "scissors"],
        "delta_t": 10_000,
        "preprocessing": {"name": "histo", "arguments": {"max_incr_per_pixel": 2}},
        "sensor_size": {"width": 32, "height": 24},
        "frame_size": {"channels": 2, "height": 12, "width": 16},
        "state": [
            {"name": "acc", "input": "state.acc", "output": "next_state.acc", "shape": [2]},
            {
                "name": "conv.last",
                "input": "state.conv.last",
                "output": "next_state.conv.last",
                "shape": [2, 12, 16],
            },
        ],
        "inputs": ["frames", "keep_memory", "state.acc", "state.conv.last"],
        "outputs": ["logits", "probabilities", "next_state.acc", "next_state.conv.last"],
        "batch": None,
        "precision": "fp32",
        "edge_type": "float32",
        "state_type": "float32",
        "opset": 17,
        "versions": {"edgeclf": "0.1.0", "torch": "2.9"},
        "checkpoint_sha256": "ab" * 32,
        "golden_sha256": "",
        "command": "edgeclf export tiny.ckpt out",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sensor_size": None, "opset": None, "state": ()},
        {"labels": ("background", "日本語 é")},
        {"precision": "int8", "batch": 4, "golden_sha256": "cd" * 32, "command": "edgeclf export 'ä b.ckpt' out"},
        {"precision": "fp16", "edge_type": "float16", "state_type": "float16"},
        {"precision": "fp16", "state_type": "float16"},
        {"keep_memory": False},
        {"takes": "events"},
        {"takes": "events", "keep_memory": False},
        {"takes": "events", "state": ()},
    ],
)
def test_round_trip(tiny, changes):
    contract = replace(tiny, **changes)
    assert Contract.from_metadata({METADATA_KEY: contract.to_json()}, "a.onnx") == contract


def test_files_of_the_first_release(tiny):
    # What it wrote, name for name; the fields that came later have the values that its files had.
    added = ("inputs", "outputs", "batch", "edge_type", "state_type", "golden_sha256", "command")
    for contract in (tiny, replace(tiny, state=())):
        document = {name: value for name, value in json.loads(contract.to_json()).items() if name not in added}
        found = Contract.from_metadata({METADATA_KEY: json.dumps(document | {"precision": "float32"})}, "a.onnx")
        assert found == replace(contract, command="")
        assert found.input_names == contract.input_names


def test_later_versions_may_add_fields(tiny):
    assert Contract.from_metadata(changed(tiny, new_field=[1]), "a.onnx") == tiny


def test_inputs_and_outputs(tiny):
    assert tiny.input_names == ["frames", "keep_memory", "state.acc", "state.conv.last"]
    assert tiny.output_names == ["logits", "probabilities", "next_state.acc", "next_state.conv.last"]
    # Sorted by name they pair up, as an inference server does it.
    pairs = [
        (i.removeprefix("state."), o.removeprefix("next_state."))
        for i, o in zip(
            sorted(name for name in tiny.input_names if name.startswith("state.")),
            sorted(name for name in tiny.output_names if name.startswith("next_state.")),
            strict=True,
        )
    ]
    assert pairs == [("acc", "acc"), ("conv.last", "conv.last")]


def test_keep_memory_only_where_there_is_state(tiny):
    stateless = replace(tiny, state=())
    assert stateless.input_names == ["frames"]
    assert stateless.output_names == ["logits", "probabilities"]
    assert replace(tiny, keep_memory=False).input_names == ["frames", "state.acc", "state.conv.last"]


def test_events_stand_where_frames_do(tiny):
    contract = replace(tiny, takes="events")
    assert contract.input_names == ["events", "keep_memory", "state.acc", "state.conv.last"]
    assert contract.output_names == tiny.output_names


def test_file_of_somebody_elses():
    with pytest.raises(ContractError, match=r"a\.onnx: .*not exported by edgeclf.*`edgeclf export`\.$"):
        Contract.from_metadata({"author": "me"}, "a.onnx")


@pytest.mark.parametrize("version", [0, 2])
def test_unknown_version(tiny, version):
    with pytest.raises(ContractError, match=rf"a\.onnx: .*version {version}, .*knows version 1; install"):
        Contract.from_metadata(changed(tiny, contract_version=version), "a.onnx")


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", "{}", '{"contract_version": 1}'])
def test_damaged_document(text):
    with pytest.raises(ContractError, match=r"a\.onnx: its edgeclf contract is damaged; export the checkpoint again"):
        Contract.from_metadata({METADATA_KEY: text}, "a.onnx")


@pytest.mark.parametrize("field", ["sensor_size", "frame_size", "preprocessing", "state"])
@pytest.mark.parametrize("value", [7, "text", [7]])
def test_damaged_field(tiny, field, value):
    with pytest.raises(ContractError, match="damaged"):
        Contract.from_metadata(changed(tiny, **{field: value}), "a.onnx")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("contract_version", "1"),
        ("contract_version", None),
        ("contract_version", True),
        ("contract_version", 1.0),
        ("delta_t", "20000"),
        ("delta_t", 20000.5),
        ("delta_t", 0),
        ("labels", "abcd"),
        ("labels", [1, 2]),
        ("preprocessing", {"name": "histo", "arguments": None}),
        ("preprocessing", {"name": ["histo"], "arguments": {}}),
        ("preprocessing", None),
        ("sensor_size", {"width": 0, "height": 0}),
        ("frame_size", {"channels": 2, "height": "64", "width": 64}),
        ("versions", None),
        ("precision", "fp8"),
        ("precision", None),
        ("precision", ["fp32"]),
        ("edge_type", "float64"),
        ("state_type", None),
        ("state_type", ["float32"]),
        ("batch", 0),
        ("batch", "4"),
        ("batch", True),
        ("inputs", "frames"),
        ("inputs", None),
        ("golden_sha256", None),
        ("command", 7),
    ],
)
def test_a_field_of_the_wrong_type_is_a_damaged_contract(field: str, value: object) -> None:
    document = {
        "contract_version": 1,
        "architecture": "ConvRNNClassifier",
        "labels": ["background", "a"],
        "delta_t": 20_000,
        "preprocessing": {"name": "histo", "arguments": {}},
        "sensor_size": None,
        "frame_size": {"channels": 2, "height": 64, "width": 64},
        "state": [],
        "precision": "float32",
        "opset": 18,
        "versions": {},
        "checkpoint_sha256": "",
    }
    assert Contract.from_metadata({"edgeclf": json.dumps(document)}, "a.onnx").delta_t == 20_000
    with pytest.raises(ContractError, match=r"a\.onnx: its edgeclf contract is damaged"):
        Contract.from_metadata({"edgeclf": json.dumps(document | {field: value})}, "a.onnx")


@pytest.mark.parametrize(
    ("labels", "index"),
    [(("background", "a"), 0), (["a", "b", "background"], 2), (("a", "Background", "back"), None), ((), None)],
)
def test_which_output_is_the_background(labels, index):
    assert background_index(labels) == index
