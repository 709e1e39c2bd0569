from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from edgeclf_runtime.errors import DeviceError, MissingPackageError
from edgeclf_runtime.machine import examination
from edgeclf_runtime.machine.cuda import CudaDiagnosis
from edgeclf_runtime.machine.examination import CHECKS, Finding, Machine
from edgeclf_runtime.machine.memory import Memory
from edgeclf_runtime.machine.processor import Processor
from edgeclf_runtime.machine.providers import RuntimeReport
from edgeclf_runtime.sources import camera

CPU_BUILD = RuntimeReport("onnxruntime 1.32.0", {"CPUExecutionProvider": None})
GPU_BUILD = RuntimeReport("onnxruntime-gpu 1.31.1", {"CUDAExecutionProvider": None, "CPUExecutionProvider": None})
NO_CUDA = RuntimeReport(
    "onnxruntime-gpu 1.31.1", {"CUDAExecutionProvider": "libcublasLt.so.13: not there", "CPUExecutionProvider": None}
)
NOT_THERE = RuntimeReport(None, {}, "No module named 'onnxruntime'")
NO_DRIVER = CudaDiagnosis(
    "no NVIDIA driver is found", "install it", {"onnxruntime-gpu": "1.31.1"}, True, "13.0", "9", missing=("libA.so",)
)
FINE = CudaDiagnosis(None, "look further", {"onnxruntime-gpu": "1.31.1"}, True, "13.0", "9", "13.1", ("NVIDIA H100",))


def machine(device="auto", runtime=CPU_BUILD, cuda=None):
    examined = Machine(device)
    examined.runtime = runtime
    if cuda is not None:
        examined.cuda = cuda
    return examined


def findings(check, examined=None):
    return list(check(examined or machine()))


@pytest.fixture
def wheels(monkeypatch):
    """The wheels of ONNX Runtime that are installed."""
    found = {"onnxruntime": "1.32.0"}
    monkeypatch.setattr(examination, "installed_wheels", lambda: found)
    return found


@pytest.mark.parametrize(
    ("device", "runtime", "cuda", "found", "status", "remedy"),
    [
        ("cpu", CPU_BUILD, None, "works, on the CPU", "ok", ""),
        ("cpu", GPU_BUILD, None, "works, on the CPU", "ok", ""),
        ("auto", CPU_BUILD, None, "works, on the CPU", "ok", ""),
        ("auto", NO_CUDA, None, "works, on the CPU", "ok", ""),
        ("auto", GPU_BUILD, None, "works, on CUDA", "ok", ""),
        ("cuda", GPU_BUILD, None, "works, on CUDA", "ok", ""),
        ("cuda", NO_CUDA, NO_DRIVER, "CUDA does not work: no NVIDIA driver is found", "problem", "install it"),
        (
            "cuda",
            NO_CUDA,
            FINE,
            "CUDA does not work: its provider does not start (libcublasLt.so.13: not there)",
            "problem",
            "look further",
        ),
        (
            "auto",
            RuntimeReport("onnxruntime 1.32.0", {"CPUExecutionProvider": "it does not answer within 120 s"}),
            None,
            "the CPU's provider does not work: it does not answer within 120 s",
            "problem",
            "install ONNX Runtime anew",
        ),
    ],
)
def test_the_device_that_was_asked_for(device, runtime, cuda, found, status, remedy):
    assert findings(examination.check_device, machine(device, runtime, cuda)) == [
        Finding(f"--device {device}", found, status, remedy)
    ]


@pytest.mark.parametrize("device", ["cpu", "cuda", "auto"])
def test_without_onnx_runtime_no_device_works(wheels, device):
    wheels.clear()
    examined = machine(device, NOT_THERE)
    (found,) = findings(examination.check_device, examined)
    assert (found.status, found.found) == ("problem", "ONNX Runtime is not installed")
    assert "edgeclf[cpu]" in found.remedy
    # What would import it, and might end the process, is not tried.
    for check in (examination.check_wheels, examination.check_providers, examination.check_cuda):
        assert findings(check, examined) == []


@pytest.mark.usefixtures("wheels")
def test_an_onnx_runtime_that_ends_its_process():
    examined = machine("auto", RuntimeReport(None, {}, "it ends its process (SIGILL)"))
    (found,) = findings(examination.check_device, examined)
    assert (found.status, found.found) == ("problem", "ONNX Runtime cannot be imported: it ends its process (SIGILL)")
    assert "an older version" in found.remedy


@pytest.mark.usefixtures("wheels")
def test_one_wheel():
    assert findings(examination.check_wheels) == [Finding("ONNX Runtime", "onnxruntime 1.32.0")]


def test_both_wheels_at_once(wheels):
    wheels["onnxruntime-gpu"] = "1.31.1"
    (found,) = findings(examination.check_wheels, machine(runtime=GPU_BUILD))
    assert found.status == "warning"
    assert "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are installed at once" in found.found
    assert "those of onnxruntime-gpu 1.31.1 are what runs" in found.found
    assert found.remedy.startswith("pip uninstall onnxruntime onnxruntime-gpu, then")
    (found,) = findings(examination.check_wheels, machine(runtime=NOT_THERE))
    assert "cannot be imported" in found.found


def test_providers_that_are_listed_against_those_that_start():
    assert [
        (found.status, found.found) for found in findings(examination.check_providers, machine(runtime=NO_CUDA))
    ] == [
        ("absent", "CUDAExecutionProvider is listed and does not start: libcublasLt.so.13: not there"),
        ("ok", "CPUExecutionProvider starts"),
    ]


@pytest.mark.parametrize(
    ("runtime", "cuda", "found", "status"),
    [
        (
            GPU_BUILD,
            FINE,
            "ONNX Runtime needs CUDA 13 and cuDNN 9; the driver serves CUDA up to 13.1; NVIDIA H100",
            "ok",
        ),
        (
            NO_CUDA,
            NO_DRIVER,
            "ONNX Runtime needs CUDA 13 and cuDNN 9; no NVIDIA driver that starts; cannot be loaded: libA.so",
            "warning",
        ),
        (
            GPU_BUILD,
            replace(FINE, driver_release="580.95.05", cuda_found="13.0", cudnn_found="9.13.0"),
            "ONNX Runtime needs CUDA 13 and cuDNN 9; CUDA 13.0 is there; cuDNN 9.13.0 is there; the kernel's NVIDIA "
            "driver is 580.95.05; the driver serves CUDA up to 13.1; NVIDIA H100",
            "ok",
        ),
        (CPU_BUILD, CudaDiagnosis("CPU build", "install another", {}), "no NVIDIA driver that starts", "absent"),
        (
            CPU_BUILD,
            CudaDiagnosis("CPU build", "install another", {}, driver="13.1", gpus=("NVIDIA H100",)),
            "the driver serves CUDA up to 13.1; NVIDIA H100",
            "warning",
        ),
    ],
)
def test_cuda_against_what_the_wheel_needs(runtime, cuda, found, status):
    remedy = cuda.remedy if status == "warning" else ""
    assert findings(examination.check_cuda, machine("auto", runtime, cuda)) == [Finding("CUDA", found, status, remedy)]


def test_extras(monkeypatch):
    monkeypatch.setattr(
        examination, "extras", lambda: {"train": {"torch": "2.9", "pillow": None}, "live": {"nd": None}}
    )
    assert findings(examination.check_extras) == [
        Finding("extra train", "torch 2.9"),
        Finding("extra train", "not installed: pillow", "absent", "pip install 'edgeclf[train]'"),
        Finding("extra live", "not installed: nd", "absent", "pip install 'edgeclf[live]'"),
    ]


def test_a_32_bit_python_is_told_that_it_has_no_wheel(monkeypatch):
    assert all(found.status == "ok" for found in findings(examination.check_software))
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    assert [found.remedy for found in findings(examination.check_software) if found.status == "warning"] == [
        "install a 64-bit system, e.g. Raspberry Pi OS (64-bit)"
    ]


def test_processor_and_cores(monkeypatch):
    monkeypatch.setattr(
        examination,
        "read_processor",
        lambda: Processor("Cortex", {"fp32": ("NEON",), "int8": (), "fp16": (), "bf16": ()}, 4),
    )
    monkeypatch.setattr(examination, "usable_cores", lambda: 2)
    monkeypatch.setattr(examination, "core_quota", lambda: 2.5)
    found = {finding.subject.strip(): finding for finding in findings(examination.check_processor)}
    assert found["processor"].found == "Cortex"
    assert (found["fp32"].found, found["fp32"].status) == ("NEON", "ok")
    assert found["int8"].status == "absent"
    assert found["cores"].found == "2 usable, 4 physical in the machine; a quota of 2.5 cores' time"


def test_a_processor_that_does_not_say(monkeypatch):
    monkeypatch.setattr(examination, "read_processor", lambda: Processor("x", None, None))
    assert [finding.subject for finding in findings(examination.check_processor)] == ["processor", "cores"]


def test_memory(monkeypatch):
    monkeypatch.setattr(examination, "read_memory", lambda: Memory(4 * 2**30, 2**30, 256 * 2**20))
    assert findings(examination.check_memory) == [
        Finding("memory", "4096 MiB in all, 1024 MiB available, 256 MiB limit of this container")
    ]
    monkeypatch.setattr(examination, "read_memory", lambda: Memory(None, None, None))
    assert findings(examination.check_memory) == []


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (["camera:1 EVK4", "camera:2 DVXplorer"], [("ok", "camera:1 EVK4"), ("ok", "camera:2 DVXplorer")]),
        ([], [("absent", "none is plugged in")]),
        (MissingPackageError("install the extra."), []),
        (DeviceError("The cameras cannot be listed (denied)."), [("absent", "The cameras cannot be listed (denied)")]),
    ],
)
def test_cameras(monkeypatch, answer, expected):
    def list_cameras():
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(camera, "list_cameras", list_cameras)
    assert [(found.status, found.found) for found in findings(examination.check_cameras)] == expected


def test_boards(monkeypatch):
    assert findings(examination.check_board) == []
    monkeypatch.setattr(examination, "board_model", lambda: "NVIDIA Jetson Orin Nano")
    monkeypatch.setattr(examination, "is_jetson", lambda: True)
    for runtime, status in ((CPU_BUILD, "warning"), (GPU_BUILD, "ok")):
        (found,) = findings(examination.check_board, machine(runtime=runtime))
        assert (found.found, found.status) == ("NVIDIA Jetson Orin Nano", status)
        assert "https://pypi.jetson-ai-lab.io/jp6/cu126" in found.remedy
    monkeypatch.setattr(examination, "is_jetson", lambda: False)
    monkeypatch.setattr(examination, "is_raspberry_pi", lambda: True)
    monkeypatch.setattr(examination, "board_model", lambda: "Raspberry Pi 5")
    (found,) = findings(examination.check_board)
    assert found.found.startswith("Raspberry Pi 5")


def test_every_check_is_run_and_the_device_comes_last():
    written = {value for name, value in vars(examination).items() if name.startswith("check_")}
    assert set(CHECKS) == written
    assert CHECKS[-1] is examination.check_device
