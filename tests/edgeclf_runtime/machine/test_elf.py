from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgeclf_runtime.machine.elf import needed_libraries

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's libraries are read")


def libraries():
    """Some libraries of different builders."""
    folders = [Path(onnxruntime.__file__).parent, Path(np.__file__).parent]
    return [path for folder in folders for path in sorted(folder.rglob("*.so*"))[:6]]


def test_the_names_are_those_of_readelf():
    if shutil.which("readelf") is None:
        pytest.skip("readelf, of binutils, is not installed")
    for path in libraries():
        listed = subprocess.run(["readelf", "-d", str(path)], capture_output=True, text=True, check=True).stdout
        assert list(needed_libraries(path)) == re.findall(r"\(NEEDED\).*\[(.+)\]", listed)


def test_onnx_runtime_needs_the_c_library():
    (path,) = (Path(onnxruntime.__file__).parent / "capi").glob("onnxruntime_pybind11_state*.so")
    assert "libc.so.6" in needed_libraries(path)


def test_what_is_no_library_needs_nothing(tmp_path):
    whole = libraries()[0].read_bytes()
    contents = [b"", b"\x7fELF", b"MZ" + bytes(100), whole[:64], whole[:1000], whole[:4] + b"\x01" + whole[5:]]
    for content in contents:
        (tmp_path / "a.so").write_bytes(content)
        assert needed_libraries(tmp_path / "a.so") == ()
    assert needed_libraries(tmp_path / "missing.so") == ()
    assert needed_libraries(tmp_path) == ()


def test_a_damaged_library_raises_nothing(tmp_path):
    whole = bytearray(min(libraries(), key=lambda path: path.stat().st_size).read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = whole.copy()
        for position in rng.integers(0, 1200, 8):  # headers and, in so small a library, what they point to
            damaged[position] = rng.integers(256)
        (tmp_path / "a.so").write_bytes(damaged)
        assert isinstance(needed_libraries(tmp_path / "a.so"), tuple)
