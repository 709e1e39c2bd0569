"""`edgeclf inspect`: what an exported model says of itself."""

from __future__ import annotations

import json

import click

from edgeclf_runtime.console import json_option, verbosity_options, write_json
from edgeclf_runtime.session import Classifier


@click.command()
@click.argument("model")
@json_option
@verbosity_options
def inspect(model: str, json_path: str | None) -> None:
    """Show the contract inside MODEL: inputs, outputs, state, labels, preprocessing, provenance.

    Example: edgeclf inspect gestures.onnx
    """
    with Classifier.load(model, "cpu") as classifier:
        contract = classifier.contract
    if json_path is not None:
        names = {"inputs": contract.input_names, "outputs": contract.output_names}
        write_json(json_path, json.loads(contract.to_json()) | names)
        return
    channels, height, width = contract.frame_shape
    arguments = ", ".join(f"{name}={value}" for name, value in contract.preprocess_kwargs.items())
    sensor = "not stated" if contract.sensor_size is None else "{}×{} (width × height)".format(*contract.sensor_size)
    rows = [
        ("architecture", contract.architecture),
        ("labels", ", ".join(contract.labels)),
        ("inputs", ", ".join(contract.input_names)),
        ("outputs", ", ".join(contract.output_names)),
        ("event frame", f"{channels} channels, {height} rows, {width} columns, every {contract.delta_t} µs"),
        ("preprocessing", f"{contract.preprocess}({arguments})"),
        ("sensor", sensor),
        ("precision", f"{contract.precision}, opset {contract.opset}"),
        ("checkpoint", f"sha256 {contract.checkpoint_sha256}"),
        ("made by", ", ".join(f"{package} {version}" for package, version in contract.versions.items())),
        *(("memory", f"{s.input_name} -> {s.output_name}, {'×'.join(map(str, s.shape))}") for s in contract.state),
    ]
    for name, value in rows:
        click.echo(f"{name:<15}{value}")
    if not contract.state:
        click.echo(f"{'memory':<15}none")
