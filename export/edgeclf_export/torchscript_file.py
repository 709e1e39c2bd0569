"""Files of TorchScript, whatever is in them, written so that the same module gives the same bytes."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

from edgeclf_runtime.backends.torchscript import torchscript_wanted
from edgeclf_runtime.contract import METADATA_KEY, Contract

_ALIGNMENT = 64
"""Where PyTorch lets each member of an archive begin, so that tensors can be mapped into memory."""

_HEADER_SIZE = 30
"""Of a member in a zip archive, without its name and its extra field (APPNOTE.TXT, 4.3.7)."""


def save_script(module: torch.jit.ScriptModule, contract: Contract, path: Path) -> None:
    """Writes a module with its contract among the extra files.

    The same module gives the same bytes where it was made within `making_torchscript`.
    """
    buffer = io.BytesIO()
    with torchscript_wanted():
        # Through a buffer: given a path, PyTorch names the folder inside the archive after the file.
        torch.jit.save(module, buffer, _extra_files={METADATA_KEY: contract.to_json()})
    path.write_bytes(_reproducible(buffer))


@contextlib.contextmanager
def making_torchscript() -> Iterator[None]:
    """Within it, a module is traced and scripted as if the process had never made another.

    PyTorch keeps the classes that it makes of modules in one registry a process, and everything made before shows in
    what comes after: classes carry a number where their name is taken, they are written in another order, and even
    arguments are called otherwise (`argument_1` for `input`), which cannot be mended in the file. So a registry of its
    own takes the place of the process's. To clear the process's would do as well for the file, but it frees the code
    of modules that are still in use. What is made here keeps its registry alive and works on outside.
    """
    state, recursive = torch.jit._state, torch.jit._recursive
    before = state._python_cu, recursive.concrete_type_store
    # Both: the store holds types of the registry, which must not be found again in another.
    state._python_cu, recursive.concrete_type_store = torch._C.CompilationUnit(), recursive.ConcreteTypeStore()
    try:
        with torchscript_wanted():
            yield
    finally:
        state._python_cu, recursive.concrete_type_store = before


def _reproducible(archive: io.BytesIO) -> bytes:
    """Returns a TorchScript archive without what depends on the machine.

    That is: where in this machine's sources a line of code came from (`.debug_pkl`), and the digest over this and the
    rest (`serialization_id`), which nothing reads.
    """
    written = io.BytesIO()
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            if name.endswith((".debug_pkl", "/.data/serialization_id")):
                continue
            member = zipfile.ZipInfo(name)
            member.create_system = 3  # on every system
            _align(member, written.tell())
            target.writestr(member, source.read(name))
    return written.getvalue()


def _align(member: zipfile.ZipInfo, offset: int) -> None:
    """Pads the header of a member that begins at `offset`, so that its content begins where PyTorch's do."""
    padding = -(offset + _HEADER_SIZE + len(member.filename.encode()) + 4) % _ALIGNMENT
    member.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding  # as PyTorch itself writes it
