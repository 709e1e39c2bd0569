from __future__ import annotations

import numpy as np
import pytest

from edgeclf_runtime.backends import DeviceOptions, Placement, open_backend
from edgeclf_runtime.backends.base import HostMemory, last_line
from edgeclf_runtime.errors import UsageError


@pytest.mark.parametrize(("batch", "streams"), [(None, 1), (None, 4), (4, 4), (4, 2)])
def test_state_on_the_host_as_each_stream_alone(write_model, alone, any_order, batch, streams):
    path = write_model("any.onnx")
    with open_backend(write_model("this.onnx", batch=batch), DeviceOptions("cpu", threads=1)) as backend:
        references = [alone(path, backend.contract) for _ in range(streams)]
        any_order(HostMemory(backend, streams), references, backend.contract, 60, 1e-6)


def test_what_is_not_finite_on_the_host_ends_with_a_new_start(write_model, tiny):
    frames = np.ones((1, *tiny.frame_shape), np.float32)
    with open_backend(write_model(), DeviceOptions("cpu", threads=1)) as backend:
        memory = HostMemory(backend, 1)
        right = memory.step(frames, [0], [True])[0]
        memory.step(frames * np.nan, [0], [True])
        np.testing.assert_array_equal(memory.step(frames, [0], [False])[0], right)


def test_a_provider_excludes_a_device():
    with pytest.raises(UsageError, match=r"\(TensorrtExecutionProvider\) and a device \(cpu\) were both asked for"):
        DeviceOptions("cpu", provider="TensorrtExecutionProvider")


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads(threads):
    with pytest.raises(UsageError, match="at least one thread"):
        DeviceOptions(threads=threads)


def test_placement_as_text():
    assert str(Placement(("PyTorch",))) == "PyTorch"
    found = Placement(("A", "B"), {"A": 5, "B": 3}, {"Shape": 2, "Cast": 1})
    assert str(found) == "A (5 nodes), B (3 nodes); on the CPU: Shape (2), Cast (1)"
    assert found.to_dict() == {
        "providers": ["A", "B"],
        "nodes": {"A": 5, "B": 3},
        "on_cpu": {"Shape": 2, "Cast": 1},
    }


def test_what_an_error_says_is_its_last_line():
    assert last_line(ValueError("a trace\n  of two lines\nit is broken.\n")) == "it is broken"
    assert last_line(KeyError()) == "KeyError"


@pytest.mark.parametrize("key", ["enable_cuda_graph", "trt_cuda_graph_enable"])
def test_cuda_graphs_are_refused(key):
    with pytest.raises(UsageError, match="CUDA graphs"):
        DeviceOptions(provider_options={key: "1"})
    DeviceOptions(provider_options={key: "0"})
