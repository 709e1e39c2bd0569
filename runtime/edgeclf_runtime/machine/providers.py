"""Which execution providers of ONNX Runtime really start: each runs a graph of one node, in a process of its own.

ONNX Runtime lists the providers that it was built with, and runs on the CPU in silence where one of them cannot start.
So a graph is run on each, with that fallback forbidden. A provider may also crash or hang, and so may ONNX Runtime's
import (on a processor without the instructions that it was built for); a child process tells of that too.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from edgeclf_runtime.onnx_writing import model_bytes, node_bytes, tensor_bytes

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"

TIME_LIMIT_S = 120.0
"""For the start of one provider: CUDA takes half a minute where it first compiles its kernels for the GPU."""


@dataclass(frozen=True)
class RuntimeReport:
    """What ONNX Runtime can do here.

    Attributes:
        build: The wheel whose files are the ones that run, and its version; None where it cannot be imported.
        providers: The providers that it lists: None where one starts, else why it does not, as a clause.
        error: Why it cannot be imported, as a clause; None where it can.
    """

    build: str | None
    providers: dict[str, str | None]
    error: str | None = None

    def starts(self, provider: str) -> bool:
        """Whether a provider is there and starts."""
        return provider in self.providers and self.providers[provider] is None


def probe_runtime(limit_s: float = TIME_LIMIT_S) -> RuntimeReport:
    """Returns what ONNX Runtime lists, and which of that starts.

    Args:
        limit_s: Seconds that each of the child processes may take.
    """
    answer, error = _in_a_child("describe()", limit_s)
    if answer is None:
        return RuntimeReport(None, {}, error)
    return RuntimeReport(
        answer["build"],
        {provider: _in_a_child(f"start({provider!r})", limit_s)[1] for provider in answer["providers"]},
    )


def describe() -> dict[str, Any]:
    """Returns which build of ONNX Runtime is imported and the providers that it lists; called in the child."""
    import onnxruntime

    return {
        "build": f"{getattr(onnxruntime, 'package_name', 'onnxruntime')} {onnxruntime.__version__}",
        "providers": onnxruntime.get_available_providers(),
    }


def start(provider: str) -> None:
    """Runs the one-node graph on a provider and nothing else; called in the child.

    Raises:
        RuntimeError: Where the provider does not start, or computes something else.
    """
    import numpy as np
    import onnxruntime

    preload_libraries(onnxruntime)
    options = onnxruntime.SessionOptions()
    if provider != CPU_PROVIDER:  # to forbid the fallback to the CPU and ask for the CPU is an error
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = onnxruntime.InferenceSession(one_node_graph(), options, providers=[provider], enable_fallback=0)
    if provider not in session.get_providers():
        raise RuntimeError("its session runs without it")
    (output,) = session.run(None, {"x": np.arange(9, dtype=np.float32).reshape(1, 1, 3, 3)})
    if not np.allclose(output, 36.0, rtol=1e-2):  # some providers compute in half precision
        raise RuntimeError(f"it computes {output.item()} where 36 is right")


def preload_libraries(onnxruntime: Any) -> None:
    """Loads the CUDA and cuDNN that pip installed, which a provider would not find by itself; nothing without CUDA."""
    if hasattr(onnxruntime, "preload_dlls"):  # from 1.21 on
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it misses
            onnxruntime.preload_dlls()


def first_line(error: Exception) -> str:
    """Returns the first line of what an error of ONNX Runtime's says, as a clause; its class where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def one_node_graph() -> bytes:
    """Returns an ONNX file of one node: a 3×3 convolution that adds up its input `x` `[1, 1, 3, 3]`, without padding.

    A convolution, as it is what a classifier needs and what makes CUDA load cuDNN.
    """
    ones = tensor_bytes("w", (1, 1, 3, 3), b"\x00\x00\x80\x3f" * 9)
    return model_bytes([node_bytes("Conv", ["x", "w"], ["y"])], {"x": (1, 1, 3, 3)}, {"y": (1, 1, 1, 1)}, [ones])


def _in_a_child(call: str, limit_s: float) -> tuple[Any, str | None]:
    """Returns what a call of a function of this module gives in a process of its own, or why it gives nothing."""
    # Its own path, as the current folder, which Python would put first, may hold anything.
    program = (
        f"import sys; sys.path = {sys.path!r}; import json, {__name__} as here; "
        f"answer = here.{call}; print(); print(json.dumps(answer))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, errors="replace", check=False,
            timeout=limit_s, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None, f"it does not answer within {limit_s:g} s"
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1]), None
    if done.returncode < 0:
        return None, f"it ends its process ({_signal_name(-done.returncode)})"
    return None, _reason(done.stderr)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _reason(stderr: str) -> str:
    """Returns why a child failed: what the loader said where ONNX Runtime's log holds it, else the exception's text."""
    loaders = re.findall(r"Failed to load library .* with error: (.+)", stderr)
    if loaders:
        return str(loaders[0]).strip().rstrip(".")
    if "assigned to the default CPU EP" in stderr:  # the fallback that is forbidden
        return "it takes no part of the graph"
    last = ([line for line in stderr.splitlines() if line.strip()] or ["it ends its process without a word"])[-1]
    # `module.Class: text`, in ONNX Runtime's own with a code of its own before the text
    return re.sub(r"^[\w.]+: |\[ONNXRuntimeError\] : \d+ : \w+ : ", "", last).strip().rstrip(".")
