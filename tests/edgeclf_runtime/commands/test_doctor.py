from __future__ import annotations

import json

import onnxruntime
import pytest

from edgeclf_runtime.commands import doctor as module
from edgeclf_runtime.machine.examination import Finding
from edgeclf_runtime.machine.providers import CPU_PROVIDER, CUDA_PROVIDER


def by_hand(*found):
    """Checks that find what is given."""
    return (lambda _machine: iter(found),)


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_this_machine(edgeclf, device):
    ended = edgeclf("doctor", "--device", device)
    assert (ended.code, ended.err) == (0, "")
    assert f"{onnxruntime.package_name} {onnxruntime.__version__}" in ended.out
    assert f"{CPU_PROVIDER} starts" in ended.out
    assert ended.out.splitlines()[-1].split(maxsplit=3)[:3] == ["ok", "--device", device]


def test_cuda_that_is_not_had_is_an_error(edgeclf):
    if CUDA_PROVIDER in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    ended = edgeclf("doctor", "--device", "cuda", "--json", "-")
    assert ended.code == 1
    assert ended.err == (
        "Error: CUDA does not work: the installed ONNX Runtime is its CPU build; pip uninstall onnxruntime, then "
        "pip install 'edgeclf[gpu]'.\n"
    )
    document = json.loads(ended.out)
    assert (document["device"], document["works"]) == ("cuda", False)
    assert document["findings"][-1] == {
        "subject": "--device cuda",
        "found": "CUDA does not work: the installed ONNX Runtime is its CPU build",
        "status": "problem",
        "remedy": "pip uninstall onnxruntime, then pip install 'edgeclf[gpu]'",
    }


def test_text_and_document(edgeclf, monkeypatch, tmp_path):
    monkeypatch.setattr(
        module, "CHECKS", by_hand(Finding("a", "found"), Finding("longer", "amiss", "warning", "mend it"))
    )
    ended = edgeclf("doctor")
    assert (ended.code, ended.err) == (0, "")  # a warning is no failure
    assert ended.out.splitlines() == [
        "ok       a       found",
        "warning  longer  amiss",
        "                 -> mend it",
    ]
    ended = edgeclf("doctor", "--json", tmp_path / "a.json")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "device": "auto",
        "works": True,
        "findings": [
            {"subject": "a", "found": "found", "status": "ok", "remedy": ""},
            {"subject": "longer", "found": "amiss", "status": "warning", "remedy": "mend it"},
        ],
    }


def test_what_was_found_is_shown_before_the_error(edgeclf, monkeypatch):
    monkeypatch.setattr(
        module, "CHECKS", by_hand(Finding("a", "found"), Finding("device", "it is broken", "problem", "buy another"))
    )
    ended = edgeclf("doctor", "-q")
    assert ended.code == 1
    assert "problem  device  it is broken" in ended.out
    assert ended.err == "Error: it is broken; buy another.\n"
