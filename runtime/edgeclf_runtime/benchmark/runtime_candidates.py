"""The candidates that need no PyTorch: this runtime, and the plain calls of ONNX Runtime and OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.backends import DeviceOptions
from edgeclf_runtime.backends.base import Array, last_line, padded, settle_for_cpu
from edgeclf_runtime.backends.openvino import import_openvino
from edgeclf_runtime.backends.providers import import_onnxruntime
from edgeclf_runtime.benchmark.candidates import Candidate
from edgeclf_runtime.contract import EVENTS, FRAMES, KEEP_MEMORY, PROBABILITIES, Contract
from edgeclf_runtime.contract_file import model_file, model_kind
from edgeclf_runtime.errors import ContractError, DeviceError, InputFileError, MissingPackageError, UsageError
from edgeclf_runtime.machine.cores import usable_cores
from edgeclf_runtime.machine.providers import CPU_PROVIDER, CUDA_PROVIDER, first_line, preload_libraries
from edgeclf_runtime.onnx_file import check_external_data, read_onnx
from edgeclf_runtime.session import Classifier

Run = Callable[[Mapping[str, Array]], Sequence[Array]]
"""Runs the graph on inputs by name; returns the contract's outputs in order, arrays of their own."""


class RuntimeCandidate(Candidate):
    """A file that this runtime has opened.

    Args:
        classifier: The runtime's classifier, which is the candidate's from now on.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.device = classifier.device
        self._classifier = classifier

    def step(self, frames: Array) -> Array:
        """Runs on one frame of each stream; see `Candidate.step`."""
        return self._classifier.step(frames).probabilities

    def reset(self) -> None:
        """Makes all streams start anew."""
        self._classifier.reset()

    def close(self) -> None:
        """Releases the model."""
        self._classifier.close()


class PlainCandidate(Candidate):
    """A program's plain call, as its documents show it: NumPy arrays go in and come out, the state among them.

    Args:
        run: The call.
        contract: What the file says of itself.
        device: What it really runs on.
        streams: Number of streams.
        source: The file's name, for errors.

    Raises:
        ContractError: Where the model takes no frames.
        UsageError: Where it was exported for fewer streams.
    """

    def __init__(self, run: Run, contract: Contract, device: str, streams: int, source: str) -> None:
        if contract.takes == EVENTS:
            raise ContractError(
                f"{source}: this file takes events, and not frames; give the one that `edgeclf export --format onnx` "
                "writes."
            )
        if contract.batch is not None and streams > contract.batch:
            raise UsageError(
                f"{source}: it was exported for {contract.batch} streams (--batch), and {streams} were asked for; "
                "export it for more, or without --batch."
            )
        self.device = device
        self._run = run
        self._contract = contract
        self._streams = streams
        self._rows = contract.batch or streams
        self._probabilities = contract.output_names.index(PROBABILITIES)
        self._states = [tensor.input_name for tensor in contract.state]
        self._feed: dict[str, Array] = {}
        if KEEP_MEMORY in contract.input_names:
            self._feed[KEEP_MEMORY] = np.ones(self._rows, contract.edge_type)
        self.reset()

    def step(self, frames: Array) -> Array:
        """Runs on one frame of each stream; see `Candidate.step`."""
        self._feed[FRAMES] = padded(np.ascontiguousarray(frames, self._contract.edge_type), self._rows)
        outputs = self._run(self._feed)
        self._feed.update(zip(self._states, outputs[-len(self._states) :], strict=True) if self._states else ())
        return outputs[self._probabilities][: self._streams]

    def reset(self) -> None:
        """Makes all streams start anew."""
        for tensor in self._contract.state:
            self._feed[tensor.input_name] = np.zeros((self._rows, *tensor.shape), self._contract.state_type)

    def close(self) -> None:
        """Releases the model."""
        del self._run


def open_edgeclf(path: Path, options: DeviceOptions, streams: int = 1) -> Candidate:
    """Loads any file that `edgeclf export` makes into this runtime.

    Raises:
        EdgeclfError: See `Classifier.load`.
    """
    return RuntimeCandidate(Classifier.load(path, options=options, streams=streams))


def open_ort(path: Path, options: DeviceOptions, streams: int = 1) -> Candidate:
    """Loads an ONNX file into ONNX Runtime as it is set up by itself, but for its number of threads.

    On CUDA it multiplies in float32 unless the options say otherwise, as this runtime does, and falls back to the CPU
    where the options allow that.

    Raises:
        InputFileError: Where the file is not there, damaged, or of another kind.
        ContractError: Where it was not exported by edgeclf, or takes no frames.
        DeviceError: Where the device that was asked for does not start.
        MissingPackageError: Where ONNX Runtime is not installed.
        UsageError: Where it was exported for fewer streams.
    """
    path, contract = _onnx_contract(path)
    onnxruntime = import_onnxruntime()
    wanted = options.provider or (CPU_PROVIDER if options.device == "cpu" else CUDA_PROVIDER)
    session = None if wanted == CPU_PROVIDER else _on_provider(onnxruntime, path, options, wanted)
    if session is None:
        try:
            session = _plain_session(onnxruntime, path, options, CPU_PROVIDER)
        except Exception as error:  # onnxruntime's own classes have no public base
            raise InputFileError(
                f"{path}: ONNX Runtime cannot load it ({first_line(error)}); export the checkpoint again."
            ) from error
    used = session.get_providers()[0]

    def run(feed: Mapping[str, Array]) -> Sequence[Array]:
        outputs: list[Array] = session.run(contract.output_names, feed)
        return outputs

    device = "cuda" if used == CUDA_PROVIDER else used.removesuffix("ExecutionProvider").lower()
    return PlainCandidate(run, contract, device, streams, str(path))


def open_openvino(path: Path, options: DeviceOptions, streams: int = 1) -> Candidate:
    """Converts an ONNX file to OpenVINO and compiles it for the CPU and so many streams.

    Its arithmetic is pinned, to that of the file or, where the options say so, to bfloat16: by itself a CPU that has
    bfloat16 would compute a float32 file in that.

    Raises:
        InputFileError: Where the file is not there, damaged, or of another kind.
        ContractError: Where it was not exported by edgeclf, or takes no frames.
        DeviceError: Where another device than the CPU was asked for.
        MissingPackageError: Where OpenVINO is not installed.
        UsageError: Where it was exported for fewer streams.
    """
    path, contract = _onnx_contract(path)
    if options.device == "cuda" or options.provider is not None:
        raise DeviceError(f"{path}: OpenVINO is measured on the CPU alone; ask for --device cpu.")
    try:
        openvino = import_openvino()
    except ImportError as error:
        raise MissingPackageError("OpenVINO is not installed: pip install 'edgeclf[openvino]'.") from error
    arithmetic = "bf16" if options.bfloat16 else "f16" if contract.precision == "fp16" else "f32"
    settings = {
        "INFERENCE_PRECISION_HINT": arithmetic,
        "INFERENCE_NUM_THREADS": options.threads or usable_cores(),
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    rows = contract.batch or streams
    try:
        model = openvino.convert_model(path)
        model.reshape({port.any_name: [rows, *port.partial_shape[1:]] for port in model.inputs})
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    except Exception as error:  # OpenVINO raises RuntimeError and others
        raise InputFileError(
            f"{path}: OpenVINO cannot convert it ({last_line(error)}); export the checkpoint again."
        ) from error

    def run(feed: Mapping[str, Array]) -> Sequence[Array]:
        found = request.infer(feed, share_inputs=True)
        return [found[name] for name in contract.output_names]

    return PlainCandidate(run, contract, "cpu", streams, str(path))


def _onnx_contract(path: Path) -> tuple[Path, Contract]:
    """Returns the ONNX file that a path means and its contract, after checking that it reads no file from elsewhere."""
    path = model_file(path)
    if model_kind(path) != "onnx":
        raise InputFileError(f"{path}: this is not an ONNX file, which is what this program is measured with.")
    found = read_onnx(path)
    check_external_data(found)
    return path, Contract.from_metadata(found.metadata, str(path))


def _on_provider(onnxruntime: Any, path: Path, options: DeviceOptions, wanted: str) -> Any:
    """Returns a session on a provider; None where there is none and the CPU may stand in for it.

    Raises:
        DeviceError: Where it may not.
    """
    if wanted == CUDA_PROVIDER:
        preload_libraries(onnxruntime)
    listed = onnxruntime.get_available_providers()
    if wanted not in listed:
        problem = f"the installed ONNX Runtime has only {', '.join(listed)}"
        settle_for_cpu(options, wanted, problem, "install one that has it")
        return None
    try:
        session = _plain_session(onnxruntime, path, options, wanted)
        problem = "its session runs without it"
    except Exception as error:  # onnxruntime's own classes have no public base
        session, problem = None, f"it does not start ({first_line(error)})"
    if session is None or session.get_providers()[0] != wanted:
        settle_for_cpu(options, wanted, problem, "install what it needs, as ONNX Runtime's documents say")
        return None
    return session


def _plain_session(onnxruntime: Any, path: Path, options: DeviceOptions, provider: str) -> Any:
    """Returns a session on a provider, with the CPU behind it."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3  # errors; its warnings are for who wrote the graph
    settings.intra_op_num_threads = options.threads or usable_cores()
    if provider == CPU_PROVIDER:
        providers: list[Any] = [(CPU_PROVIDER, {})]
    else:
        own = {"use_tf32": "1" if options.tf32 else "0"} if provider == CUDA_PROVIDER else {}
        providers = [(provider, own | dict(options.provider_options)), CPU_PROVIDER]
    return onnxruntime.InferenceSession(str(path), settings, providers=providers, enable_fallback=0)
