"""Triton: a model repository whose server, NVIDIA Triton, keeps every stream's state.

Fields and their meaning are those of Triton's `model_config.proto`, and of its documents "Model Configuration",
"Sequence Batcher" and "Implicit State Management".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeclf_export.formats.base import ExportJob, ExportOptions
from edgeclf_export.formats.onnx_graph import OnnxBasedFormat, finished, step_model
from edgeclf_runtime.contract import LOGITS, PROBABILITIES, Contract, FloatType
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.precision import Precision

CONFIG_NAME = "config.pbtxt"
LABELS_NAME = "labels.txt"

MAX_STREAMS = 64
"""Streams whose state an instance holds at a time. A camera's sequence does not end, so a further one would wait."""

MAX_BATCH = 16
"""Most streams in one step; the frames that came while a step was under way make the next one, however few."""

MAX_IDLE_US = 3_600_000_000
"""An hour, where Triton's default is a second: a camera that sees nothing move sends no events for minutes, and must
find its state again, while the place of a program that ended without a word is free again within the hour."""


class TritonFormat(OnnxBasedFormat):
    """The step graph without `keep_memory`, and the configuration that makes Triton feed its state back.

    A client sends one frame a request, `[1, C, H, W]`, under its stream's correlation id. With `sequence_start`, which
    a stream's first request needs and any later one may have, the server starts the stream from a state of zeros.
    """

    name = "triton"
    suffix = ".onnx"
    summary = "a model repository for NVIDIA Triton, which keeps the state of every stream"
    precisions = ("fp32", "fp16", "int8")
    options = ("opset", "float32_edges")

    def path(self, name: str, precision: Precision) -> Path:
        """Returns `triton/NAME/1/model.onnx`, or `triton/NAME_int8/1/model.onnx`: `triton` is the repository."""
        return Path("triton", name + ("" if precision == "fp32" else f"_{precision}"), "1", "model" + self.suffix)

    def contract(self, contract: Contract, options: ExportOptions) -> Contract:
        """Returns what a file will say; see `ExportFormat.contract`.

        Raises:
            UsageError: Where a label cannot stand in a file with a label on each line.
        """
        known = super().contract(contract, options)
        # The server clears state, so the graph need not; a file without state is read as one that has the input.
        labels_text(contract.labels)  # raises before the exporter has worked for nothing
        return replace(known, keep_memory=not contract.state)

    def write(self, job: ExportJob, path: Path) -> None:
        """Writes the model, and beside its version's folder the configuration and the labels."""
        labels = labels_text(job.contract.labels)
        path.write_bytes(finished(step_model(job), job.contract))
        folder = path.parents[1]
        folder.joinpath(CONFIG_NAME).write_text(config_text(job.contract, folder.name), encoding="utf-8")
        folder.joinpath(LABELS_NAME).write_text(labels, encoding="utf-8")


def config_text(contract: Contract, name: str) -> str:
    """Returns a model's `config.pbtxt`.

    Triton lists the state under `sequence_batching` and nowhere else, and leaves the batch axis out of every shape.

    Args:
        contract: The contract of a graph without `keep_memory`.
        name: The model's folder in the repository.
    """
    outputs = [_tensor(LOGITS, contract.edge_type, [len(contract.labels)])]
    outputs.append(
        {**_tensor(PROBABILITIES, contract.edge_type, [len(contract.labels)]), "label_filename": LABELS_NAME}
    )
    batching: dict[str, Any] = {"dynamic_batching": {}}
    if contract.state:
        batching = {
            "sequence_batching": {
                "max_sequence_idle_microseconds": MAX_IDLE_US,
                "oldest": {"max_candidate_sequences": MAX_STREAMS},
                "state": [_state(t.input_name, t.output_name, contract.state_type, t.shape) for t in contract.state],
            }
        }
    config = {
        "name": name,
        "backend": "onnxruntime",
        "max_batch_size": MAX_BATCH,
        "input": [_tensor(contract.takes, contract.edge_type, contract.frame_shape)],
        "output": outputs,
        **batching,
    }
    return "\n".join(_fields(config)) + "\n"


def labels_text(labels: Sequence[str]) -> str:
    """Returns a labels file: the name of each output on a line of its own.

    Raises:
        UsageError: Where a name is empty or has more than one line.
    """
    for label in labels:
        if label.splitlines() != [label]:
            raise UsageError(
                f"Triton's labels file has one class on each line, and the class name {label!r} does not fit on one; "
                "export to another format, or train with another name."
            )
    return "".join(f"{label}\n" for label in labels)


class _Word(str):
    """A value of an enumeration: text that goes without quotes."""


_TYPES: dict[FloatType, _Word] = {"float32": _Word("TYPE_FP32"), "float16": _Word("TYPE_FP16")}


def _tensor(name: str, kind: FloatType, shape: Sequence[int]) -> dict[str, Any]:
    return {"name": name, "data_type": _TYPES[kind], "dims": list(shape)}


def _state(input_name: str, output_name: str, kind: FloatType, shape: Sequence[int]) -> dict[str, Any]:
    shaped = {"data_type": _TYPES[kind], "dims": list(shape)}
    zeros = {"name": "zeros", **shaped, "zero_data": True}
    return {"input_name": input_name, "output_name": output_name, **shaped, "initial_state": zeros}


def _fields(message: dict[str, Any], depth: int = 0) -> list[str]:
    """Returns the lines of a message in protobuf's text format: a message or a list of them as a block each."""
    indent = "  " * depth
    lines: list[str] = []
    for field, value in message.items():
        blocks = value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]
        for block in blocks:
            if isinstance(block, dict):
                inner = _fields(block, depth + 1)
                lines += [f"{indent}{field} {{", *inner, f"{indent}}}"] if inner else [f"{indent}{field} {{}}"]
            else:
                lines.append(f"{indent}{field}: {_scalar(block)}")
    return lines


def _scalar(value: object) -> str:
    """Returns a value in protobuf's text format; JSON writes texts, numbers, truth values and lists of them alike."""
    return value if isinstance(value, _Word) else json.dumps(value, ensure_ascii=False)
