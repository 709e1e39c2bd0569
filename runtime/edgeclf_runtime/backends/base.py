"""What a backend is: a program that runs an exported model, and keeps the memory of streams between its steps."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.closing import Closing
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import DeviceError, UsageError

_log = logging.getLogger(__name__)

Array = NDArray[Any]

Device = Literal["cpu", "cuda", "auto"]
Spinning = Literal["stop-after-step", "always", "never"]
GraphOptimisation = Literal["all", "extended", "basic", "none"]


_CUDA_GRAPHS = ("enable_cuda_graph", "trt_cuda_graph_enable")


@dataclass(frozen=True)
class DeviceOptions:
    """Where a model runs, and how.

    Attributes:
        device: `cpu`; `cuda`, an error where CUDA does not start; `auto`: CUDA where it starts, else the CPU, and the
            log says which.
        threads: Threads of one step on the CPU; None: one for each core that this process may use.
            PyTorch has one number for the whole process, which the file that was opened last decides.
        provider: An execution provider of ONNX Runtime by its name, e.g. `OpenVINOExecutionProvider`, instead of a
            `device`; an error where it does not start.
        provider_options: Options of the execution provider of `provider` or `device`, by the names that ONNX Runtime's
            documents give, e.g. `cudnn_conv_algo_search`; they go before edgeclf's own.
        allow_cpu_fallback: Run on the CPU, with a warning in the log, where what was asked for does not start.
        tf32: Let CUDA multiply in TF32, of 10 bits of mantissa, where it would in float32. Faster, and not the numbers
            that the export was proved by.
        spinning: What ONNX Runtime's threads do when they have no work. `stop-after-step`: they wait actively within a
            step and sleep between two. `always`: actively between steps too, which costs a core each at a camera's
            pace. `never`: they sleep at every wait, which costs latency.
        bfloat16: Let OpenVINO compute a float32 model in bfloat16, of 8 bits of mantissa, on CPUs that have it.
        graph_optimisation: What ONNX Runtime may make of the graph before it runs it; less than `all` is for finding
            out whether an optimisation is at fault.
        cpu_arena: Whether ONNX Runtime keeps the memory of a step on the CPU for the next; without, a process is
            smaller between steps, and each step slower.
    """

    device: Device = "auto"
    threads: int | None = None
    provider: str | None = None
    provider_options: Mapping[str, str] = field(default_factory=dict)
    allow_cpu_fallback: bool = False
    tf32: bool = False
    spinning: Spinning = "stop-after-step"
    bfloat16: bool = False
    graph_optimisation: GraphOptimisation = "all"
    cpu_arena: bool = True

    def __post_init__(self) -> None:
        if self.provider is not None and self.device != "auto":
            raise UsageError(
                f"An execution provider ({self.provider}) and a device ({self.device}) were both asked for; give one."
            )
        if any(self.provider_options.get(key, "0").lower() not in ("0", "false") for key in _CUDA_GRAPHS):
            raise UsageError(
                "CUDA graphs (enable_cuda_graph, trt_cuda_graph_enable) replay fixed addresses, and the streams' state "
                "changes its place with every step; leave them off."
            )
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"A step takes at least one thread, not {self.threads}.")

    @property
    def names_device(self) -> bool:
        """Whether a device or a provider was asked for by name, and not whatever there is."""
        return self.provider is not None or self.device != "auto"


@dataclass(frozen=True)
class Placement:
    """What runs a model.

    Attributes:
        providers: ONNX Runtime's execution providers in use, the preferred one first; or the name of another program.
        nodes: How many of the graph's nodes each of them took; empty where the program does not say.
        on_cpu: Which operators the CPU took though another provider is preferred, and how many of each.
    """

    providers: tuple[str, ...]
    nodes: Mapping[str, int] = field(default_factory=dict)
    on_cpu: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        text = ", ".join(f"{name} ({self.nodes.get(name, 0)} nodes)" if self.nodes else name for name in self.providers)
        if self.on_cpu:
            text += "; on the CPU: " + ", ".join(f"{name} ({count})" for name, count in self.on_cpu.items())
        return text

    def to_dict(self) -> dict[str, Any]:
        """Returns what a JSON document says of it."""
        return {"providers": list(self.providers), "nodes": dict(self.nodes), "on_cpu": dict(self.on_cpu)}


class StreamMemory(ABC):
    """The state of some streams, wherever it lies, and the step that moves it on."""

    @abstractmethod
    def step(self, frames: Array, streams: Sequence[int], keep: Sequence[bool]) -> tuple[Array, Array]:
        """Runs on one frame of each of some streams.

        Args:
            frames: `[n, C, H, W]`, of the contract's edge type.
            streams: `n` different streams.
            keep: `n`; False where a stream starts anew with this frame, whatever its state was.

        Returns:
            Logits and probabilities, `[n, K]` each, which no later step changes.
        """

    @abstractmethod
    def clear(self, streams: Sequence[int]) -> None:
        """Makes streams start anew with their next frames."""


class Backend(Closing):
    """An exported file that a program has opened; a context manager that closes it.

    Attributes:
        contract: What the file says of itself.
        device: What it really runs on: `cpu`, `cuda`, or the name of another provider.
        placement: What runs it, node by node.
    """

    contract: Contract
    device: str
    placement: Placement

    @abstractmethod
    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Runs the graph once: the contract's inputs in order, to its outputs in order.

        The outputs are arrays of their own. Nothing is remembered from one run to the next.

        Raises:
            EdgeclfError: Where the program fails on them, for example for want of memory.
            UsageError: After `close`.
        """

    @abstractmethod
    def remember(self, streams: int) -> StreamMemory:
        """Returns the memory of so many streams; only of a graph that takes frames and `keep_memory`."""

    @abstractmethod
    def close(self) -> None:
        """Gives back what the program holds; the memories of streams made here cannot be used any more."""


class HostMemory(StreamMemory):
    """State in NumPy arrays, which goes through `Backend.run` and back: for every backend that has nothing better.

    Args:
        backend: Runs the graph.
        streams: Number of streams.
    """

    def __init__(self, backend: Backend, streams: int) -> None:
        contract = backend.contract
        self._backend = backend
        self._rows = contract.batch or streams
        self._state = [np.zeros((self._rows, *tensor.shape), contract.state_type) for tensor in contract.state]

    def step(self, frames: Array, streams: Sequence[int], keep: Sequence[bool]) -> tuple[Array, Array]:
        """Runs on one frame of each of some streams; see `StreamMemory.step`."""
        contract, count = self._backend.contract, len(frames)
        self.clear([stream for stream, kept in zip(streams, keep, strict=True) if not kept])
        which = list(streams)
        in_step = which == list(range(self._rows))
        given = [frames]
        if contract.state:
            state = self._state if in_step else [value[which] for value in self._state]
            given += [np.ones(count, contract.edge_type), *state]
        if contract.batch is not None:
            given = [padded(value, contract.batch) for value in given]
        logits, probabilities, *after = self._backend.run(given)
        if in_step:
            self._state = after
        else:
            for kept_value, value in zip(self._state, after, strict=True):
                kept_value[which] = value[:count]
        return logits[:count], probabilities[:count]

    def clear(self, streams: Sequence[int]) -> None:
        """Makes streams start anew; see `StreamMemory.clear`."""
        # To zero, rather than by the graph's `keep_memory`: what is not finite would outlive the multiplication by 0.
        if streams:
            for value in self._state:
                value[list(streams)] = 0


def settle_for_cpu(options: DeviceOptions, wanted: str, problem: str, remedy: str) -> None:
    """Says why the CPU runs a model and nothing else, or raises where that was not allowed.

    Args:
        options: What was asked for.
        wanted: What the CPU runs it instead of.
        problem: Why that is not to be had, as a clause.
        remedy: What to do about it, as a clause.

    Raises:
        DeviceError: Where it was asked for, and the fallback to the CPU was not allowed.
    """
    if not options.names_device:
        _log.info("Running on the CPU: %s.", problem)
    elif options.allow_cpu_fallback:
        _log.warning(
            "Running on the CPU, as the fallback was allowed: %s is not to be had: %s; %s.", wanted, problem, remedy
        )
    else:
        raise DeviceError(
            f"{wanted} was asked for and is not to be had: {problem}; {remedy}, or run with --device cpu "
            "(--allow-cpu-fallback takes the CPU wherever it is not to be had)."
        )


def last_line(error: Exception) -> str:
    """Returns what an error of PyTorch's or OpenVINO's says, as a clause: its last line, after a trace."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")


def padded(value: Array, rows: int) -> Array:
    """Returns an array with rows of zeros up to so many, itself where it has them."""
    missing = rows - len(value)
    return np.pad(value, [(0, missing)] + [(0, 0)] * (value.ndim - 1)) if missing else value
