from __future__ import annotations

import logging
import re
import sys

import onnxruntime
import pytest

from edgeclf_runtime.backends import DeviceOptions, open_backend
from edgeclf_runtime.backends.providers import start_session
from edgeclf_runtime.errors import DeviceError, InputFileError, MissingPackageError, UsageError
from edgeclf_runtime.machine import cuda
from edgeclf_runtime.machine.cuda import CudaDiagnosis

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
TENSORRT, OPENVINO = "TensorrtExecutionProvider", "OpenVINOExecutionProvider"


class Node:
    def __init__(self, op_type):
        self.op_type = op_type


class Part:
    def __init__(self, provider, operators):
        self.ep_name = provider
        self._nodes = [Node(operator) for operator in operators]

    def get_nodes(self):
        return self._nodes


@pytest.fixture
def pretend(monkeypatch):
    """Pretends that an ONNX Runtime has some providers, of which the second really start; gives what is asked of it.

    `starting` None: the session cannot be made; `assigned`: the operators that each provider takes.
    """
    real = onnxruntime.InferenceSession

    def pretend(available, starting=(), assigned=None, diagnosis=None):
        asked = []

        class Session:
            def __init__(self, path, options, providers, **more):
                asked.append((providers, options))
                self._wanted = providers[0][0]
                if starting is None and self._wanted != CPU:
                    raise RuntimeError("CUDA failure 35: CUDA driver version is insufficient.\nmore")
                self._real = real(path, options, providers=[CPU], **more)

            def get_providers(self):
                return [self._wanted, CPU] if self._wanted in (starting or ()) else [CPU]

            def get_provider_graph_assignment_info(self):
                if assigned is None or self._wanted == CPU:
                    return self._real.get_provider_graph_assignment_info()
                return [Part(provider, operators) for provider, operators in assigned.items()]

            def __getattr__(self, name):
                return getattr(self._real, name)

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("what is missed"), raising=False)  # noqa: T201
        monkeypatch.setattr(cuda, "diagnose", lambda: diagnosis or CudaDiagnosis("it is broken", "mend it", {}))
        return asked

    return pretend


@pytest.fixture
def logged(caplog):
    caplog.set_level(logging.INFO, "edgeclf_runtime")
    return caplog


TAKEN = {CUDA: ["Conv", "Conv"], CPU: ["Shape", "Gather", "Shape"]}


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_cuda_that_starts(write_model, pretend, logged, capfd, device):
    asked = pretend([CUDA, CPU], [CUDA], TAKEN)
    found = open_backend(write_model(), DeviceOptions(device, threads=2))
    assert found.device == "cuda"
    assert [name for name, _ in asked[0][0]] == [CUDA, CPU]
    assert logged.messages == [
        "Running on CUDAExecutionProvider (2 nodes), CPUExecutionProvider (3 nodes); on the CPU: Shape (2), Gather (1)."
    ]
    assert capfd.readouterr() == ("", "")  # ONNX Runtime's preload_dlls prints


def test_cpu_asks_for_nothing_else(write_model, pretend, logged):
    asked = pretend([CUDA, CPU], [CUDA])
    found = open_backend(write_model(), DeviceOptions("cpu"))
    assert (found.device, found.placement.providers) == ("cpu", (CPU,))
    assert [providers for providers, _ in asked] == [[(CPU, {})]]
    assert logged.messages == []


def test_every_node_of_the_cpu_is_counted(write_model):
    with open_backend(write_model(), DeviceOptions("cpu")) as found:
        # Two of the file's three Cast are of a type to itself, and gone before the nodes are handed out.
        assert found.placement.nodes[CPU] >= 15
        assert found.placement.on_cpu == {}


def test_auto_without_a_cuda_provider(write_model, pretend, logged):
    pretend([CPU])
    assert open_backend(write_model()).device == "cpu"
    assert logged.messages == ["Running on the CPU: the installed ONNX Runtime has only CPUExecutionProvider."]


@pytest.mark.parametrize(
    ("starting", "diagnosis", "message"),
    [
        ((), None, "it is broken"),
        (None, None, "it is broken"),
        ((), CudaDiagnosis(None, "", {}), r"does not start \(its session runs without it\)"),
        (None, CudaDiagnosis(None, "", {}), r"does not start \(CUDA failure 35: CUDA driver version is insufficient\)"),
    ],
)
def test_auto_where_cuda_does_not_start(write_model, pretend, logged, starting, diagnosis, message):
    # ONNX Runtime lists the provider, and the session runs on the CPU in silence, or there is none.
    pretend([CUDA, CPU], starting, diagnosis=diagnosis)
    assert open_backend(write_model()).device == "cpu"
    assert len(logged.messages) == 1
    assert logged.records[0].levelname == "INFO"
    assert re.search("Running on the CPU: .*" + message, logged.messages[0])


@pytest.mark.parametrize("available", [[CPU], [CUDA, CPU]])
@pytest.mark.parametrize("starting", [(), None])
def test_cuda_that_is_asked_for_and_not_there(write_model, pretend, available, starting):
    pretend(available, starting)
    with pytest.raises(DeviceError, match=r"CUDA was asked .*: it is broken; mend it, or run with --device cpu"):
        open_backend(write_model(), DeviceOptions("cuda"))


def test_provider_that_takes_no_node_does_not_run(write_model, pretend):
    pretend([CUDA, CPU], [CUDA], {CPU: ["Conv"]}, CudaDiagnosis(None, "look", {}))
    with pytest.raises(DeviceError, match=r"does not start \(its session runs without it\); look, or run"):
        open_backend(write_model(), DeviceOptions("cuda"))


def test_an_older_onnx_runtime_does_not_say_where_nodes_are(write_model, monkeypatch):
    monkeypatch.delattr(onnxruntime.InferenceSession.__mro__[1], "get_provider_graph_assignment_info")
    with open_backend(write_model(), DeviceOptions("cpu")) as found:
        assert (found.placement.providers, found.placement.nodes) == ((CPU,), {})


def test_fallback_that_is_allowed_is_a_warning(write_model, pretend, logged):
    pretend([CPU])
    assert open_backend(write_model(), DeviceOptions("cuda", allow_cpu_fallback=True)).device == "cpu"
    assert [record.levelname for record in logged.records] == ["WARNING"]
    assert "the fallback was allowed: CUDA is not to be had: it is broken; mend it." in logged.messages[0]


@pytest.mark.parametrize("options", [DeviceOptions("cuda"), DeviceOptions("auto"), DeviceOptions(provider=OPENVINO)])
def test_damaged_file_is_not_put_down_to_the_device(tmp_path, pretend, options):
    pretend([OPENVINO, CUDA, CPU], [OPENVINO, CUDA])
    (tmp_path / "a.onnx").write_bytes(b"text")
    with pytest.raises(InputFileError, match="not an ONNX model"):
        start_session(tmp_path / "a.onnx", options)


# Providers by name.


def test_a_provider_by_name(write_model, pretend):
    asked = pretend([OPENVINO, CPU], [OPENVINO], {OPENVINO: ["Conv"]})
    found = open_backend(write_model(), DeviceOptions(provider=OPENVINO, provider_options={"device_type": "CPU"}))
    assert found.device == "openvino"
    assert asked[0][0] == [(OPENVINO, {"precision": "FP32", "device_type": "CPU"}), (CPU, {})]


def test_bfloat16_is_openvinos(write_model, pretend):
    asked = pretend([OPENVINO, CPU], [OPENVINO], {OPENVINO: ["Conv"]})
    open_backend(write_model(), DeviceOptions(provider=OPENVINO, bfloat16=True))
    assert asked[0][0][0] == (OPENVINO, {})
    with pytest.raises(UsageError, match=f"{CPU} does not compute in it"):
        open_backend(write_model(), DeviceOptions("cpu", bfloat16=True))


def test_what_tensorrt_does_not_take_goes_to_cuda(write_model, pretend):
    asked = pretend([TENSORRT, CUDA, CPU], [TENSORRT], {TENSORRT: ["Conv"]})
    found = open_backend(write_model(), DeviceOptions(provider=TENSORRT, provider_options={"trt_fp16_enable": "1"}))
    assert found.device == "cuda"
    assert [name for name, _ in asked[0][0]] == [TENSORRT, CUDA, CPU]
    assert asked[0][0][0][1] == {"trt_fp16_enable": "1"}
    assert "trt_fp16_enable" not in asked[0][0][1][1]


@pytest.mark.parametrize(
    ("available", "message"),
    [
        ([CPU, "A"], f"{OPENVINO} was asked for .* has only {CPU}, A; install a build .* with it"),
        ([OPENVINO, CPU], r"it does not start \(its session runs without it\); install what it needs"),
    ],
)
def test_a_provider_that_is_not_there(write_model, pretend, available, message):
    pretend(available)
    with pytest.raises(DeviceError, match=message):
        open_backend(write_model(), DeviceOptions(provider=OPENVINO))


def test_azure_takes_nothing(write_model):
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no other provider than the CPU's")
    with pytest.raises(DeviceError, match=r"AzureExecutionProvider was asked .* runs without it"):
        open_backend(write_model(), DeviceOptions(provider="AzureExecutionProvider"))


# Options.


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"}),
        ({"tf32": True}, {"use_tf32": "1"}),
        ({"provider_options": {"cudnn_conv_algo_search": "EXHAUSTIVE"}}, {"cudnn_conv_algo_search": "EXHAUSTIVE"}),
    ],
)
def test_options_of_cuda(write_model, pretend, options, expected):
    asked = pretend([CUDA, CPU], [CUDA], TAKEN)
    open_backend(write_model(), DeviceOptions("cuda", **options))
    assert expected.items() <= asked[0][0][0][1].items()
    assert asked[0][0][1] == (CPU, {})


@pytest.mark.parametrize(
    ("spinning", "set_keys"),
    [
        ("stop-after-step", {"session.force_spinning_stop": "1"}),
        ("always", {}),
        ("never", {"session.intra_op.allow_spinning": "0"}),
    ],
)
def test_what_threads_without_work_do(write_model, pretend, spinning, set_keys):
    asked = pretend([CPU])
    open_backend(write_model(), DeviceOptions("cpu", spinning=spinning))
    found = {}
    for key in ("session.force_spinning_stop", "session.intra_op.allow_spinning"):
        try:
            found[key] = asked[0][1].get_session_config_entry(key)
        except RuntimeError:  # it has no such entry
            continue
    assert found == set_keys


def test_threads_are_the_cores_of_this_process(write_model, pretend, monkeypatch):
    asked = pretend([CPU])
    monkeypatch.setattr("edgeclf_runtime.backends.providers.usable_cores", lambda: 3)
    open_backend(write_model(), DeviceOptions("cpu"))
    open_backend(write_model(), DeviceOptions("cpu", threads=2))
    assert [options.intra_op_num_threads for _, options in asked] == [3, 2]


def test_graph_and_arena(write_model, pretend):
    asked = pretend([CPU])
    levels = onnxruntime.GraphOptimizationLevel
    for name, level in (
        ("all", levels.ORT_ENABLE_ALL), ("extended", levels.ORT_ENABLE_EXTENDED), ("basic", levels.ORT_ENABLE_BASIC),
        ("none", levels.ORT_DISABLE_ALL),
    ):  # fmt: skip
        open_backend(write_model(), DeviceOptions("cpu", graph_optimisation=name, cpu_arena=name == "all"))
        assert asked[-1][1].graph_optimization_level == level
        assert asked[-1][1].enable_cpu_mem_arena is (name == "all")


def test_without_onnx_runtime(write_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'edgeclf\[cpu\]'"):
        open_backend(write_model(), DeviceOptions("cpu"))


def test_device_of_this_machine(write_model, aligned, device):
    with open_backend(write_model(**aligned), DeviceOptions(device)) as found:
        assert found.device == device
        assert found.placement.nodes[found.placement.providers[0]] > 0


def test_every_provider_on_cuda_and_the_state_take_the_same_gpu(write_model, pretend):
    tensorrt = "TensorrtExecutionProvider"
    asked = pretend([tensorrt, CUDA, CPU], [tensorrt], {tensorrt: ["Conv"], CPU: []})
    options = DeviceOptions(provider=tensorrt, provider_options={"device_id": "1"})
    assert open_backend(write_model(), options).gpu == 1
    given = dict(asked[0][0])
    assert (given[tensorrt]["device_id"], given[CUDA]["device_id"], given[CPU]) == ("1", "1", {})


def test_a_gpu_is_a_number(write_model, pretend):
    pretend([CUDA, CPU], [CUDA], TAKEN)
    with pytest.raises(UsageError, match="device_id is the number of a GPU, and not 'first'"):
        open_backend(write_model(), DeviceOptions("cuda", provider_options={"device_id": "first"}))
