"""Why CUDA does not start: the wheel, the driver or the libraries, and what mends it.

Nothing here starts the CUDA provider: ONNX Runtime's session does, and says that it failed but hardly why.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeclf_runtime.machine.boards import is_jetson
from edgeclf_runtime.machine.elf import needed_libraries
from edgeclf_runtime.machine.packages import installed_wheels
from edgeclf_runtime.machine.providers import CUDA_PROVIDER, first_line, preload_libraries

_NO_GPU = 100
"""CUDA_ERROR_NO_DEVICE of the driver's interface."""
_DRIVER = "libcuda.so.1"
_DRIVER_VERSION = Path("/proc/driver/nvidia/version")
_NOTHING_FOUND = "see that the GPU is not too old for this ONNX Runtime, and that no other program fills its memory"


@dataclass(frozen=True)
class CudaDiagnosis:
    """What was found of CUDA on this machine.

    Attributes:
        problem: Why CUDA cannot start, as a clause: `the installed ONNX Runtime is its CPU build`; None where nothing
            is found to be wrong.
        remedy: What to do about it, as a clause; where no problem is found, what else it may be.
        wheels: The installed wheels of ONNX Runtime, name to version.
        listed: Whether ONNX Runtime lists its CUDA provider. That says how it was built, not that it starts.
        cuda_needed: The version of CUDA that the wheel was built for, e.g. `13.0`; any of the same major will do.
        cudnn_needed: The major version of cuDNN that the wheel needs.
        driver: The newest version of CUDA that the driver serves; None where there is no driver that starts.
        gpus: The names of the GPUs that the driver shows to this process.
        missing: Libraries that the wheel needs and that cannot be loaded.
        driver_release: The kernel driver's own version, e.g. `580.95.05`; None where none tells it.
        cuda_found: The version of the CUDA runtime that the wheel gets, e.g. `13.0`; None where there is none.
        cudnn_found: The version of cuDNN that it gets, e.g. `9.13.0`; None where there is none.
    """

    problem: str | None
    remedy: str
    wheels: dict[str, str]
    listed: bool = False
    cuda_needed: str | None = None
    cudnn_needed: str | None = None
    driver: str | None = None
    gpus: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    driver_release: str | None = None
    cuda_found: str | None = None
    cudnn_found: str | None = None


def diagnose() -> CudaDiagnosis:
    """Returns what was found of CUDA, and the first reason why it cannot start. Never raises, prints nothing."""
    driver, gpus, code = _driver()
    found = CudaDiagnosis(
        None, _NOTHING_FOUND, installed_wheels(), driver=driver, gpus=gpus, driver_release=_driver_release()
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # ONNX Runtime prints what it misses
            import onnxruntime

            found = replace(found, listed=CUDA_PROVIDER in onnxruntime.get_available_providers())
    except Exception as error:
        return _with_problem(found, *_no_runtime(error))
    if not found.listed:
        return _with_problem(found, *_cpu_build(found.wheels))
    version = getattr(onnxruntime, "cuda_version", None) or None  # older builds leave it empty
    found = replace(found, cuda_needed=version, cudnn_needed=_cudnn_for(version))
    found = replace(found, missing=_missing_libraries(onnxruntime, found.cudnn_needed))
    found = replace(found, cuda_found=_cuda_runtime(version), cudnn_found=_cudnn(found.cudnn_needed))
    trouble = _driver_trouble(found, code) or _library_trouble(found)
    return _with_problem(found, *trouble) if trouble else found


def _with_problem(found: CudaDiagnosis, problem: str, remedy: str) -> CudaDiagnosis:
    return replace(found, problem=problem, remedy=remedy)


def _install_gpu_build() -> str:
    if is_jetson():
        return "install the onnxruntime-gpu for this JetPack (`edgeclf doctor` says from where)"
    return "pip install 'edgeclf[gpu]'"


def _no_runtime(error: Exception) -> tuple[str, str]:
    if isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime":
        return "ONNX Runtime is not installed", _install_gpu_build()
    return f"the installed ONNX Runtime cannot be imported ({first_line(error)})", "install it anew"


def _cpu_build(wheels: dict[str, str]) -> tuple[str, str]:
    names = " ".join(wheels) or "onnxruntime"
    remedy = f"pip uninstall {names}, then {_install_gpu_build()}"
    if len(wheels) > 1:
        return (
            f"the packages {' and '.join(wheels)} are installed at once, and the files of one without CUDA won",
            remedy,
        )
    if names == "onnxruntime":
        return "the installed ONNX Runtime is its CPU build", remedy
    return f"the installed ONNX Runtime ({names}) is built without CUDA", remedy


def _driver_trouble(found: CudaDiagnosis, code: int | None) -> tuple[str, str] | None:
    """Returns what is wrong with the driver, `code` being what its start gave; None where it was not found."""
    if code is None:
        return (
            "no NVIDIA driver is found",
            "install NVIDIA's driver (in a container: start it with the GPU, e.g. docker run --gpus all)",
        )
    if code == _NO_GPU or (code == 0 and not found.gpus):
        return (
            "the NVIDIA driver shows no GPU",
            "let this process see one (CUDA_VISIBLE_DEVICES; the container's own options)",
        )
    if code:
        return (
            f"the NVIDIA driver does not start (its cuInit gave {code})",
            "install the driver anew, of the kernel's own version, and start the machine again",
        )
    if _major(found.driver) < _major(found.cuda_needed):
        return (
            f"the NVIDIA driver serves CUDA up to {found.driver}, and the installed ONNX Runtime needs "
            f"CUDA {_major(found.cuda_needed)}",
            f"install a newer driver, or an onnxruntime-gpu for CUDA {_major(found.driver)}",
        )
    return None


def _library_trouble(found: CudaDiagnosis) -> tuple[str, str] | None:
    if not found.missing:
        return None
    if is_jetson():
        remedy = f"install JetPack's CUDA {_major(found.cuda_needed) or ''}".rstrip() + " and cuDNN"
    else:
        remedy = "pip install 'onnxruntime-gpu[cuda,cudnn]', which brings them"
    return f"{', '.join(found.missing)} cannot be loaded", remedy


def _driver() -> tuple[str | None, tuple[str, ...], int | None]:
    """Returns the CUDA version that the driver serves, its GPUs' names, and what its start gave; None: not found."""
    library = _load("nvcuda.dll" if sys.platform == "win32" else _DRIVER)
    if library is None:
        return None, (), None
    code = int(library.cuInit(0))
    if code:
        return None, (), code
    number, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    library.cuDeviceGetCount(ctypes.byref(count))
    name = ctypes.create_string_buffer(256)
    names = []
    for device in range(count.value):  # the driver's handle of the n-th device is n
        library.cuDeviceGetName(name, len(name), device)
        names.append(name.value.decode(errors="replace"))
    return _cuda_version(number.value), tuple(names), code


def _driver_release() -> str | None:
    """Returns the version of the kernel's NVIDIA driver; Linux only."""
    try:
        text = _DRIVER_VERSION.read_text(errors="replace")
    except OSError:
        return None
    match = re.search(r"\s(\d+(\.\d+)+)\s", text)  # of the module; that of its compiler comes after it
    return match[1] if match else None


def _cuda_runtime(needed: str | None) -> str | None:
    """Returns the version of the CUDA runtime of the major version that is needed; Linux only."""
    library = _load(f"libcudart.so.{_major(needed)}") if needed else None
    number = ctypes.c_int()
    if library is None or library.cudaRuntimeGetVersion(ctypes.byref(number)):
        return None
    return _cuda_version(number.value)


def _cudnn(major: str | None) -> str | None:
    """Returns the version of cuDNN of the major version that is needed; Linux only."""
    library = _load(f"libcudnn.so.{major}") if major else None
    if library is None:
        return None
    library.cudnnGetVersion.restype = ctypes.c_size_t
    number = library.cudnnGetVersion()
    unit = 10_000 if number >= 90_000 else 1_000  # 9.1.0 is 90100, and 8.9.7 is 8907
    return f"{number // unit}.{number % unit // 100}.{number % 100}"


def _cuda_version(number: int) -> str:
    """Returns a version as CUDA counts them, 13010, as people write it, 13.1."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _missing_libraries(onnxruntime: Any, cudnn: str | None) -> tuple[str, ...]:
    """Returns the libraries that the CUDA provider needs and that cannot be loaded; Linux only."""
    if not sys.platform.startswith("linux"):
        return ()
    provider = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    wanted = [name for name in needed_libraries(provider) if name != _DRIVER]
    if cudnn is not None and f"libcudnn.so.{cudnn}" not in wanted:
        wanted.append(f"libcudnn.so.{cudnn}")  # newer wheels do not link it, and load it when it is needed
    with contextlib.suppress(Exception):
        preload_libraries(onnxruntime)
    return tuple(name for name in wanted if _load(name) is None)


def _load(name: str) -> Any:
    """Returns a shared library, which stays loaded; None where it cannot be."""
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _cudnn_for(cuda: str | None) -> str | None:
    """Returns the major version of cuDNN that goes with a CUDA version.

    Source: the tables of https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#requirements.
    """
    return None if cuda is None else "8" if _major(cuda) < 12 else "9"


def _major(version: str | None) -> int:
    """Returns a version's first number, 0 where there is none."""
    first = (version or "").split(".")[0]
    return int(first) if first.isdecimal() else 0
