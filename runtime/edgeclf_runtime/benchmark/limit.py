"""The limit: the best rate of multiply-adds that a large convolution or matrix product reaches on this machine.

They are measured as the models are, in the same shuffled turns, so that what slows the machine slows both. A model's
share of the limit says how much there would be to win at most by computing the same with better code.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.backends.base import Array, DeviceOptions
from edgeclf_runtime.backends.providers import OPENVINO_PROVIDER, gpu_of, import_onnxruntime, start_session
from edgeclf_runtime.benchmark.candidates import Candidate, Contender
from edgeclf_runtime.benchmark.results import Limit, Result, Setting
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.machine.cores import usable_processors
from edgeclf_runtime.machine.providers import CPU_PROVIDER, CUDA_PROVIDER
from edgeclf_runtime.onnx_writing import model_bytes, node_bytes, tensor_bytes

CONVOLUTION = "limit: conv 3×3"
PRODUCT = "limit: matrix product"

ON_PROCESSORS = (CPU_PROVIDER, OPENVINO_PROVIDER, "XnnpackExecutionProvider", "DnnlExecutionProvider",
                  "ACLExecutionProvider")  # fmt: skip
"""Providers that compute on the CPU, or as a rule do."""

_FEW_CORES = 8

_NOTHING = np.zeros((1, 0), np.float32)


@dataclass(frozen=True)
class Work:
    """A convolution of as many channels as it makes, 3×3 and padded, or the product of two square matrices.

    Attributes:
        kind: Which of them.
        size: Channels, or rows.
        side: Rows and columns of the convolution's input.
    """

    kind: Literal["conv", "product"]
    size: int
    side: int = 0

    @property
    def macs(self) -> int:
        """Multiply-adds of it, those with the padding's zeros included, as for the models."""
        return self.size**2 * 9 * self.side**2 if self.kind == "conv" else self.size**3

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what it takes, and of what it gives."""
        return (1, self.size, self.side, self.side) if self.kind == "conv" else (self.size, self.size)

    def data(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns input and weights: random, as a processor may be faster on zeros and is slower on denormals."""
        rng = np.random.default_rng(0)
        weights = (self.size, self.size, 3, 3) if self.kind == "conv" else (self.size, self.size)
        x, w = (rng.uniform(0.5, 1.5, shape).astype(np.float32) for shape in (self.shape, weights))
        return x, w

    def graph(self, weights: NDArray[np.float32]) -> bytes:
        """Returns an ONNX file that makes `y` of `x`."""
        if self.kind == "conv":
            node = node_bytes("Conv", ["x", "w"], ["y"], pads=(1, 1, 1, 1))
        else:
            node = node_bytes("MatMul", ["x", "w"], ["y"])
        tensor = tensor_bytes("w", weights.shape, weights.astype("<f4").tobytes())
        return model_bytes([node], {"x": self.shape}, {"y": self.shape}, [tensor])


# What a processor's caches hold, as larger ones are no faster, and would take seconds a burst on a small board; more
# cores have more of them, and want a share of the work each that is worth starting; a GPU has many times as many units
# to keep busy.
_ON_CPU = {CONVOLUTION: Work("conv", 128, 32), PRODUCT: Work("product", 512)}
_ON_MANY_CORES = {CONVOLUTION: Work("conv", 256, 32), PRODUCT: Work("product", 1024)}
_ELSEWHERE = {CONVOLUTION: Work("conv", 256, 64), PRODUCT: Work("product", 2048)}


def probes(device_options: DeviceOptions, threads: int) -> list[Contender]:
    """Returns what the limit is found by, to be measured with the models.

    Args:
        device_options: Where the models run.
        threads: Threads of a step on the CPU.
    """
    options = replace(device_options, threads=threads)
    is_for_cpu = _is_for_cpu(options)
    on_cpu = _ON_CPU if threads <= _FEW_CORES else _ON_MANY_CORES
    works = on_cpu if is_for_cpu else _ELSEWHERE
    device = "cpu" if options.provider == CPU_PROVIDER else options.provider or options.device
    found = [
        Contender(Setting(name, "ort", device, "fp32", threads), partial(OnnxProduct, work, options), work.macs)
        for name, work in works.items()
    ]
    if device in ("cpu", "auto") and is_for_cpu and _numpy_keeps_to(threads):
        work = works[PRODUCT]
        setting = Setting(PRODUCT, "numpy", "cpu", "fp32", threads)
        found.append(Contender(setting, partial(NumpyProduct, work, threads), work.macs))
    return found


def is_probe(setting: Setting) -> bool:
    """Whether a setting is one of the limit's, and not a model's."""
    return setting.model in (CONVOLUTION, PRODUCT)


def limits(results: Sequence[Result]) -> list[Limit]:
    """Returns the best rate on each device with each number of threads: that of the fastest burst of any probe.

    By its median, so that no single step that was measured wrong decides it.

    Args:
        results: All results of a run; those of models are stepped over.
    """
    best: dict[tuple[str, int], Limit] = {}
    for result in results:
        if not is_probe(result.setting) or result.macs is None:
            continue
        place = (result.setting.device, result.setting.threads)
        fastest_us = min(us for process in result.latencies.burst_p50_us for us in process)
        rate = result.macs / fastest_us / 1e3
        if place not in best or rate > best[place].gmacs_per_second:
            what = f"{result.setting.backend} {result.setting.model.removeprefix('limit: ')}"
            best[place] = Limit(*place, rate, what)
    return list(best.values())


def with_shares(results: Sequence[Result], limits: Sequence[Limit]) -> list[Result]:
    """Returns the results, each with its share of the limit on its device with as many threads, where there is one.

    Only files in fp32 have a share: in fewer bits a processor may multiply faster than the probes do in fp32.
    """
    rates = {(limit.device, limit.threads): limit.gmacs_per_second for limit in limits}
    shared = []
    for result in results:
        setting = result.setting
        rate = rates.get((setting.device, setting.threads))
        if rate is not None and result.macs is not None and setting.precision == "fp32":
            least_us = result.macs * setting.streams / (rate * 1e3)
            result = replace(result, share_of_limit=least_us / result.latencies.p50_us)
        shared.append(result)
    return shared


class OnnxProduct(Candidate):
    """The work in ONNX Runtime, its input and output on the device.

    Args:
        work: What to compute.
        options: Where.

    Raises:
        EdgeclfError: Where that device is not to be had; see `start_session`.
    """

    def __init__(self, work: Work, options: DeviceOptions) -> None:
        x, weights = work.data()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "limit.onnx"
            path.write_bytes(work.graph(weights))
            started = start_session(path, options)
        self.device = started.device
        # Every other provider takes the CPU's memory, and copies it where it wants it.
        place = ("cuda", gpu_of(options)) if started.device == "cuda" else ("cpu", 0)
        ort_value: Any = import_onnxruntime().OrtValue
        self._session: Any = started.session
        self._output: Any = ort_value.ortvalue_from_shape_and_type(work.shape, np.float32, *place)
        self._binding: Any = started.session.io_binding()
        self._binding.bind_ortvalue_input("x", ort_value.ortvalue_from_numpy(x, *place))
        self._binding.bind_ortvalue_output("y", self._output)

    def step(self, frames: Array) -> Array:  # noqa: ARG002 - it has data of its own
        """Computes it once; returns nothing, `[1, 0]`."""
        self._session.run_with_iobinding(self._binding)
        return _NOTHING

    def output(self) -> NDArray[np.float32]:
        """Returns what the last step computed."""
        value: NDArray[np.float32] = self._output.numpy()
        return value

    def reset(self) -> None:
        """Does nothing: it has no memory."""

    def close(self) -> None:
        """Releases the session."""
        self._binding = self._output = self._session = None


class NumpyProduct(Candidate):
    """The product of two matrices by the library that NumPy was built with.

    Args:
        work: What to compute.
        threads: How many threads it may use, where the package threadpoolctl is there to tell that library.
    """

    device = "cpu"

    def __init__(self, work: Work, threads: int) -> None:
        if work.kind != "product":
            raise UsageError("NumPy has no convolution to measure.")
        self._x, self._weights = work.data()
        self._output = np.empty_like(self._x)
        threadpools = _threadpoolctl()
        self._bound: Any = None if threadpools is None else threadpools.threadpool_limits(threads, "blas")

    def step(self, frames: Array) -> Array:  # noqa: ARG002 - it has data of its own
        """Computes it once; returns nothing, `[1, 0]`."""
        np.matmul(self._x, self._weights, out=self._output)
        return _NOTHING

    def output(self) -> NDArray[np.float32]:
        """Returns what the last step computed."""
        return self._output

    def reset(self) -> None:
        """Does nothing: it has no memory."""

    def close(self) -> None:
        """Gives that library its threads back."""
        if self._bound is not None:
            self._bound.restore_original_limits()
        self._bound = None


def _is_for_cpu(options: DeviceOptions) -> bool:
    """Whether the work is to be of the processor's size; what takes whatever there is takes CUDA where it is listed."""
    if options.provider is not None or options.device != "auto":
        return options.provider in ON_PROCESSORS or options.device == "cpu"
    return CUDA_PROVIDER not in import_onnxruntime().get_available_providers()


def _numpy_keeps_to(threads: int) -> bool:
    """Whether NumPy can be had to multiply in so many threads at most: more than the models have would be no limit."""
    if threads >= usable_processors():
        return True
    threadpools = _threadpoolctl()
    return threadpools is not None and any(pool["user_api"] == "blas" for pool in threadpools.threadpool_info())


def _threadpoolctl() -> Any:
    """Returns the module threadpoolctl, None where it is not installed: it comes with SciPy, and with no extra."""
    try:
        return importlib.import_module("threadpoolctl")
    except ImportError:
        return None
