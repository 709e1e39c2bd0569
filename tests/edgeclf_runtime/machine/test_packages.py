from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest

from edgeclf_runtime.machine.packages import extras, installed_wheels, package_version


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Installs distributions, or what a broken installation leaves of them, in a folder that is looked at alone."""
    monkeypatch.setattr("sys.path", [str(tmp_path)])

    def write(name: str, version: str, *files: str, requires: tuple[str, ...] = (), metadata: bool = True) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        if metadata:
            lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {line}" for line in requires)]
            (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines]) + "\n")
        (folder / "RECORD").write_text("".join(f"{file},,\n" for file in files))

    return write


def test_versions_are_those_of_the_metadata():
    assert package_version("numpy") == np.__version__
    assert package_version("no-such-package") is None


def test_wheels_that_write_to_the_same_folder(install):
    assert installed_wheels() == {}
    install("onnxruntime-gpu", "1.31.1", "onnxruntime/__init__.py", "onnxruntime/capi/a.so")
    install("onnxruntime", "1.32.0", "onnxruntime/__init__.py")
    install("onnxruntime-extensions", "0.14", "onnxruntime_extensions/__init__.py")
    install("numpy", "2.4", "numpy/__init__.py")
    install("onnxruntime-openvino", "1.0", "onnxruntime/__init__.py", metadata=False)
    assert installed_wheels() == {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}


def test_a_package_is_named_with_the_smallest_extra_that_brings_it(install):
    install(
        "edgeclf",
        "0.1.0",
        requires=(
            "numpy>=1.24",
            "onnxruntime>=1.18; extra == 'cpu'",
            'av>=14.0; extra == "video"',
            'torch>=2.6; extra == "video"',
            'torch>=2.6; python_version >= "3.10" and extra == "train"',
            'edgeclf[train]; extra == "video"',
            'pytest; extra == "dev"',
        ),
    )
    install("torch", "2.9.0", "torch/__init__.py")
    assert extras() == {"train": {"torch": "2.9.0"}, "video": {"av": None}}


@pytest.mark.usefixtures("install")
def test_edgeclf_that_is_not_installed_has_no_extras():
    assert extras() == {}


def test_the_extras_here_are_the_distributions_own():
    declared = set(importlib.metadata.metadata("edgeclf").get_all("Provides-Extra") or ())
    assert extras().keys() == declared - {"cpu", "gpu", "dev"}
