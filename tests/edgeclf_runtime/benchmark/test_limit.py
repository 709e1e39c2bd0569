from __future__ import annotations

import importlib
import pickle
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import scipy.signal

from edgeclf_runtime.backends import DeviceOptions
from edgeclf_runtime.benchmark import limit
from edgeclf_runtime.benchmark.limit import (
    CONVOLUTION,
    PRODUCT,
    NumpyProduct,
    OnnxProduct,
    Work,
    is_probe,
    limits,
    probes,
    with_shares,
)
from edgeclf_runtime.benchmark.macs import multiply_adds
from edgeclf_runtime.benchmark.results import Latencies, Limit, Result, Setting
from edgeclf_runtime.errors import DeviceError, UsageError
from edgeclf_runtime.machine.cores import usable_processors

CPU = DeviceOptions("cpu", threads=1)
CONV = Work("conv", 5, 7)
MATRICES = Work("product", 12)
FRAMES = np.zeros((1, 2, 4, 4), np.float32)


def by_scipy(work: Work) -> np.ndarray:
    x, w = (value.astype(np.float64) for value in work.data())
    if work.kind == "product":
        return np.einsum("ik,kj->ij", x, w)
    return np.array(
        [[sum(scipy.signal.correlate(x[0, c], kernel[c], "same") for c in range(work.size)) for kernel in w]]
    )


@pytest.mark.parametrize("work", [CONV, MATRICES])
def test_it_computes_what_it_says(tmp_path, work):
    _, weights = work.data()
    path = tmp_path / "work.onnx"
    path.write_bytes(work.graph(weights))
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert multiply_adds(path) == work.macs
    with OnnxProduct(work, CPU) as opened:
        assert opened.device == "cpu"
        assert opened.step(FRAMES).shape == (1, 0)
        np.testing.assert_allclose(opened.output(), by_scipy(work), rtol=1e-5)
        opened.reset()


def test_numpy_computes_it_too_in_as_many_threads():
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def threads():
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}

    before = threads()
    with NumpyProduct(MATRICES, 3) as opened:
        assert threads() == {3}
        assert opened.step(FRAMES).shape == (1, 0)
        np.testing.assert_allclose(opened.output(), by_scipy(MATRICES), rtol=1e-5)
        opened.reset()
    assert threads() == before
    with pytest.raises(UsageError, match="NumPy has no convolution"):
        NumpyProduct(CONV, 1)


def test_no_number_is_one_that_a_processor_is_faster_or_slower_with():
    for value in CONV.data():
        assert ((value >= 0.5) & (value <= 1.5)).all()
        assert np.unique(value).size > value.size / 2


def test_the_probes_of_the_cpu():
    found = probes(DeviceOptions("cpu", threads=7, spinning="always"), 1)
    assert [(one.setting.model, one.setting.backend) for one in found] == [
        (CONVOLUTION, "ort"),
        (PRODUCT, "ort"),
        (PRODUCT, "numpy"),
    ]
    for one in found:
        assert one.setting == Setting(one.setting.model, one.setting.backend, "cpu", "fp32", 1)
        assert is_probe(one.setting)
        assert one.macs is not None
        assert one.macs > 1e8
        opens = pickle.loads(pickle.dumps(one.opens))
        with opens() as opened:
            assert opened.device == "cpu"
            opened.step(FRAMES)
    # As the models run, but for the threads.
    assert found[0].opens.args[1] == DeviceOptions("cpu", threads=1, spinning="always")
    assert not is_probe(Setting("gestures", "ort", "cpu", "fp32", 1))


def test_other_devices_get_more_to_do():
    by_name = probes(DeviceOptions("cuda"), 2)
    by_provider = probes(DeviceOptions(provider="TensorrtExecutionProvider"), 2)
    for found, device in ((by_name, "cuda"), (by_provider, "TensorrtExecutionProvider")):
        assert [(one.setting.backend, one.setting.device) for one in found] == [("ort", device)] * 2
        assert min(one.macs or 0 for one in found) > 1e9


def test_many_cores_get_more_to_do():
    few, many = (probes(CPU, threads) for threads in (8, 9))
    assert min(one.macs or 0 for one in many) > max(one.macs or 0 for one in few)


def test_other_providers_that_compute_on_the_cpu_do_not():
    found = probes(DeviceOptions(provider="OpenVINOExecutionProvider"), 2)
    assert [(one.setting.backend, one.setting.device) for one in found] == [("ort", "OpenVINOExecutionProvider")] * 2
    assert max(one.macs or 0 for one in found) < 1e9
    cpu = probes(DeviceOptions(provider="CPUExecutionProvider"), usable_processors())
    assert [(one.setting.backend, one.setting.device) for one in cpu] == [(b, "cpu") for b in ("ort", "ort", "numpy")]


@pytest.mark.parametrize("listed", [True, False])
def test_whatever_there_is(monkeypatch, listed):
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"][0 if listed else 1 :]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    found = probes(DeviceOptions(), usable_processors())
    assert {one.setting.device for one in found} == ({"auto"} if listed else {"auto", "cpu"})
    assert (min(one.macs or 0 for one in found) > 1e9) == listed


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(DeviceError, match="was asked for and is not to be had"):
        OnnxProduct(CONV, DeviceOptions(provider="XnnpackExecutionProvider"))


@pytest.mark.parametrize("has", [[], [{"user_api": "openmp"}]])
def test_numpy_is_left_out_where_it_would_use_more_threads(monkeypatch, has):
    monkeypatch.setattr(limit, "usable_processors", lambda: 4)

    class Threadpools:
        @staticmethod
        def threadpool_info():
            return has

    usual = importlib.import_module

    def import_module(name):
        if name != "threadpoolctl":
            return usual(name)
        if not has:
            raise ModuleNotFoundError(name)
        return Threadpools

    monkeypatch.setattr(importlib, "import_module", import_module)
    assert [one.setting.backend for one in probes(CPU, 3)] == ["ort", "ort"]
    assert [one.setting.backend for one in probes(CPU, 4)] == ["ort", "ort", "numpy"]


def row(setting: Setting, p50_us: float, bursts: list[list[float]], macs: int | None) -> Result:
    latencies = Latencies(10, p50_us, p50_us, p50_us, p50_us, p50_us, (10,), (1, 2), bursts)
    return Result(setting, latencies, 1.0, 1.0, 1.0, 1.0, 1.0, macs=macs)


def test_limits_and_shares():
    conv, product = (Setting(name, "ort", "cpu", "fp32", 1) for name in (CONVOLUTION, PRODUCT))
    model = Setting("gestures", "edgeclf", "cpu", "fp32", 1)
    results = [
        row(conv, 100, [[100, 90], [80, 120]], 4_000_000),  # 50 000 multiply-adds a µs in its fastest burst
        row(product, 100, [[100, 200], [100, 125]], 4_500_000),  # 45 000
        row(replace(product, backend="numpy", threads=2), 100, [[100]], 9_000_000),
        row(model, 200, [[150], [250]], 2_000_000),
        row(replace(model, streams=4, pace="paced"), 200, [[200]], 2_000_000),
        row(replace(model, threads=2), 200, [[1]], 9_000_000),
        row(replace(model, device="cuda"), 200, [[1]], 2_000_000),
        row(replace(model, precision="int8"), 200, [[1]], 2_000_000),
        row(replace(model, backend="eager"), 200, [[1]], None),
    ]
    found = limits(results)
    assert found == [Limit("cpu", 1, 50.0, "ort conv 3×3"), Limit("cpu", 2, 90.0, "numpy matrix product")]
    shared = with_shares(results, found)
    shares = [result.share_of_limit for result in shared]
    assert shares[:6] == pytest.approx([0.8, 0.9, 1.0, 0.2, 0.8, 0.5], rel=1e-12)
    assert shares[6:] == [None, None, None]
    assert [replace(result, share_of_limit=None) for result in shared] == results
    assert limits(results[3:]) == []
