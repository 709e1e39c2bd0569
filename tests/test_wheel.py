"""The built wheel in an environment that has it, the `cpu` extra and nothing else: what a device has."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from edgeclf_export.demo import export_sample
from edgeclf_export.shipped import find_samples

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", out, ROOT], check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel and its `cpu` extra."""
    folder = tmp_path_factory.mktemp("device") / "env"
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", f"{wheel}[cpu]"], check=True, capture_output=True)
    return folder / "bin"


def _run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_wheel_holds_the_packages_their_type_markers_and_the_samples(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in ("edgeclf", "edgeclf_export", "edgeclf_runtime"):
        assert {f"{package}/__init__.py", f"{package}/py.typed"} <= names
    assert {"edgeclf_export/samples/gestures.ckpt", "edgeclf_export/samples/gestures.raw"} <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "export/", "runtime/"))]


@pytest.mark.slow
def test_device_streams_without_torch(device: Path, tmp_path: Path) -> None:
    samples = find_samples()
    model = export_sample(samples, tmp_path)
    without = _run(device / "python", "-c", "import torch", cwd=tmp_path)
    assert "ModuleNotFoundError" in without.stderr
    streamed = _run(device / "edgeclf", "run-stream", model, samples.recording, cwd=tmp_path)
    assert streamed.returncode == 0, streamed.stderr
    lines = [json.loads(line) for line in streamed.stdout.splitlines()]
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    assert {"rock", "paper", "scissors"} <= {line["label"] for line in lines}
    tested = _run(device / "edgeclf", "run-stream", model, "--self-test", cwd=tmp_path)
    assert tested.returncode == 0, tested.stderr
    inspected = _run(device / "edgeclf", "inspect", model, "--check", "--graph", "--json", "-", cwd=tmp_path)
    assert inspected.returncode == 0, inspected.stderr
    document = json.loads(inspected.stdout)
    assert document["check"]["passed"]
    assert document["graph"]


@pytest.mark.slow
def test_device_says_which_extra_training_needs(device: Path, tmp_path: Path) -> None:
    trained = _run(device / "edgeclf", "train", "data", "out", cwd=tmp_path)
    assert trained.returncode == 1
    assert "pip install 'edgeclf[train]'" in trained.stderr
    assert "Traceback" not in trained.stderr
    listed = _run(device / "edgeclf", "--help", cwd=tmp_path)
    assert "run-stream" in listed.stdout
    assert "train" in listed.stdout


@pytest.mark.slow
def test_device_imports_nothing_heavier_than_its_four_packages(device: Path, tmp_path: Path) -> None:
    script = (
        "import sys, onnxruntime, edgeclf_runtime.commands.run_stream, edgeclf_runtime.tensor_file\n"
        "files = {name: getattr(module, '__file__', None) or '' for name, module in sys.modules.items()}\n"
        "print(sorted({name.split('.')[0] for name, file in files.items() if 'site-packages' in file}))"
    )
    found = _run(device / "python", "-c", script, cwd=tmp_path)
    packages = set(json.loads(found.stdout.replace("'", '"')))
    assert packages - {"_distutils_hack", "_virtualenv"} == {"click", "edgeclf_runtime", "h5py", "numpy", "onnxruntime"}
