from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from edgeclf_runtime.machine import cuda
from edgeclf_runtime.machine.cuda import diagnose

GPU_BUILD = {"onnxruntime-gpu": "1.31.1"}
NEEDED = ("libcublas.so.13", "libcudart.so.13", "libcuda.so.1", "libc.so.6")


@dataclass
class FakeDriver:
    """What `ctypes` gives for the driver's library: the version that it serves, its GPUs, and what its start gives."""

    version: int = 13010
    gpus: tuple[str, ...] = ("NVIDIA H100",)
    code: int = 0

    def cuInit(self, flags):  # noqa: N802 - the driver's name
        assert flags == 0
        return self.code

    def cuDriverGetVersion(self, number):  # noqa: N802 - the driver's name
        number._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, number):  # noqa: N802 - the driver's name
        number._obj.value = len(self.gpus)
        return 0

    def cuDeviceGetName(self, name, length, device):  # noqa: N802 - the driver's name
        assert length == ctypes.sizeof(name)
        name.value = self.gpus[device].encode()
        return 0


def fake_libraries(runtime=13000, cudnn=91300, code=0):
    """What `ctypes` gives for the libraries of CUDA and cuDNN: the versions that they tell."""

    def tell_runtime(number):
        number._obj.value = runtime
        return code

    return SimpleNamespace(cudaRuntimeGetVersion=tell_runtime, cudnnGetVersion=lambda: cudnn)


@dataclass
class FakeMachine:
    """What the diagnosis looks at."""

    wheels: dict[str, str] = field(default_factory=lambda: dict(GPU_BUILD))
    providers: tuple[str, ...] = ("CUDAExecutionProvider", "CPUExecutionProvider")
    cuda_version: str | None = "13.0"
    driver: FakeDriver | None = field(default_factory=FakeDriver)
    missing: tuple[str, ...] = ()
    libraries: SimpleNamespace = field(default_factory=fake_libraries)
    jetson: bool = False
    preloaded: int = 0


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine on which CUDA works; what a test changes of it is what is wrong."""
    fake = FakeMachine()

    def preload_dlls():
        fake.preloaded += 1
        sys.stdout.write("Failed to load libcublas.so.13")

    def load(name):
        if name == "libcuda.so.1":
            return fake.driver
        assert fake.preloaded, "the libraries that pip installed are found first"
        return None if name in fake.missing else fake.libraries

    module = SimpleNamespace(
        __file__=str(tmp_path / "__init__.py"),
        get_available_providers=lambda: list(fake.providers),
        preload_dlls=preload_dlls,
    )
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    monkeypatch.setattr(cuda, "installed_wheels", lambda: fake.wheels)
    monkeypatch.setattr(cuda, "needed_libraries", lambda _path: NEEDED)
    monkeypatch.setattr(cuda, "is_jetson", lambda: fake.jetson)
    monkeypatch.setattr(cuda, "_load", load)
    monkeypatch.setattr(cuda, "_DRIVER_VERSION", tmp_path / "version")

    def run():
        module.cuda_version = fake.cuda_version
        return diagnose()

    fake.diagnose = run
    return fake


def test_nothing_is_wrong(machine, capfd):
    found = machine.diagnose()
    assert found.problem is None
    assert found.remedy
    assert (found.listed, found.cuda_needed, found.cudnn_needed) == (True, "13.0", "9")
    assert (found.driver, found.gpus, found.missing) == ("13.1", ("NVIDIA H100",), ())
    assert capfd.readouterr() == ("", "")  # results go to standard output


def test_the_cpus_build(machine):
    machine.wheels, machine.providers = {"onnxruntime": "1.32.0"}, ("CPUExecutionProvider",)
    found = machine.diagnose()
    assert found.problem == "the installed ONNX Runtime is its CPU build"
    assert found.remedy == "pip uninstall onnxruntime, then pip install 'edgeclf[gpu]'"
    assert found.gpus == ("NVIDIA H100",)  # which is worth knowing


def test_both_builds_of_which_the_cpus_won(machine):
    machine.wheels, machine.providers = {"onnxruntime": "1.32.0", **GPU_BUILD}, ("CPUExecutionProvider",)
    found = machine.diagnose()
    assert found.problem == (
        "the packages onnxruntime and onnxruntime-gpu are installed at once, and the files of one without CUDA won"
    )
    assert found.remedy == "pip uninstall onnxruntime onnxruntime-gpu, then pip install 'edgeclf[gpu]'"


def test_a_vendors_build(machine):
    machine.wheels, machine.providers = {"onnxruntime-openvino": "1.24"}, ("OpenVINOExecutionProvider",)
    assert machine.diagnose().problem == "the installed ONNX Runtime (onnxruntime-openvino) is built without CUDA"


def test_no_onnx_runtime(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(cuda, "installed_wheels", dict)
    found = machine.diagnose()
    assert (found.problem, found.remedy) == ("ONNX Runtime is not installed", "pip install 'edgeclf[gpu]'")


def test_an_onnx_runtime_that_cannot_be_imported(machine, monkeypatch, tmp_path):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libA.so: cannot open it.')")
    monkeypatch.delitem(sys.modules, "onnxruntime")
    monkeypatch.syspath_prepend(tmp_path)
    assert machine.diagnose().problem == "the installed ONNX Runtime cannot be imported (libA.so: cannot open it)"


@pytest.mark.parametrize(
    ("driver", "problem", "remedy"),
    [
        (None, "no NVIDIA driver is found", "install NVIDIA's driver"),
        (FakeDriver(code=100), "the NVIDIA driver shows no GPU", "CUDA_VISIBLE_DEVICES"),
        (FakeDriver(gpus=()), "the NVIDIA driver shows no GPU", "CUDA_VISIBLE_DEVICES"),
        (FakeDriver(code=803), "the NVIDIA driver does not start (its cuInit gave 803)", "install the driver anew"),
        (
            FakeDriver(version=12090),
            "the NVIDIA driver serves CUDA up to 12.9, and the installed ONNX Runtime needs CUDA 13",
            "install a newer driver, or an onnxruntime-gpu for CUDA 12",
        ),
    ],
)
def test_the_driver_comes_before_the_libraries(machine, driver, problem, remedy):
    machine.driver, machine.missing = driver, ("libcublas.so.13",)
    found = machine.diagnose()
    assert found.problem == problem
    assert remedy in found.remedy
    assert found.missing == ("libcublas.so.13",)


@pytest.mark.parametrize(
    ("runtime", "cudnn", "found"),
    [
        (13000, 91300, ("13.0", "9.13.0")),
        (12080, 90100, ("12.8", "9.1.0")),
        (11080, 8907, ("11.8", "8.9.7")),
    ],
)
def test_versions_of_what_is_loaded(machine, runtime, cudnn, found):
    machine.libraries = fake_libraries(runtime, cudnn)
    diagnosis = machine.diagnose()
    assert (diagnosis.cuda_found, diagnosis.cudnn_found) == found


def test_libraries_that_tell_no_version(machine):
    machine.libraries = fake_libraries(code=35)
    assert machine.diagnose().cuda_found is None
    machine.missing = ("libcudart.so.13", "libcudnn.so.9")
    found = machine.diagnose()
    assert (found.cuda_found, found.cudnn_found) == (None, None)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"
            "GCC version:  gcc version 11.4.0 (Ubuntu 11.4.0-1ubuntu1~22.04)\n",
            "535.183.01",
        ),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (root@a)  Tue Sep 23\n",
            "580.95.05",
        ),
        ("something else\n", None),
        (None, None),
    ],
)
def test_the_drivers_own_version(machine, tmp_path, text, release):
    if text is not None:
        (tmp_path / "version").write_text(text)
    assert machine.diagnose().driver_release == release


def test_a_driver_of_the_same_major_version_will_do(machine):
    machine.driver, machine.cuda_version = FakeDriver(version=12020), "12.8"
    assert machine.diagnose().problem is None


def test_libraries_that_are_missing_are_all_named(machine):
    machine.missing = ("libcublas.so.13", "libcudnn.so.9")
    found = machine.diagnose()
    assert found.problem == "libcublas.so.13, libcudnn.so.9 cannot be loaded"
    assert found.remedy == "pip install 'onnxruntime-gpu[cuda,cudnn]', which brings them"


@pytest.mark.parametrize(("version", "cudnn"), [("11.8", "8"), ("12.4", "9"), ("13.0", "9"), ("", None), (None, None)])
def test_cudnn_goes_with_cuda(machine, version, cudnn):
    machine.cuda_version = version
    machine.missing = ("libcudnn.so.8", "libcudnn.so.9")
    found = machine.diagnose()
    assert found.cudnn_needed == cudnn
    assert found.missing == (() if cudnn is None else (f"libcudnn.so.{cudnn}",))


def test_on_a_jetson_the_wheels_and_libraries_are_nvidias(machine):
    machine.jetson, machine.missing = True, ("libcudnn.so.9",)
    assert machine.diagnose().remedy == "install JetPack's CUDA 13 and cuDNN"
    machine.wheels, machine.providers = {"onnxruntime": "1.32.0"}, ("CPUExecutionProvider",)
    assert "onnxruntime-gpu for this JetPack" in machine.diagnose().remedy


def test_this_machine_raises_nothing(capfd):
    found = diagnose()
    assert found.remedy
    assert found.wheels
    assert capfd.readouterr().out == ""
