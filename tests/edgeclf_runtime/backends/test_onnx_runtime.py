from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest

from edgeclf_runtime.backends import DeviceOptions, open_backend
from edgeclf_runtime.backends.base import HostMemory
from edgeclf_runtime.backends.device_memory import DeviceMemory
from edgeclf_runtime.errors import ContractError, EdgeclfError, UsageError


def zeros_of(contract, streams=1):
    state = [np.zeros((streams, *tensor.shape), np.float32) for tensor in contract.state]
    return [np.zeros((streams, *contract.frame_shape), np.float32), np.ones(streams, np.float32), *state]


def test_nothing_is_remembered_from_run_to_run(write_model, device, tiny):
    with open_backend(write_model(), DeviceOptions(device, threads=1)) as backend:
        inputs = zeros_of(tiny)
        inputs[0] += 0.25
        first, second = backend.run(inputs), backend.run(inputs)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_closed(write_model, device, tiny):
    backend = open_backend(write_model(), DeviceOptions(device, threads=1))
    memory = backend.remember(1)
    released = weakref.ref(backend.session)
    backend.close()
    backend.close()
    gc.collect()
    assert released() is None
    with pytest.raises(UsageError, match=r"tiny\.onnx: the model was closed"):
        backend.run(zeros_of(tiny))
    with pytest.raises(UsageError, match="was closed"):
        memory.step(np.zeros((1, *tiny.frame_shape), np.float32), [0], [True])


def test_rows_that_gpus_cannot_take_go_through_the_host(write_model, monkeypatch, aligned):
    def memory_of(path, streams, device):
        backend = open_backend(path, DeviceOptions("cpu", threads=1))
        monkeypatch.setattr(DeviceMemory, "__init__", lambda *_: None)
        backend.device = device
        return type(backend.remember(streams))

    tiny, wide = write_model(), write_model("wide.onnx", **aligned)
    assert memory_of(tiny, 2, "cpu") is DeviceMemory
    assert memory_of(tiny, 1, "cuda") is DeviceMemory
    assert memory_of(tiny, 2, "cuda") is HostMemory
    assert memory_of(wide, 2, "cuda") is DeviceMemory


@pytest.mark.parametrize("changes", [{"state_type": "float16"}, {"edge_type": "float16"}, {"state": ()}])
def test_graph_of_another_contract(write_model, tiny, changes):
    backend = open_backend(write_model(graph_of=replace(tiny, **changes)), DeviceOptions("cpu", threads=1))
    with pytest.raises(ContractError, match="not those of its contract"):
        backend.remember(1)


def test_failure_of_onnx_runtime_is_a_sentence(write_model, tiny):
    backend = open_backend(write_model(), DeviceOptions("cpu", threads=1))
    with pytest.raises(EdgeclfError, match=r"ONNX Runtime failed on a frame \(.+\); try"):
        backend.run([value[..., :1] for value in zeros_of(tiny)[:1]] + zeros_of(tiny)[1:])
    memory = backend.remember(1)
    with pytest.raises(EdgeclfError, match=r"ONNX Runtime failed on a frame \(.+\); try") as raised:
        memory.step(np.zeros((1, 2, 5, 5), np.float32), [0], [True])
    assert raised.value.exit_code == 1


def test_pytorch_and_openvino_stay_out_of_the_process(write_model):
    import subprocess

    program = (
        "import sys; from edgeclf_runtime.session import Classifier; "
        f"Classifier.load({str(write_model())!r}, 'cpu'); print(sorted({{'torch', 'openvino'}} & {{*sys.modules}}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_nothing_is_reported_and_nothing_kept_in_the_home_folder(write_model, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    code = f"from edgeclf_runtime.session import Classifier; Classifier.load({str(write_model())!r}, 'cpu').warm_up()"
    subprocess.run([sys.executable, "-c", code], env=kept | {"HOME": str(home)}, check=True)
    assert list(home.iterdir()) == []
