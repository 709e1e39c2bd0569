"""The examination of a machine: checks, each of which says what it found, how bad that is and what to do about it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from edgeclf_runtime.backends.base import Device
from edgeclf_runtime.errors import EdgeclfError, MissingPackageError
from edgeclf_runtime.machine.boards import board_model, is_jetson, is_raspberry_pi
from edgeclf_runtime.machine.cgroups import core_quota
from edgeclf_runtime.machine.cores import usable_cores
from edgeclf_runtime.machine.cuda import CudaDiagnosis, diagnose
from edgeclf_runtime.machine.memory import read_memory
from edgeclf_runtime.machine.packages import extras, installed_wheels, package_version
from edgeclf_runtime.machine.processor import Arithmetic, read_processor
from edgeclf_runtime.machine.providers import CPU_PROVIDER, CUDA_PROVIDER, RuntimeReport, probe_runtime

Status = Literal["ok", "absent", "warning", "problem"]
"""`absent`: something that nothing asked for is not there; `problem`: the device that was asked for does not work."""


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        subject: What was looked at, in a word or two.
        found: What was found, as a clause.
        status: How bad that is.
        remedy: What to do about it, as a clause; empty where there is nothing to do.
    """

    subject: str
    found: str
    status: Status = "ok"
    remedy: str = ""


class Machine:
    """What several checks ask for, found out when the first of them does.

    Args:
        device: Where a model shall run.
    """

    def __init__(self, device: Device) -> None:
        self.device = device

    @cached_property
    def runtime(self) -> RuntimeReport:
        """What ONNX Runtime can do here."""
        return probe_runtime()

    @cached_property
    def cuda(self) -> CudaDiagnosis:
        """Why CUDA does not start. It imports ONNX Runtime, which may end the process where `runtime` has an error."""
        return diagnose()


def check_software(_machine: Machine) -> Iterator[Finding]:
    """Says which versions of what always is there are installed, and on what system."""
    versions = ", ".join(f"{name} {package_version(name)}" for name in ("numpy", "h5py", "click"))
    yield Finding("edgeclf", package_version("edgeclf") or "not installed as a package")
    yield Finding("Python", f"{platform.python_version()}, {versions}")
    yield Finding("system", platform.platform())
    if sys.maxsize < 2**32:
        yield Finding(
            "system", "this Python is a 32-bit program, for which ONNX Runtime has no wheel", "warning",
            "install a 64-bit system, e.g. Raspberry Pi OS (64-bit)",
        )  # fmt: skip


def check_extras(_machine: Machine) -> Iterator[Finding]:
    """Says which optional packages are there, and which extra brings the others."""
    for extra, packages in extras().items():
        there = [f"{name} {version}" for name, version in packages.items() if version is not None]
        missing = [name for name, version in packages.items() if version is None]
        if there:
            yield Finding(f"extra {extra}", ", ".join(there))
        if missing:
            yield Finding(
                f"extra {extra}", f"not installed: {', '.join(missing)}", "absent", f"pip install 'edgeclf[{extra}]'"
            )


def check_wheels(machine: Machine) -> Iterator[Finding]:
    """Says which wheels of ONNX Runtime are installed: there should be one."""
    wheels = installed_wheels()
    names = " and ".join(f"{name} {version}" for name, version in wheels.items())
    if len(wheels) > 1:
        winner = machine.runtime.build
        yield Finding(
            "ONNX Runtime",
            f"{names} are installed at once and write to the same files; "
            + (f"those of {winner} are what runs" if winner else "what is left of them cannot be imported"),
            "warning",
            f"pip uninstall {' '.join(wheels)}, then pip install 'edgeclf[cpu]' or 'edgeclf[gpu]'",
        )
    elif machine.runtime.build is not None:
        yield Finding("ONNX Runtime", names or f"{machine.runtime.build}, not installed as a package")


def check_providers(machine: Machine) -> Iterator[Finding]:
    """Says which of the execution providers that ONNX Runtime lists really start."""
    for provider, reason in machine.runtime.providers.items():
        if reason is None:
            yield Finding("provider", f"{provider} starts")
        else:
            yield Finding("provider", f"{provider} is listed and does not start: {reason}", "absent")


def check_cuda(machine: Machine) -> Iterator[Finding]:
    """Says what the wheel needs of CUDA, cuDNN and the driver, and what there is."""
    if machine.runtime.error is not None:
        return
    cuda = machine.cuda
    facts = []
    if cuda.cuda_needed is not None:
        facts.append(f"ONNX Runtime needs CUDA {cuda.cuda_needed.split('.')[0]} and cuDNN {cuda.cudnn_needed}")
    libraries = {"CUDA": cuda.cuda_found, "cuDNN": cuda.cudnn_found}
    facts += [f"{name} {version} is there" for name, version in libraries.items() if version is not None]
    if cuda.driver_release is not None:
        facts.append(f"the kernel's NVIDIA driver is {cuda.driver_release}")
    facts.append(f"the driver serves CUDA up to {cuda.driver}" if cuda.driver else "no NVIDIA driver that starts")
    facts += cuda.gpus
    if cuda.missing:
        facts.append(f"cannot be loaded: {', '.join(cuda.missing)}")
    if machine.runtime.starts(CUDA_PROVIDER):
        yield Finding("CUDA", "; ".join(facts))
    elif cuda.listed or cuda.gpus:
        yield Finding("CUDA", "; ".join(facts), "warning", cuda.remedy)
    else:
        yield Finding("CUDA", "; ".join(facts), "absent")


_ARITHMETIC: dict[Arithmetic, tuple[str, str]] = {
    "fp32": ("", "no AVX2 or NEON: slow"),
    "int8": ("", "no VNNI, AMX, dotprod or i8mm: an int8 model gains less"),
    "fp16": ("; it depends on ONNX Runtime's version whether it uses them", "none: an fp16 model gains nothing"),
    "bf16": ("; OpenVINO uses them where its precision is left to it", "none"),
}
"""What is said of a precision where the processor has instructions for it, and where it has none."""


def check_processor(_machine: Machine) -> Iterator[Finding]:
    """Says what the processor has for each precision, and how many cores this process may use."""
    processor = read_processor()
    yield Finding("processor", processor.name)
    for arithmetic, names in (processor.instructions or {}).items():
        more, without = _ARITHMETIC[arithmetic]
        if names:
            yield Finding(f"  {arithmetic}", ", ".join(names) + more)
        else:
            yield Finding(f"  {arithmetic}", without, "warning" if arithmetic == "fp32" else "absent")
    quota = core_quota()
    physical = "" if processor.cores is None else f", {processor.cores} physical in the machine"
    yield Finding(
        "cores",
        f"{usable_cores()} usable{physical}; "
        + ("no quota of time" if quota is None else f"a quota of {quota:g} cores' time"),
    )


def check_memory(_machine: Machine) -> Iterator[Finding]:
    """Says how much memory there is."""
    memory = read_memory()
    named = (("in all", memory.total), ("available", memory.available), ("limit of this container", memory.limit))
    texts = [f"{size / 2**20:.0f} MiB {name}" for name, size in named if size is not None]
    if texts:
        yield Finding("memory", ", ".join(texts))


def check_cameras(_machine: Machine) -> Iterator[Finding]:
    """Says which live cameras are plugged in."""
    from edgeclf_runtime.sources.camera import list_cameras

    try:
        cameras = list_cameras()
    except MissingPackageError:
        return  # the extra `live` is named with the others
    except EdgeclfError as error:
        yield Finding("cameras", str(error).rstrip("."), "absent")
        return
    for camera in cameras:
        yield Finding("camera", camera)
    if not cameras:
        yield Finding("cameras", "none is plugged in", "absent")


def check_board(machine: Machine) -> Iterator[Finding]:
    """Says where the wheels of a Jetson or a Raspberry Pi come from."""
    if is_jetson():
        yield Finding(
            "board", board_model() or "Jetson", "ok" if machine.runtime.starts(CUDA_PROVIDER) else "warning",
            "for CUDA: on JetPack 6 take onnxruntime-gpu from NVIDIA's index (pip install onnxruntime-gpu --index-url "
            "https://pypi.jetson-ai-lab.io/jp6/cu126), on JetPack 7 from PyPI (1.29 or later); then edgeclf without "
            "its extras cpu and gpu",
        )  # fmt: skip
    elif is_raspberry_pi():
        yield Finding("board", f"{board_model()}: the extra cpu has wheels for its 64-bit system")


def check_device(machine: Machine) -> Iterator[Finding]:
    """Says whether the device that was asked for works, and which one `auto` takes."""
    subject = f"--device {machine.device}"
    runtime = machine.runtime
    if runtime.error is not None:
        yield Finding(subject, *_no_runtime(runtime.error))
    elif machine.device != "cpu" and runtime.starts(CUDA_PROVIDER):
        yield Finding(subject, "works, on CUDA")
    elif machine.device == "cuda":
        reason = machine.cuda.problem or f"its provider does not start ({runtime.providers.get(CUDA_PROVIDER)})"
        yield Finding(subject, f"CUDA does not work: {reason}", "problem", machine.cuda.remedy)
    elif runtime.starts(CPU_PROVIDER):
        yield Finding(subject, "works, on the CPU")
    else:
        yield Finding(
            subject, f"the CPU's provider does not work: {runtime.providers.get(CPU_PROVIDER, 'it is not listed')}",
            "problem", "install ONNX Runtime anew",
        )  # fmt: skip


def _no_runtime(error: str) -> tuple[str, Status, str]:
    """Returns found, status and remedy where ONNX Runtime cannot be imported."""
    wheels = installed_wheels()
    if not wheels:
        return "ONNX Runtime is not installed", "problem", "pip install 'edgeclf[cpu]', or 'edgeclf[gpu]' for CUDA"
    return (
        f"ONNX Runtime cannot be imported: {error}",
        "problem",
        f"pip uninstall {' '.join(wheels)}, then pip install 'edgeclf[cpu]' or 'edgeclf[gpu]'; where it ends its "
        "process, this processor may lack instructions that it is built for, and an older version may do",
    )


CHECKS: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    check_software,
    check_extras,
    check_wheels,
    check_providers,
    check_cuda,
    check_processor,
    check_memory,
    check_cameras,
    check_board,
    check_device,
)
"""All checks, in the order in which their findings are shown; the last one says whether the device works."""
