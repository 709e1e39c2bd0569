from __future__ import annotations

import json
import warnings
import zipfile
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import torch

from edgeclf_runtime.contract_file import model_file, model_kind, read_contract
from edgeclf_runtime.errors import ContractError, InputFileError


class Doubling(torch.nn.Module):
    def forward(self, x):
        return x * 2


@pytest.fixture
def write_torchscript(tmp_path):
    def write(name, extra):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(Doubling(), torch.zeros(2))
            torch.jit.save(traced, str(tmp_path / name), _extra_files=extra)
        return tmp_path / name

    return write


@pytest.fixture
def write_zip(tmp_path):
    def write(name, members, compression=zipfile.ZIP_STORED):
        with zipfile.ZipFile(tmp_path / name, "w", compression) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return tmp_path / name

    return write


# What each program writes.


def test_onnx(write_model, tiny):
    assert read_contract(write_model()) == tiny
    assert model_kind(write_model()) == "onnx"


@pytest.mark.parametrize("name", ["a b.ts", "model_classifier.ptjit"])
def test_torchscript(write_torchscript, tiny, name):
    path = write_torchscript(name, {"edgeclf": tiny.to_json()})
    assert read_contract(path) == tiny
    assert model_kind(path) == "archive"


def test_torch_export(tmp_path, tiny):
    program = torch.export.export(Doubling(), (torch.zeros(2),))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, tmp_path / "a.pt2", extra_files={"edgeclf": tiny.to_json()})
        torch.export.save(program, tmp_path / "b.pt2")
    assert read_contract(tmp_path / "a.pt2") == tiny
    with pytest.raises(ContractError, match=r"b\.pt2: this model was not exported by edgeclf"):
        read_contract(tmp_path / "b.pt2")


def openvino(document, place="rt_info"):
    inside = f"<edgeclf value={quoteattr(document)} />" if document is not None else ""
    for name in reversed(place.split("/")):
        inside = f"<{name}>{inside}</{name}>"
    layer = '<layers><layer id="0"><rt_info><edgeclf value="no"/></rt_info></layer></layers>'
    return f'<?xml version="1.0"?>\n<net name="Model0" version="11">{layer}{inside}</net>'


@pytest.mark.parametrize("place", ["rt_info", "rt_info/framework"])
def test_openvino(tmp_path, tiny, place):
    (tmp_path / "a.xml").write_text(openvino(tiny.to_json(), place), encoding="utf-8")
    assert read_contract(tmp_path / "a.xml") == tiny
    assert model_kind(tmp_path / "a.xml") == "openvino"


def test_folders(write_model, write_torchscript, tiny, tmp_path):
    (tmp_path / "triton" / "1").mkdir(parents=True)
    write_model().rename(tmp_path / "triton" / "1" / "model.onnx")
    (tmp_path / "mv").mkdir()
    write_torchscript("mv/model_classifier.ptjit", {"edgeclf": tiny.to_json()})
    assert read_contract(tmp_path / "triton") == read_contract(tmp_path / "mv") == tiny
    assert model_file(str(tmp_path / "triton")) == tmp_path / "triton" / "1" / "model.onnx"
    assert model_file(tmp_path / "mv") == tmp_path / "mv" / "model_classifier.ptjit"


def test_names_that_are_not_ascii(tmp_path, write_torchscript, tiny):
    document = tiny.to_json().replace("paper", '日本語 <é> & \\"b\\"')
    (tmp_path / "a.xml").write_text(openvino(document), encoding="utf-8")
    found = read_contract(tmp_path / "a.xml")
    assert found.labels[1] == '日本語 <é> & "b"'
    assert read_contract(write_torchscript("a.ts", {"edgeclf": document})) == found


# What cannot be read.


def test_nothing_there(tmp_path):
    with pytest.raises(InputFileError, match=r"a\.onnx: there is no such model file"):
        read_contract(tmp_path / "a.onnx")
    with pytest.raises(InputFileError, match="this is a folder, not a model"):
        read_contract(tmp_path)


@pytest.mark.parametrize("content", [b"", b"text\n", b"\x89HDF\r\n\x1a\n" + bytes(50)])
def test_other_files(tmp_path, content):
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(InputFileError, match="not an ONNX model"):
        read_contract(tmp_path / "a.onnx")


def test_models_of_somebody_elses(write_model, write_torchscript, tmp_path):
    (tmp_path / "a.xml").write_text(openvino(None))
    for path in (write_model(metadata={}), write_torchscript("a.ts", {}), tmp_path / "a.xml"):
        with pytest.raises(ContractError, match=rf"{path.name}: this model was not exported by edgeclf"):
            read_contract(path)


def test_checkpoint(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "a.ckpt")
    with pytest.raises(InputFileError, match=r"a\.ckpt: this is a file of PyTorch's, such as a checkpoint"):
        read_contract(tmp_path / "a.ckpt")


def test_archive_of_numpys(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(InputFileError, match="not an exported model"):
        read_contract(tmp_path / "a.npz")


def test_archive_that_is_cut_or_damaged(write_torchscript, tiny):
    path = write_torchscript("a.ts", {"edgeclf": tiny.to_json()})
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(InputFileError, match=r"a\.ts: it is damaged, or no archive of PyTorch's \(.+\); export"):
        read_contract(path)
    path.write_bytes(content.replace(b"Tiny", b"Tinz"))  # the checksum tells
    with pytest.raises(InputFileError, match="it is damaged"):
        read_contract(path)


def test_archive_that_is_encrypted(write_zip, tiny):
    path = write_zip("a.ts", {"a/extra/edgeclf": tiny.to_json()})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the local header's flags
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InputFileError, match=r"it is damaged, or no archive"):
        read_contract(path)


def test_document_that_unfolds_to_gigabytes(write_zip):
    path = write_zip("a.ts", {"a/extra/edgeclf": bytes(40 * 2**20)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(ContractError, match=r"a\.ts: its edgeclf contract is damaged"):
        read_contract(path)


@pytest.mark.parametrize("document", [b"\xff\xfe", b"{", b"[]", json.dumps({"contract_version": 1}).encode()])
def test_document_that_is_damaged(write_zip, document):
    with pytest.raises(ContractError, match=r"a\.ts: its edgeclf contract is damaged"):
        read_contract(write_zip("a.ts", {"a/extra/edgeclf": document}))


BOMB = '<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"<net>", "no element found"),
        (b"<html></html>", "outermost element is 'html'"),
        (b'<?xml version="1.0" encoding="nonsense"?><net/>', "encoding"),
        (b"<net>\xff</net>", "not well-formed"),
        (f"{BOMB}]><net>&i;</net>".encode(), "document type"),
        (b'<!DOCTYPE net SYSTEM "file:///etc/hostname"><net/>', "document type"),
        (
            b'<!DOCTYPE net [<!ENTITY x SYSTEM "file:///etc/hostname">]><net><rt_info>&x;</rt_info></net>',
            "document type",
        ),
    ],
)
def test_damaged_xml(tmp_path, content, why):
    (tmp_path / "a.xml").write_bytes(content)
    with pytest.raises(InputFileError, match=rf"a\.xml: .*{why}"):
        read_contract(tmp_path / "a.xml")


def test_archive_without_a_name_for_its_folder(write_zip, tiny):
    # The document stands in a folder of the archive, whatever its name; not at the top, where torch never puts it.
    with pytest.raises(ContractError, match="was not exported by edgeclf"):
        read_contract(write_zip("a.ts", {"extra/edgeclf": tiny.to_json(), "a/constants.pkl": ""}))
    assert read_contract(write_zip("b.ts", {"x y/extra/edgeclf": tiny.to_json()})) == tiny
