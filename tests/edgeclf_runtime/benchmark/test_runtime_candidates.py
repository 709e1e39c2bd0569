from __future__ import annotations

import importlib.util
import pickle
import sys
from functools import partial

import numpy as np
import onnxruntime
import pytest

from edgeclf_runtime.backends import DeviceOptions
from edgeclf_runtime.benchmark.runtime_candidates import open_edgeclf, open_openvino, open_ort
from edgeclf_runtime.errors import ContractError, DeviceError, InputFileError, MissingPackageError, UsageError

CPU = DeviceOptions("cpu", threads=1)

with_openvino = pytest.param(
    open_openvino,
    marks=pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed"),
)
OPENERS = [open_edgeclf, open_ort, with_openvino]


def frames_of(contract, steps=5, streams=2):
    return np.random.default_rng(0).random((steps, streams, *contract.frame_shape), np.float32)


@pytest.mark.parametrize("opens", OPENERS)
def test_state_is_fed_back_until_it_is_reset(opens, write_model, tiny, outputs_by_hand):
    frames = frames_of(tiny)
    right = np.stack([outputs_by_hand(frames[:, i])[1] for i in range(2)], axis=1)
    with pickle.loads(pickle.dumps(partial(opens, write_model(), CPU, 2)))() as candidate:
        assert candidate.device == "cpu"
        for _ in range(2):
            candidate.reset()
            found = np.stack([candidate.step(batch) for batch in frames])
            np.testing.assert_allclose(found, right, atol=1e-5)


@pytest.mark.parametrize("opens", OPENERS)
def test_half_precision_state_and_edges_are_given_in_their_types(opens, write_model, tiny, outputs_by_hand):
    path = write_model(precision="fp16", edge_type="float16", state_type="float16")
    frames = frames_of(tiny, streams=1)
    with opens(path, CPU, 1) as candidate:
        found = np.stack([candidate.step(batch)[0] for batch in frames])
    np.testing.assert_allclose(found.astype(np.float32), outputs_by_hand(frames[:, 0])[1], atol=5e-3)


@pytest.mark.parametrize("opens", OPENERS)
def test_a_model_without_state(opens, write_model, tiny, outputs_by_hand):
    frames = frames_of(tiny, streams=1)
    with opens(write_model(state=()), CPU, 1) as candidate:
        found = np.stack([candidate.step(batch)[0] for batch in frames])
        candidate.reset()
    np.testing.assert_allclose(found, outputs_by_hand(frames[:, 0], resets=range(5))[1], atol=1e-5)


@pytest.mark.parametrize("opens", OPENERS)
def test_a_fixed_number_of_streams(opens, write_model, tiny, outputs_by_hand):
    path = write_model(batch=3)
    frames = frames_of(tiny)
    with opens(path, CPU, 2) as candidate:
        found = np.stack([candidate.step(batch) for batch in frames])
    right = np.stack([outputs_by_hand(frames[:, i])[1] for i in range(2)], axis=1)
    np.testing.assert_allclose(found, right, atol=1e-5)
    with pytest.raises(UsageError, match="exported for 3 streams"):
        opens(path, CPU, 4)


@pytest.mark.parametrize("opens", OPENERS)
def test_files_that_cannot_be_measured(opens, write_model, tmp_path):
    with pytest.raises(InputFileError, match=r"gone\.onnx: there is no such model file"):
        opens(tmp_path / "gone.onnx", CPU, 1)
    (tmp_path / "damaged.onnx").write_bytes(write_model().read_bytes()[:-40])
    with pytest.raises(InputFileError, match=r"damaged\.onnx: "):
        opens(tmp_path / "damaged.onnx", CPU, 1)
    with pytest.raises(ContractError, match="was not exported by edgeclf"):
        opens(write_model("other.onnx", metadata={}), CPU, 1)


@pytest.mark.parametrize("opens", [open_ort, with_openvino])
def test_files_of_other_kinds_and_of_events_are_not_for_plain_calls(opens, write_events_model, tiny, tmp_path):
    (tmp_path / "a.ts").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputFileError, match=r"a\.ts: this is not an ONNX file"):
        opens(tmp_path / "a.ts", CPU, 1)
    contract = type(tiny)(**vars(tiny) | {"takes": "events", "state": ()})
    path = write_events_model("events.onnx", contract, np.eye(4, dtype=np.float32))
    with pytest.raises((ContractError, InputFileError), match=r"events\.onnx: "):
        opens(path, CPU, 1)


def test_onnx_runtime_is_set_up_as_it_is_by_itself_but_for_its_threads(write_model, monkeypatch):
    made = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, path, options, **others):
            made.append((options, others))
            super().__init__(path, options, **others)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    open_ort(write_model(), DeviceOptions("cpu", threads=3), 1).close()
    (options, others), plain = made[0], onnxruntime.SessionOptions()
    assert options.intra_op_num_threads == 3
    for name in ("inter_op_num_threads", "execution_mode", "graph_optimization_level", "enable_cpu_mem_arena",
                 "enable_mem_pattern", "enable_mem_reuse"):  # fmt: skip
        assert getattr(options, name) == getattr(plain, name)
    for key in ("session.force_spinning_stop", "session.intra_op.allow_spinning"):
        with pytest.raises(RuntimeError):
            options.get_session_config_entry(key)
    assert others["providers"] == [("CPUExecutionProvider", {})]


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there may be CUDA")
def test_cuda_is_not_replaced_by_the_cpu_in_silence(write_model):
    with pytest.raises(
        DeviceError, match=r"CUDAExecutionProvider was asked .* the installed ONNX Runtime has only .*CPUExecution"
    ):
        open_ort(write_model(), DeviceOptions("cuda", threads=1), 1)
    assert open_ort(write_model(), DeviceOptions("auto", threads=1), 1).device == "cpu"
    assert open_ort(write_model(), DeviceOptions("cuda", threads=1, allow_cpu_fallback=True), 1).device == "cpu"


@pytest.mark.parametrize("raises", [True, False])
def test_the_cpu_stands_in_where_cuda_does_not_start(write_model, monkeypatch, raises):
    usual, tried = onnxruntime.InferenceSession, []

    def session(path, options, providers, enable_fallback):
        tried.append(providers[0][0])
        if providers[0][0] == "CUDAExecutionProvider" and raises:
            raise RuntimeError("libcublasLt.so.13: not there")
        return usual(path, options, providers=["CPUExecutionProvider"], enable_fallback=enable_fallback)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    path = write_model()
    assert open_ort(path, DeviceOptions("auto", threads=1), 1).device == "cpu"
    assert tried == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    why = r"does not start \(libcublasLt" if raises else "its session runs without it"
    with pytest.raises(DeviceError, match=rf"CUDAExecutionProvider was asked for .*{why}"):
        open_ort(path, DeviceOptions("cuda", threads=1), 1)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
@pytest.mark.parametrize(
    ("bfloat16", "precision", "hint"), [(False, "fp32", "f32"), (True, "fp32", "bf16"), (False, "int8", "f32")]
)
def test_openvino_s_arithmetic_is_pinned(write_model, monkeypatch, bfloat16, precision, hint):
    from edgeclf_runtime.backends.openvino import import_openvino

    asked = []
    core = import_openvino().Core

    class Core(core):
        def compile_model(self, model, device, settings):
            asked.append((device, settings, model.inputs[0].shape.to_string()))
            return super().compile_model(model, device, settings)

    monkeypatch.setattr(import_openvino(), "Core", Core)
    open_openvino(write_model(precision=precision), DeviceOptions("cpu", threads=2, bfloat16=bfloat16), 2).close()
    ((device, settings, shape),) = asked
    assert (device, shape) == ("CPU", "[2,2,12,16]")
    assert settings["INFERENCE_PRECISION_HINT"] == hint
    assert settings["INFERENCE_NUM_THREADS"] == 2


def test_openvino_is_missing_or_asked_for_cuda(write_model, monkeypatch):
    with pytest.raises(DeviceError, match="OpenVINO is measured on the CPU alone"):
        open_openvino(write_model(), DeviceOptions("cuda"), 1)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError, match=r"OpenVINO is not installed: pip install 'edgeclf\[openvino\]'"):
        open_openvino(write_model(), CPU, 1)
