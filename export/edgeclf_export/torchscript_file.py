"""Files of TorchScript, whatever is in them: written so that the same module gives the same bytes, and read again."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from edgeclf_runtime.contract import METADATA_KEY, Contract

_ALIGNMENT = 64
"""Where PyTorch lets each member of an archive begin, so that tensors can be mapped into memory."""

_HEADER_SIZE = 30
"""Of a member in a zip archive, without its name and its extra field (APPNOTE.TXT, 4.3.7)."""

_NUMBER = re.compile(rb"___torch_mangle_(\d+)")
"""What PyTorch calls a class after counting all that the process has traced or scripted before it."""


def save_script(module: torch.jit.ScriptModule, contract: Contract, path: Path) -> None:
    """Writes a module with its contract among the extra files."""
    buffer = io.BytesIO()
    with torchscript_wanted():
        # Through a buffer: given a path, PyTorch names the folder inside the archive after the file.
        torch.jit.save(module, buffer, _extra_files={METADATA_KEY: contract.to_json()})
    path.write_bytes(_reproducible(buffer))


def load_script(path: Path) -> tuple[Any, Contract]:
    """Loads a module onto the CPU; returns it and its contract.

    Raises:
        ContractError: Where there is none, or one that is not known.
    """
    extra: dict[str, str | bytes] = {METADATA_KEY: ""}
    with torchscript_wanted():
        module = torch.jit.load(  # type: ignore[no-untyped-call]
            str(path), map_location="cpu", _extra_files=extra
        )
    text = extra[METADATA_KEY]
    metadata = {METADATA_KEY: text.decode() if isinstance(text, bytes) else text} if text else {}
    return module, Contract.from_metadata(metadata, str(path))


@contextlib.contextmanager
def torchscript_wanted() -> Iterator[None]:
    """Keeps PyTorch's notices that TorchScript is deprecated from the user, who asked for it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.\w+` is (deprecated|not supported).*")
        yield


def _reproducible(archive: io.BytesIO) -> bytes:
    """Returns a TorchScript archive without what depends on the machine and on what the process did before.

    That is: where in this machine's sources a line of code came from (`.debug_pkl`), the classes' numbers, of which
    only the order stays, and the digest over these (`serialization_id`), which nothing reads.
    """
    written = io.BytesIO()
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as target:
        names = [name for name in source.namelist() if not name.endswith((".debug_pkl", "/.data/serialization_id"))]
        members = {name: source.read(name) for name in names}
        # A pickle of protocol 2 holds a class's name as a line of text.
        texts = {name for name in names if name.endswith((".py", "/data.pkl"))}
        numbered = [name.encode() for name in names] + [members[name] for name in texts]
        order = sorted({int(number) for text in numbered for number in _NUMBER.findall(text)})
        for name, content in members.items():
            member = zipfile.ZipInfo(_renumbered(name.encode(), order).decode())
            member.create_system = 3  # on every system
            _align(member, written.tell())
            target.writestr(member, _renumbered(content, order) if name in texts else content)
    return written.getvalue()


def _renumbered(text: bytes, order: Sequence[int]) -> bytes:
    """Returns a text in which every class's number is its place in `order`."""
    return _NUMBER.sub(lambda found: b"___torch_mangle_%d" % order.index(int(found[1])), text)


def _align(member: zipfile.ZipInfo, offset: int) -> None:
    """Pads the header of a member that begins at `offset`, so that its content begins where PyTorch's do."""
    padding = -(offset + _HEADER_SIZE + len(member.filename.encode()) + 4) % _ALIGNMENT
    member.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding  # as PyTorch itself writes it
