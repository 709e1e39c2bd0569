"""Which packages are installed beside edgeclf, and which of its extras bring the others."""

from __future__ import annotations

import importlib.metadata
import re

_OF_AN_EXTRA = re.compile(r"""([\w.-]+).*;.*\bextra\s*==\s*["']([\w-]+)["']""")
_NOT_SHOWN = {"cpu", "gpu", "dev"}
"""Extras that bring a wheel of ONNX Runtime, of which there is one (see `installed_wheels`), or what developers use."""


def package_version(name: str) -> str | None:
    """Returns the version of a distribution, None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def extras() -> dict[str, dict[str, str | None]]:
    """Returns what each extra of edgeclf brings: the packages' names to their versions, None where not installed.

    A package is named with the smallest extra that brings it: `train` has torch, and `video`, which holds `train`, has
    what it adds. Read from the installed edgeclf's own metadata, so there is no second list to keep.
    """
    brings: dict[str, list[str]] = {}
    if package_version("edgeclf") is not None:
        for requirement in importlib.metadata.requires("edgeclf") or []:
            match = _OF_AN_EXTRA.match(requirement)
            if match and match[1] != "edgeclf" and match[2] not in _NOT_SHOWN:
                brings.setdefault(match[2], []).append(match[1])
    found: dict[str, dict[str, str | None]] = {}
    named: set[str] = set()
    for extra, packages in sorted(brings.items(), key=lambda item: len(item[1])):
        found[extra] = {package: package_version(package) for package in packages if package not in named}
        named.update(packages)
    return found


def installed_wheels() -> dict[str, str]:
    """Returns the installed distributions that bring the module `onnxruntime`, name to version, by name.

    There should be one: `onnxruntime` (the CPU's), `onnxruntime-gpu`, or a vendor's build, e.g. `onnxruntime-openvino`.
    All of them write to the same folder, so of several only one works.
    """
    found = {}
    for distribution in importlib.metadata.distributions():
        metadata = distribution.metadata
        if "Name" not in metadata:  # what a broken installation leaves behind
            continue
        name = metadata["Name"]
        # `onnxruntime-extensions` and others of that prefix bring modules of their own.
        if name.startswith(("onnxruntime", "ort-")) and any(
            file.as_posix() == "onnxruntime/__init__.py" for file in distribution.files or ()
        ):
            found[name] = distribution.version
    return dict(sorted(found.items()))
