from __future__ import annotations

import importlib.util
import logging
import sys

import numpy as np
import pytest

from edgeclf_runtime.backends import DeviceOptions, open_backend
from edgeclf_runtime.backends.openvino import import_openvino
from edgeclf_runtime.contract import Contract
from edgeclf_runtime.errors import DeviceError, EdgeclfError, InputFileError, MissingPackageError, UsageError
from edgeclf_runtime.onnx_file import read_onnx

if importlib.util.find_spec("openvino") is None:
    pytest.skip("OpenVINO is not installed", allow_module_level=True)


@pytest.fixture
def write(write_model, tmp_path):
    """Writes the tiny model as `a.xml`; returns it and its `.onnx`."""

    def write(**changes):
        source = write_model(**changes)
        contract = Contract.from_metadata(read_onnx(source).metadata, str(source))
        openvino = import_openvino()
        model = openvino.convert_model(source)
        model.set_rt_info(contract.to_json(), ["edgeclf"])
        openvino.save_model(model, tmp_path / "a.xml", compress_to_fp16=False)
        return tmp_path / "a.xml", source

    return write


@pytest.mark.parametrize(("batch", "streams"), [(None, 1), (None, 3), (3, 3), (3, 2)])
def test_any_streams_in_any_order_as_each_alone(write, write_model, alone, any_order, batch, streams):
    path, _ = write(batch=batch)
    reference = write_model("any.onnx")
    with open_backend(path, DeviceOptions(threads=1)) as backend:
        assert (backend.device, str(backend.placement)) == ("cpu", "OpenVINO")
        references = [alone(reference, backend.contract) for _ in range(streams)]
        any_order(backend.remember(streams), references, backend.contract, 40, 1e-5)


def test_outputs_are_arrays_of_their_own(write, tiny):
    path, _ = write()
    with open_backend(path, DeviceOptions("cpu", threads=1)) as backend:
        state = [np.zeros((1, *tensor.shape), np.float32) for tensor in tiny.state]
        given = [np.full((1, *tiny.frame_shape), 0.5, np.float32), np.ones(1, np.float32), *state]
        first = backend.run(given)
        copies = [value.copy() for value in first]
        given[0][:] = 9
        backend.run(given)
        for found, right in zip(first, copies, strict=True):
            np.testing.assert_array_equal(found, right)


@pytest.fixture
def compiled_with(monkeypatch):
    """Gives the settings of every model that OpenVINO compiles from now on."""
    core, settings = import_openvino().Core, []
    compile_model = core.compile_model

    def compile_and_tell(self, model, device, config):
        settings.append(config)
        return compile_model(self, model, device, config)

    monkeypatch.setattr(core, "compile_model", compile_and_tell)
    return settings


def test_arithmetic_and_threads_are_pinned(write, compiled_with, monkeypatch):
    path, _ = write()
    monkeypatch.setattr("edgeclf_runtime.backends.openvino.usable_cores", lambda: 3)
    open_backend(path, DeviceOptions("cpu"))
    open_backend(path, DeviceOptions("cpu", threads=2, bfloat16=True))
    found = [(s["INFERENCE_PRECISION_HINT"], s["INFERENCE_NUM_THREADS"]) for s in compiled_with]
    assert found == [("f32", 3), ("bf16", 2)]


def test_closed_and_failing(write, tiny):
    path, _ = write()
    backend = open_backend(path, DeviceOptions("cpu", threads=1))
    memory = backend.remember(1)
    with pytest.raises(EdgeclfError, match=r"OpenVINO failed on a frame \(.+\); export"):
        memory.step(np.zeros((1, 3, 5, 5), np.float32), [0], [True])
    backend.close()
    with pytest.raises(UsageError, match=r"a\.xml: the model was closed"):
        memory.step(np.zeros((1, *tiny.frame_shape), np.float32), [0], [True])


def test_weights_that_are_missing(write):
    path, _ = write()
    path.with_suffix(".bin").unlink()
    with pytest.raises(InputFileError, match=r"a\.xml: OpenVINO cannot load it, or the weights .* \(.+\); export"):
        open_backend(path, DeviceOptions("cpu"))


def test_devices(write, caplog):
    path, _ = write()
    with pytest.raises(DeviceError, match="run on the CPU here"):
        open_backend(path, DeviceOptions("cuda"))
    assert open_backend(path, DeviceOptions("cuda", allow_cpu_fallback=True)).device == "cpu"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    caplog.set_level(logging.INFO, "edgeclf_runtime")
    open_backend(path)
    assert caplog.messages[1:] == ["Running on the CPU: OpenVINO's files run on the CPU here."]
    with pytest.raises(UsageError, match="for other files than OpenVINO's"):
        open_backend(path, DeviceOptions(provider="CUDAExecutionProvider"))


def test_without_openvino(write, monkeypatch):
    path, _ = write()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError, match=r"a\.xml: .* not installed: pip install 'edgeclf\[openvino\]'"):
        open_backend(path, DeviceOptions("cpu"))
