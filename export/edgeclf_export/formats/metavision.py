"""Metavision: the two files that programs written for Prophesee's SDK load a classifier from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeclf_export.formats.base import Array, ExportFormat, ExportJob, Step
from edgeclf_export.implicit_memory import scripted
from edgeclf_export.torchscript_file import save_script
from edgeclf_runtime.backends.torchscript import load_script
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.contract_file import read_contract
from edgeclf_runtime.precision import Precision
from edgeclf_runtime.preprocessing.quantized import DiffQuantized, HistoQuantized

INFO_NAME = "info_classifier_jit.json"
"""What Metavision's programs look for beside `model_classifier.ptjit`."""

_ARGUMENT_NAMES = {
    preprocessing.name: {own: theirs for theirs, own in preprocessing.argument_aliases.items() if own is not None}
    for preprocessing in (HistoQuantized, DiffQuantized)
}
"""What Metavision's preprocessings call the arguments that have another name here."""


class MetavisionFormat(ExportFormat):
    """TorchScript that keeps its memory itself, as `implicit_memory` describes, and the document that goes with it.

    The names of the files and of the document's fields are those of Metavision SDK 4 and 5. The contract travels in
    the TorchScript's extra files, which other programs ignore; its names stand for no inputs there.
    """

    name = "metavision"
    suffix = ".ptjit"
    summary = "the files that programs written for Metavision SDK 4 and 5 load; memory inside the model"

    def path(self, name: str, precision: Precision) -> Path:
        """Returns `metavision/NAME/model_classifier.ptjit`; there is one precision."""
        del precision
        return Path("metavision", name, "model_classifier" + self.suffix)

    def write(self, job: ExportJob, path: Path) -> None:
        """Writes the model and its document; see `ExportFormat.write`."""
        save_script(scripted(job.classifier, job.contract), job.contract, path)
        text = json.dumps(info_document(job.contract, job.label_delta_t, job.use_label_freq), indent=4, sort_keys=True)
        path.with_name(INFO_NAME).write_text(text, encoding="utf-8")

    def load(self, path: Path) -> tuple[Step, Contract]:
        """Loads a written model into PyTorch; see `ExportFormat.load`.

        The step runs the model as its users do, on the memory that it keeps. So it takes every state but zero for the
        one that the call before gave: state can be fed back or cleared, not chosen.
        """
        module, contract = load_script(path, "cpu"), read_contract(path)

        def step(inputs: Sequence[Array]) -> list[Array]:
            with torch.inference_mode():
                if contract.state:
                    keep = np.where(_is_zero(inputs[2:]), 0, inputs[1]).astype(np.float32)
                    if keep.any():
                        module.reset(torch.from_numpy(keep))
                    else:
                        module.reset_all()
                logits = module(torch.from_numpy(inputs[0])[None])[0]
            return [value.numpy() for value in (logits, logits.softmax(dim=-1), *module.memory)]

        return step, contract


def info_document(contract: Contract, label_delta_t: int | None = None, use_label_freq: bool = False) -> dict[str, Any]:
    """Returns what Metavision's programs read beside a model, in plain Python values.

    Args:
        contract: The model's contract.
        label_delta_t: Interval in µs at which the training's frames were labelled; None: every frame was.
        use_label_freq: Whether only frames at that interval counted in training.
    """
    channels, height, width = contract.frame_shape
    names = _ARGUMENT_NAMES.get(contract.preprocess, {})
    return {
        "delta_t": contract.delta_t,
        "label_delta_t": contract.delta_t if label_delta_t is None else label_delta_t,
        "use_label_freq": use_label_freq,
        "models": contract.architecture,
        "preprocess_channels": channels,
        "height": height,
        "width": width,
        "preprocess": contract.preprocess,
        "preprocess_kwargs": {
            names.get(own, own): value for own, value in contract.preprocess_kwargs.items() if own != "preprocess_dtype"
        },
        "label_map": list(contract.labels),
        "num_classes": len(contract.labels),
    }


def _is_zero(state: Sequence[Array]) -> Array:
    """Returns of which streams all state tensors `[B, ...]` are zero, bool `[B]`."""
    zero: Array = np.all([(value == 0).reshape(len(value), -1).all(axis=1) for value in state], axis=0)
    return zero
