"""TorchScript: the step graph for C++ programs that link libtorch."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch

from edgeclf_export.formats.base import Array, ExportFormat, ExportJob, Step
from edgeclf_export.step_graph import StepGraph
from edgeclf_runtime.contract import METADATA_KEY, Contract

_ALIGNMENT = 64
"""Where PyTorch lets each member of an archive begin, so that tensors can be mapped into memory."""
_HEADER_SIZE = 30
"""Of a member in a zip archive, without its name and its extra field (APPNOTE.TXT, 4.3.7)."""
_NUMBER = re.compile(rb"___torch_mangle_\d+")
"""What PyTorch calls a class after counting all that the process has traced before it."""


class TorchScriptFormat(ExportFormat):
    """TorchScript by tracing: the inputs are positional, in the order of the contract's names."""

    name = "torchscript"
    suffix = ".ts"
    summary = "TorchScript with explicit state; legacy: PyTorch has deprecated TorchScript"

    def write(self, job: ExportJob, path: Path) -> None:
        """Writes the model; see `ExportFormat.write`."""
        graph = StepGraph(job.classifier, job.contract)
        buffer = io.BytesIO()
        with warnings.catch_warnings(), torch.no_grad():
            _ignore_deprecation()
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                graph, graph.example_inputs(batch=2), check_trace=False
            )
            frozen = torch.jit.freeze(traced)
            # Through a buffer: given a path, PyTorch names the folder inside the archive after the file.
            torch.jit.save(frozen, buffer, _extra_files={METADATA_KEY: job.contract.to_json()})
        path.write_bytes(_reproducible(buffer))

    def load(self, path: Path) -> tuple[Step, Contract]:
        """Loads a written model into PyTorch; see `ExportFormat.load`."""
        extra = {METADATA_KEY: ""}
        with warnings.catch_warnings():
            _ignore_deprecation()
            module = torch.jit.load(  # type: ignore[no-untyped-call]
                str(path), map_location="cpu", _extra_files=extra
            )
        text = extra[METADATA_KEY]
        metadata = {METADATA_KEY: text.decode() if isinstance(text, bytes) else text} if text else {}
        contract = Contract.from_metadata(metadata, str(path))

        def step(inputs: Sequence[Array]) -> list[Array]:
            with torch.inference_mode():  # on copies: an output may be a view of an input
                outputs = module(*(torch.tensor(value) for value in inputs))
            return [value.numpy() for value in outputs]

        return step, contract


def _ignore_deprecation() -> None:
    warnings.filterwarnings("ignore", message=r".*torch\.jit\.\w+` is (deprecated|not supported).*")


def _reproducible(archive: io.BytesIO) -> bytes:
    """Returns a TorchScript archive without what depends on the machine and on what the process did before.

    That is: where in this machine's sources a line of code came from (`.debug_pkl`), the number of the class, and the
    digest over these (`serialization_id`), which nothing reads.
    """
    written = io.BytesIO()
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            if name.endswith((".debug_pkl", "/.data/serialization_id")):
                continue
            content = source.read(name)
            if name.endswith((".py", "/data.pkl")):  # a pickle of protocol 2 holds a class's name as a line of text
                content = _NUMBER.sub(b"___torch_mangle_0", content)
            member = zipfile.ZipInfo(_NUMBER.sub(b"___torch_mangle_0", name.encode()).decode())
            member.create_system = 3  # on every system
            _align(member, written.tell())
            target.writestr(member, content)
    return written.getvalue()


def _align(member: zipfile.ZipInfo, offset: int) -> None:
    """Pads the header of a member that begins at `offset`, so that its content begins where PyTorch's do."""
    padding = -(offset + _HEADER_SIZE + len(member.filename.encode()) + 4) % _ALIGNMENT
    member.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding  # as PyTorch itself writes it
