"""OpenVINO: the step graph for Intel's and Arm's CPUs, and for Intel's GPUs and NPUs."""

from __future__ import annotations

import importlib.metadata
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from edgeclf_export.formats.base import ExportFormat, ExportJob, ExportOptions
from edgeclf_export.formats.onnx_graph import step_model
from edgeclf_runtime.backends.openvino import import_openvino
from edgeclf_runtime.contract import METADATA_KEY, Contract


class OpenVinoFormat(ExportFormat):
    """OpenVINO's intermediate representation: `NAME.xml`, and the weights in `NAME.bin` beside it."""

    name = "openvino"
    suffix = ".xml"
    summary = "OpenVINO IR with explicit state: NAME.xml and NAME.bin"
    precisions = ("fp32", "fp16", "int8")
    options = ("batch", "float32_edges")
    packages = ("openvino",)
    extra = "openvino"

    def contract(self, contract: Contract, options: ExportOptions) -> Contract:
        """Returns what a file will say; see `ExportFormat.contract`."""
        versions = {**contract.versions, "openvino": importlib.metadata.version("openvino")}
        return replace(super().contract(contract, options), versions=versions)

    def write(self, job: ExportJob, path: Path) -> None:
        """Writes the model and its weights; see `ExportFormat.write`."""
        openvino = import_openvino()
        source = step_model(job)
        model = openvino.convert_model(io.BytesIO(source.SerializeToString(deterministic=True)))
        _name_layers(model, source.graph)
        _name_tensors(model, {*job.contract.input_names, *job.contract.output_names})
        model.set_rt_info(job.contract.to_json(), [METADATA_KEY])
        # By default it would round the weights of every model to float16.
        openvino.save_model(model, path, compress_to_fp16=False)


def _name_layers(model: Any, source: onnx.GraphProto) -> None:
    """Names every layer that OpenVINO added to those of the ONNX graph by its place.

    By default its name counts all layers of the process so far, so that a second export would not have the bytes of
    the first. The names of tensors, by which inputs and outputs are found, stay.
    """
    known = {value.name for value in (*source.node, *source.initializer, *source.input)}
    known |= {name for node in source.node for name in node.output}
    for k, operation in enumerate(model.get_ordered_ops()):
        if operation.get_friendly_name().partition("/")[0] not in known:
            operation.set_friendly_name(f"{operation.get_type_name()}_at_{k}")


def _name_tensors(model: Any, names: set[str]) -> None:
    """Takes every other name from the inputs and outputs: a tensor also has those of operators that were folded away.

    An output that is an input, unchanged, is one tensor with two names.
    """
    for value in (*model.inputs, *model.outputs):
        value.get_tensor().set_names(value.get_names() & names)
