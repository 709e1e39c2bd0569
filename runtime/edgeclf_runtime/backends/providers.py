"""Starts an ONNX Runtime session where it was asked for, and finds out where it really runs.

Neither the list of available providers nor the session's creation tells the truth: both name CUDA, or run on the CPU in
silence, where CUDA cannot start. Only the session's own list of providers does, and for single nodes its assignment.
`session.disable_cpu_ep_fallback` is no way out: it refuses a graph for every node that is on the CPU, and CUDA's
provider itself leaves to the CPU what computes shapes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeclf_runtime.backends.base import DeviceOptions, GraphOptimisation, Placement, settle_for_cpu
from edgeclf_runtime.errors import InputFileError, MissingPackageError, UsageError
from edgeclf_runtime.machine import cuda
from edgeclf_runtime.machine.cores import usable_cores
from edgeclf_runtime.machine.providers import CPU_PROVIDER, CUDA_PROVIDER, first_line, preload_libraries

TENSORRT_PROVIDER = "TensorrtExecutionProvider"
OPENVINO_PROVIDER = "OpenVINOExecutionProvider"

_DEVICE_ID = "device_id"
_ON_CUDA = (CUDA_PROVIDER, TENSORRT_PROVIDER, "NvTensorRTRTXExecutionProvider")
"""Providers whose memory is CUDA's."""

_LEVELS: dict[GraphOptimisation, str] = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "none": "ORT_DISABLE_ALL",
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Started:
    """A session that runs.

    Attributes:
        session: The ONNX Runtime session.
        device: What it really runs on; see `Backend`.
        placement: What runs it, node by node.
    """

    session: Any
    device: str
    placement: Placement


def import_onnxruntime() -> Any:
    """Imports ONNX Runtime.

    Raises:
        MissingPackageError: Where it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(
            "ONNX Runtime is not installed: pip install 'edgeclf[cpu]', or 'edgeclf[gpu]' on a machine with CUDA."
        ) from error
    return onnxruntime


def start_session(path: Path, options: DeviceOptions, optimised: Path | None = None) -> Started:
    """Starts a session, and writes the graph that it runs where asked.

    Raises:
        InputFileError: Where ONNX Runtime cannot load the file.
        DeviceError: Where what was asked for does not start, and the fallback to the CPU was not allowed.
        MissingPackageError: Where ONNX Runtime is not installed.
        UsageError: Where an option is of another provider.
    """
    onnxruntime = import_onnxruntime()
    wanted = options.provider or (CPU_PROVIDER if options.device == "cpu" else CUDA_PROVIDER)
    if options.bfloat16 and wanted != OPENVINO_PROVIDER:
        raise UsageError(f"bfloat16 is for OpenVINO, and {wanted} does not compute in it.")
    failure: str | None = None
    if wanted != CPU_PROVIDER:
        started, failure = _try(onnxruntime, path, options, wanted, optimised)
        if started is not None:
            _log.info("Running on %s.", started.placement)
            return started
        options = replace(options, provider_options={})  # they were for the other one
    try:
        started = _start(onnxruntime, path, options, CPU_PROVIDER, optimised)  # where the file is at fault, it says so
    except Exception as error:  # onnxruntime's own classes have no public base
        raise InputFileError(
            f"{path}: ONNX Runtime cannot load it, so it is damaged or not an ONNX model ({first_line(error)}); export "
            "the checkpoint again."
        ) from error
    if wanted != CPU_PROVIDER:
        name = "CUDA" if wanted == CUDA_PROVIDER else wanted
        settle_for_cpu(options, name, *_why_not(onnxruntime, options, wanted, failure))
    return started


def _try(
    onnxruntime: Any, path: Path, options: DeviceOptions, wanted: str, optimised: Path | None
) -> tuple[Started | None, str | None]:
    """Returns a session on a provider; or None, and why there is none where the provider is listed."""
    if wanted not in onnxruntime.get_available_providers():
        return None, None
    if wanted in _ON_CUDA:
        preload_libraries(onnxruntime)
    try:
        started = _start(onnxruntime, path, options, wanted, optimised)
    except Exception as error:  # onnxruntime's own classes have no public base
        return None, first_line(error)
    return (started, None) if _runs_on(started.placement, wanted) else (None, "its session runs without it")


def _start(onnxruntime: Any, path: Path, options: DeviceOptions, wanted: str, optimised: Path | None) -> Started:
    """Starts a session on a provider, the rest of the graph on the CPU."""
    settings = _session_options(onnxruntime, options)
    if optimised is not None:
        settings.optimized_model_filepath = str(optimised)
    # Its own fallback to the CPU prints to standard output, where results go.
    session = onnxruntime.InferenceSession(
        str(path), settings, providers=_providers(wanted, options), enable_fallback=0
    )
    return Started(session, _device_name(wanted), _placement(session))


def _session_options(onnxruntime: Any, options: DeviceOptions) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors; what it warns of is said here in a sentence
    settings.intra_op_num_threads = options.threads or usable_cores()
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[options.graph_optimisation])
    settings.enable_cpu_mem_arena = options.cpu_arena
    # Keys that an older ONNX Runtime does not know it ignores.
    if options.spinning == "stop-after-step":
        settings.add_session_config_entry("session.force_spinning_stop", "1")
    elif options.spinning == "never":
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return settings


def _providers(wanted: str, options: DeviceOptions) -> list[tuple[str, dict[str, str]]]:
    """Returns the providers of a session, the preferred one first, each with its options."""
    behind = []
    if wanted in _ON_CUDA and wanted != CUDA_PROVIDER:
        behind.append(CUDA_PROVIDER)  # what TensorRT does not take
    if wanted != CPU_PROVIDER:
        behind.append(CPU_PROVIDER)
    asked = _own_options(wanted, options) | dict(options.provider_options)
    same_gpu = {_DEVICE_ID: asked[_DEVICE_ID]} if _DEVICE_ID in asked else {}
    others = [(name, _own_options(name, options) | (same_gpu if name == CUDA_PROVIDER else {})) for name in behind]
    return [(wanted, asked), *others]


def gpu_of(options: DeviceOptions) -> int:
    """Returns the number of the GPU that the options name.

    Raises:
        UsageError: Where what they name is no number.
    """
    text = options.provider_options.get(_DEVICE_ID, "0")
    if not text.isdecimal():
        raise UsageError(f"The provider's option {_DEVICE_ID} is the number of a GPU, and not {text!r}.")
    return int(text)


def _own_options(provider: str, options: DeviceOptions) -> dict[str, str]:
    """Returns what edgeclf sets of a provider's options."""
    if provider == CUDA_PROVIDER:
        return {
            "use_tf32": "1" if options.tf32 else "0",
            # By default every number of streams in a step would be measured anew with every algorithm there is, which
            # holds a stream up for seconds on a small device.
            "cudnn_conv_algo_search": "HEURISTIC",
            # By default it takes memory in powers of two, and a small device shares it with the CPU.
            "arena_extend_strategy": "kSameAsRequested",
        }
    if provider == OPENVINO_PROVIDER and not options.bfloat16:
        return {"precision": "FP32"}  # by default it computes in bfloat16 on CPUs that have it
    return {}


def _device_name(provider: str) -> str:
    if provider in _ON_CUDA:
        return "cuda"
    return provider.removesuffix("ExecutionProvider").lower()


def _placement(session: Any) -> Placement:
    """Returns which providers a session runs on, and how many nodes each took, where this ONNX Runtime says so."""
    providers = tuple(session.get_providers())
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return Placement(providers)
    nodes, on_cpu = Counter[str](), Counter[str]()
    for part in session.get_provider_graph_assignment_info():
        operators = [node.op_type for node in part.get_nodes()]
        nodes[part.ep_name] += len(operators)
        if part.ep_name == CPU_PROVIDER != providers[0]:
            on_cpu.update(operators)
    return Placement(providers, dict(nodes), dict(on_cpu.most_common()))


def _runs_on(placement: Placement, provider: str) -> bool:
    """Whether a provider runs, and takes a part of the graph."""
    return provider in placement.providers and (not placement.nodes or placement.nodes.get(provider, 0) > 0)


def _why_not(onnxruntime: Any, options: DeviceOptions, wanted: str, failure: str | None) -> tuple[str, str]:
    """Returns why a provider is not to be had, and what to do about it, a clause each."""
    if wanted in _ON_CUDA and (options.names_device or failure is not None):  # to look into the driver takes time
        found = cuda.diagnose()
        if found.problem is not None:
            return found.problem, found.remedy
        if failure is not None:
            return f"the provider of the installed ONNX Runtime does not start ({failure})", found.remedy
    if failure is not None:
        return f"it does not start ({failure})", "install what it needs, as ONNX Runtime's documents say"
    listed: Sequence[str] = onnxruntime.get_available_providers()
    return f"the installed ONNX Runtime has only {', '.join(listed)}", "install a build of ONNX Runtime with it"
