"""`edgeclf inspect`: what an exported model says of itself, what runs it here, and whether it is right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import click

from edgeclf_runtime.comparison import Comparison
from edgeclf_runtime.console import json_option, table, verbosity_options, write_json
from edgeclf_runtime.contract import KEEP_MEMORY, LOGITS, PROBABILITIES, Contract
from edgeclf_runtime.contract_file import model_file, model_kind, read_contract
from edgeclf_runtime.errors import CheckFailedError
from edgeclf_runtime.fusion import Fusion, compare_graphs
from edgeclf_runtime.golden import golden_path
from edgeclf_runtime.onnx_file import OnnxValue, read_onnx
from edgeclf_runtime.self_test import difference_table, self_test
from edgeclf_runtime.session import Backend, Device, open_model, optimised_graph


@click.command()
@click.argument("model")
@click.option("--graph", is_flag=True,
              help="Count the operators of an ONNX file, and those that ONNX Runtime runs in their place.")  # fmt: skip
@click.option("--check", is_flag=True,
              help="Replay the golden vectors beside the model; exit code 1 where the outputs differ.")  # fmt: skip
@click.option("--device", type=click.Choice(["cpu", "cuda", "auto"]), default="cpu", show_default=True,
              help="Where --graph and --check run; they say what does.")  # fmt: skip
@json_option
@verbosity_options
def inspect(model: str, graph: bool, check: bool, device: Device, json_path: str | None) -> None:
    """Show the contract inside MODEL: inputs, outputs, state, labels, preprocessing, provenance.

    MODEL is a file of any format that `edgeclf export` writes, or a folder that it wrote for Triton or Metavision.

    Example: edgeclf inspect gestures.onnx --graph --check
    """
    path = model_file(model)
    contract = read_contract(path)
    inputs, outputs = _values(path, contract)
    vectors = _golden_state(path, contract)
    document = json.loads(contract.to_json()) | {
        "tensors": {value.name: {"type": value.type, "shape": list(value.shape)} for value in (*inputs, *outputs)},
        "golden_vectors": {"file": golden_path(path).name if contract.golden_sha256 else None, "state": vectors},
    }
    rows = _rows(contract, inputs, outputs, path, vectors)
    texts = ["\n".join(f"{name:<16}{_printable(value)}".rstrip() for name, value in rows)]
    if graph:
        fusion = compare_graphs(*optimised_graph(path, device))
        document["graph"] = fusion.to_dict()
        texts.append(_graph_text(fusion))
    failure = None
    if graph or check:
        with open_model(path, device) as opened:
            failure = _check(opened, path, document, texts) if check else None
            document["runs_on"] = {"device": opened.device} | opened.placement.to_dict()
            texts.append(f"runs on {opened.device}: {opened.placement}")
    if json_path is not None:
        write_json(json_path, document)
    else:
        click.echo("\n\n".join(texts))
    if failure is not None:
        raise failure


def _check(model: Backend, path: Path, document: dict[str, Any], texts: list[str]) -> CheckFailedError | None:
    """Replays the golden vectors, puts down what was found, and returns the failure, for after it has been shown."""

    def show(comparison: Comparison) -> None:
        document["check"] = {"device": model.device} | comparison.to_dict()
        texts.append(difference_table(comparison))

    try:
        self_test(model.run, model.contract, path, show)
    except CheckFailedError as error:
        return error
    return None


GoldenState = Literal["none", "there", "missing", "other"]

_GOLDEN_TEXTS: dict[GoldenState, str] = {
    "there": "is beside the file",
    "missing": "is not beside the file",
    "other": "beside the file is of another export",
}


def _rows(
    contract: Contract,
    inputs: list[OnnxValue],
    outputs: list[OnnxValue],
    path: Path,
    vectors: GoldenState,
) -> Iterator[tuple[str, str]]:
    """Gives the contract, a name and a text a row."""
    channels, height, width = contract.frame_shape
    arguments = ", ".join(f"{name}={value}" for name, value in contract.preprocess_kwargs.items())
    sensor = "not stated" if contract.sensor_size is None else "{}×{} (width × height)".format(*contract.sensor_size)
    yield "architecture", contract.architecture
    yield "labels", ", ".join(contract.labels)
    for kind, values in (("input", inputs), ("output", outputs)):
        for value in values:
            yield kind, f"{value.name} [{', '.join(map(str, value.shape))}] {value.type}"
    for tensor in contract.state:
        yield "memory", f"{tensor.input_name} -> {tensor.output_name}, {'×'.join(map(str, tensor.shape))}"
    if not contract.state:
        yield "memory", "none"
    elif not contract.keep_memory:
        yield "memory", f"no {KEEP_MEMORY}: the server sets a new stream's state to zero"
    yield "event frame", f"{channels} channels, {height} rows, {width} columns, every {contract.delta_t} µs"
    yield (
        "preprocessing",
        f"{contract.preprocess}({arguments})" + (", inside the graph" if contract.takes == "events" else ""),
    )
    yield "sensor", sensor
    yield "precision", contract.precision
    yield "streams", "any number" if contract.batch is None else f"{contract.batch} in every step"
    yield "opset", "none" if contract.opset is None else str(contract.opset)
    yield "checkpoint", f"sha256 {contract.checkpoint_sha256}" if contract.checkpoint_sha256 else "not stated"
    yield "made by", ", ".join(f"{package} {version}" for package, version in contract.versions.items())
    yield "command", contract.command or "not stated"
    if contract.golden_sha256:
        yield "golden vectors", f"sha256 {contract.golden_sha256}"
        yield "", f"{golden_path(path).name} {_GOLDEN_TEXTS[vectors]}"
    else:
        yield "golden vectors", "none"


def _printable(text: str) -> str:
    """Returns a text with what a terminal would obey escaped: a file may come from anywhere."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _values(path: Path, contract: Contract) -> tuple[list[OnnxValue], list[OnnxValue]]:
    """Returns inputs and outputs with types and shapes, as an ONNX file states them, else as the contract does."""
    if model_kind(path) == "onnx":
        found = read_onnx(path)
        stated = {value.name: value for value in (*found.inputs, *found.outputs)}
    else:
        batch = "batch" if contract.batch is None else contract.batch
        shapes: dict[str, tuple[int | str, ...]] = {
            contract.takes: (batch, *contract.frame_shape),
            KEEP_MEMORY: (batch,),
            LOGITS: (batch, len(contract.labels)),
            PROBABILITIES: (batch, len(contract.labels)),
        }
        stated = {name: OnnxValue(name, contract.edge_type, shape) for name, shape in shapes.items()}
        for tensor in contract.state:
            for name in (tensor.input_name, tensor.output_name):
                stated[name] = OnnxValue(name, contract.state_type, (batch, *tensor.shape))
    missing = {
        name: OnnxValue(name, "missing in the graph", ()) for name in contract.input_names + contract.output_names
    }
    stated = missing | stated
    return [stated[name] for name in contract.input_names], [stated[name] for name in contract.output_names]


def _golden_state(path: Path, contract: Contract) -> GoldenState:
    """Returns whether a model has golden vectors, and whether they are beside it."""
    if not contract.golden_sha256:
        return "none"
    file = golden_path(path)
    if not file.is_file():
        return "missing"
    return "there" if hashlib.sha256(file.read_bytes()).hexdigest() == contract.golden_sha256 else "other"


def _graph_text(fusion: Fusion) -> str:
    def listed(counts: Mapping[str, int]) -> str:
        return ", ".join(f"{name} ({count})" for name, count in counts.items())

    return "\n".join(
        [
            table(("operator", "in the file", "after fusion"), fusion.rows()),
            f"not fused: {listed(fusion.not_fused)}" if fusion.not_fused else "everything that can be fused is",
            f"computes nothing: {listed(fusion.moving)}" if fusion.moving else "nothing is converted or moved about",
        ]
    )
