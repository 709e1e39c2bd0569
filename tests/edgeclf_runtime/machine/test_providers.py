from __future__ import annotations

import os
import signal
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from edgeclf_runtime.machine import providers
from edgeclf_runtime.machine.providers import CPU_PROVIDER, RuntimeReport, first_line, one_node_graph, probe_runtime


def test_the_graph_is_one_convolution_that_adds_up():
    model = onnx.load_from_string(one_node_graph())
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    x = np.random.default_rng(0).normal(size=(1, 1, 3, 3)).astype(np.float32)
    (output,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert output.shape == (1, 1, 1, 1)
    assert output.item() == pytest.approx(x.sum(), rel=1e-5)


def test_what_is_listed_here_and_starts():
    report = probe_runtime()
    assert report.error is None
    assert report.build == f"{onnxruntime.package_name} {onnxruntime.__version__}"
    assert list(report.providers) == onnxruntime.get_available_providers()
    assert report.starts(CPU_PROVIDER)


def test_a_provider_that_is_not_built_in_does_not_start():
    with pytest.raises(Exception, match="is not in available provider names"):
        providers.start("CUDAExecutionProvider" if onnxruntime.get_device() == "CPU" else "XnnpackExecutionProvider")


@pytest.fixture
def fake_runtime(tmp_path, monkeypatch):
    """Puts a module `onnxruntime` of one's own before the installed one, for child processes."""

    def write(text: str) -> None:
        (tmp_path / "onnxruntime.py").write_text(text)
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    return write


FAKE = """
import os, sys, time
__version__ = "1.31.1"
package_name = "onnxruntime-gpu"
def get_available_providers():
    print("what a library prints")
    return ["A", "B", "C", "D", "E"]
class SessionOptions:
    def add_session_config_entry(self, name, value):
        assert (name, value) == ("session.disable_cpu_ep_fallback", "1")
def preload_dlls():
    print("Failed to load libcublas.so.13")
class InferenceSession:
    def __init__(self, graph, options, providers, enable_fallback):
        assert enable_fallback == 0
        (self.provider,) = providers
        if self.provider == "B":
            print("2026 [E:onnxruntime:Default, a.cc:1] FAIL : Failed to load library /a/b.so with error: libc.so.13: "
                  "cannot open shared object file: No such file or directory", file=sys.stderr)
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : no provider")
        if self.provider == "C":
            raise RuntimeError("[ONNXRuntimeError] : 11 : EP_FAIL : the device is of another make.")
        if self.provider == "D":
            os.abort()
    def get_providers(self):
        return ["CPUExecutionProvider"] if self.provider == "E" else [self.provider]
    def run(self, outputs, inputs):
        return [inputs["x"].sum(keepdims=True)]
"""


@pytest.mark.skipif(os.name == "nt", reason="no process is ended by a signal there")
def test_every_way_not_to_start_is_told(fake_runtime):
    fake_runtime(FAKE)
    assert probe_runtime() == RuntimeReport(
        "onnxruntime-gpu 1.31.1",
        {
            "A": None,
            "B": "libc.so.13: cannot open shared object file: No such file or directory",
            "C": "the device is of another make",
            "D": f"it ends its process ({signal.SIGABRT.name})",
            "E": "its session runs without it",
        },
    )


def test_a_provider_that_computes_something_else(fake_runtime):
    fake_runtime(FAKE.replace('inputs["x"].sum', 'inputs["x"].max').replace('["A", "B", "C", "D", "E"]', '["A"]'))
    assert probe_runtime().providers == {"A": "it computes 8.0 where 36 is right"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("raise ImportError('libA.so: cannot open shared object file')", "libA.so: cannot open shared object file"),
        ("import os; os.kill(os.getpid(), 4)", "it ends its process (SIGILL)"),
        ("import time; time.sleep(60)", "it does not answer within 0.5 s"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="no process is ended by a signal there")
def test_a_runtime_that_cannot_be_imported(fake_runtime, text, error):
    fake_runtime(text)
    assert probe_runtime(0.5 if "sleep" in text else 60.0) == RuntimeReport(None, {}, error)


def test_what_lies_in_the_current_folder_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit(3)")
    (tmp_path / "json.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert probe_runtime().starts(CPU_PROVIDER)


def test_what_an_error_of_onnx_runtime_says_is_its_first_line():
    assert first_line(RuntimeError("it is broken.\nand where")) == "it is broken"
    assert first_line(MemoryError()) == "MemoryError"
