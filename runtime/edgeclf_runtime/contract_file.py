"""Reads the contract out of every kind of file that edgeclf writes, without the program that runs it."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from edgeclf_runtime.contract import METADATA_KEY, Contract
from edgeclf_runtime.errors import ContractError, InputFileError
from edgeclf_runtime.onnx_file import LONGEST_METADATA, read_onnx

MODELS_IN_FOLDERS = ("1/model.onnx", "model_classifier.ptjit")
"""Where the model stands in a folder: NVIDIA Triton's model repository, Metavision's."""

_LARGEST_XML = 256 * 2**20
_LONGEST_MAGIC = 4


def model_file(path: str | Path) -> Path:
    """Returns the model that a path means: the file itself, or the one in a folder that edgeclf exported.

    Raises:
        InputFileError: Where nothing is there, or a folder without one.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in MODELS_IN_FOLDERS if (path / name).is_file()]
        if not found:
            raise InputFileError(f"{path}: this is a folder, not a model; give the .onnx file in it.")
        return found[0]
    if not path.is_file():
        raise InputFileError(f"{path}: there is no such model file.")
    return path


def read_contract(path: str | Path) -> Contract:
    """Reads the contract of an exported model.

    Args:
        path: An ONNX file; a TorchScript or torch.export file; OpenVINO's `.xml`; or a folder that was exported for
            Triton or Metavision.

    Raises:
        InputFileError: Where it is not there, damaged, or of another kind.
        ContractError: Where it was not exported by edgeclf, or by one whose contract is not known here.
    """
    path = model_file(path)
    kind = model_kind(path)
    if kind == "archive":
        document = _from_archive(path)
    elif kind == "openvino":
        document = _from_openvino(path)
    else:
        document = read_onnx(path).metadata.get(METADATA_KEY)
    return Contract.from_metadata({} if document is None else {METADATA_KEY: document}, str(path))


def model_kind(path: Path) -> Literal["archive", "openvino", "onnx"]:
    """Returns what a file is by its first bytes: a zip archive of PyTorch's, XML, or else ONNX if a model at all.

    Raises:
        InputFileError: Where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_LONGEST_MAGIC)
    except OSError as error:
        raise InputFileError(f"{path}: the model cannot be read ({error.strerror}).") from error
    if start == b"PK\x03\x04":
        return "archive"
    return "openvino" if start.lstrip(b"\xef\xbb\xbf").startswith(b"<") else "onnx"


def _from_archive(path: Path) -> str | None:
    """Returns the document in a zip archive of PyTorch's; None for a model without one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            documents = [name for name in names if name.endswith(f"/extra/{METADATA_KEY}")]
            if documents:
                with archive.open(documents[0]) as file:  # a size that the archive states may be a lie
                    content = file.read(LONGEST_METADATA + 1)
    # RuntimeError: an encrypted member; NotImplementedError: a compression that Python lacks.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise InputFileError(
            f"{path}: it is damaged, or no archive of PyTorch's ({error}); export the checkpoint again."
        ) from error
    if documents:
        if len(content) > LONGEST_METADATA:
            raise ContractError(f"{path}: its edgeclf contract is damaged; export the checkpoint again.")
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise ContractError(f"{path}: its edgeclf contract is damaged; export the checkpoint again.") from error
    # TorchScript keeps its constants in `constants.pkl`, torch.export says its version in `archive_format`.
    if any(name.endswith(("/constants.pkl", "/archive_format")) for name in names):
        return None
    raise InputFileError(
        f"{path}: this is a file of PyTorch's, such as a checkpoint, and not an exported model; give what "
        "`edgeclf export` makes of the checkpoint."
    )


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses a document type, which OpenVINO never writes: only there could entities be declared."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002 - expat's signature
        raise ValueError("it declares a document type")


def _from_openvino(path: Path) -> str | None:
    """Returns the document in OpenVINO's IR, `net/rt_info/edgeclf`, attribute `value`; None for one without.

    A file that OpenVINO's converter made of our ONNX holds it under `net/rt_info/framework/edgeclf`.
    """
    try:
        if path.stat().st_size > _LARGEST_XML:
            raise ValueError("it is too large")
        net = ElementTree.parse(path, ElementTree.XMLParser(target=_NoDoctype())).getroot()
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an encoding that is not known
        raise InputFileError(
            f"{path}: it is damaged, or not OpenVINO's .xml ({error}); export the checkpoint again."
        ) from error
    if net.tag != "net":
        raise InputFileError(
            f"{path}: this is no model: its outermost element is '{net.tag}', and OpenVINO's is 'net'."
        )
    for place in (f"rt_info/{METADATA_KEY}", f"rt_info/framework/{METADATA_KEY}"):
        found = net.find(place)
        if found is not None:
            return found.get("value", "")
    return None
