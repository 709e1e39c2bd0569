"""Models of every format, on devices that are there and that are not; the self-test."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from edgeclf_runtime.backends import Placement
from edgeclf_runtime.machine.providers import CUDA_PROVIDER, start
from edgeclf_runtime.session import Classifier


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such model file"),
        (b"", "not an ONNX model"),
        (b"text\n", "not an ONNX model"),
    ],
)
def test_file_that_is_no_model(edgeclf, tmp_path, recording, content, message):
    if content is not None:
        (tmp_path / "a.onnx").write_bytes(content)
    ended = edgeclf("run-stream", tmp_path / "a.onnx", recording)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.error


def test_folder_as_model(edgeclf, tmp_path, recording):
    ended = edgeclf("run-stream", tmp_path, recording)
    assert ended.code == 2
    assert "this is a folder" in ended.error


def test_model_of_somebody_elses(edgeclf, write_model, recording):
    ended = edgeclf("run-stream", write_model(metadata={}), recording)
    assert ended.code == 2
    assert "was not exported by edgeclf" in ended.error


def test_contract_of_another_version(edgeclf, write_model, tiny, recording):
    document = json.loads(tiny.to_json()) | {"contract_version": 99}
    ended = edgeclf("run-stream", write_model(metadata={"edgeclf": json.dumps(document)}), recording)
    assert ended.code == 2
    assert "its contract is of version 99" in ended.error


def test_model_and_recording_swapped(edgeclf, write_model, recording):
    ended = edgeclf("run-stream", recording, write_model())
    assert ended.code == 2
    assert "not an ONNX model" in ended.error


def test_weights_from_outside_of_the_folder(edgeclf, write_model, recording):
    path = write_model()
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    path.write_bytes(model.SerializeToString())
    ended = edgeclf("run-stream", path, recording)
    assert (ended.code, ended.out) == (2, "")
    assert "wants its weights read from '../secret', which leads out of the model's folder" in ended.error


def test_model_whose_memory_a_server_keeps(edgeclf, write_model, recording, tmp_path):
    (tmp_path / "triton" / "tiny" / "1").mkdir(parents=True)
    path = write_model("triton/tiny/1/model.onnx", keep_memory=False)
    for given in (path, path.parents[1]):
        ended = edgeclf("run-stream", given, recording)
        assert (ended.code, ended.out) == (2, "")
        assert "for programs without edgeclf: it takes a server that keeps its state" in ended.error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "suffix", "package"),
    [("torchscript", "ts", "torch"), ("openvino", "xml", "openvino")],
)
def test_every_format_says_the_same(edgeclf, tmp_path, format, suffix, package, lines_of):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    samples = Path(__file__).parents[3] / "samples"
    given = ["--format", "onnx", "--format", format]
    assert edgeclf("export", samples / "gestures.ckpt", tmp_path, *given).code == 0
    plain, other = (
        edgeclf("run-stream", tmp_path / f"gestures.{name}", samples / "gestures.raw", samples / "gestures.raw")
        for name in ("onnx", suffix)
    )
    assert other.code == 0
    expected, found = lines_of(plain.out), lines_of(other.out)
    assert len(expected) == 186
    for one, another in zip(expected, found, strict=True):
        assert another["probabilities"] == pytest.approx(one["probabilities"], abs=1e-4)
        assert [another[name] for name in ("stream", "frame", "t_us", "label")] == [
            one[name] for name in ("stream", "frame", "t_us", "label")
        ]


# Devices.


@pytest.fixture
def only_the_cpu(monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])


@pytest.mark.usefixtures("only_the_cpu")
@pytest.mark.parametrize("options", [["--device", "cuda"], ["--provider", "NoSuchExecutionProvider"]])
def test_device_that_is_not_there(edgeclf, write_model, recording, options, lines_of, without_latency):
    model = write_model()
    ended = edgeclf("run-stream", model, recording, *options)
    assert (ended.code, ended.out) == (1, "")
    name = "CUDA" if options[1] == "cuda" else options[1]
    assert ended.error.startswith(f"{name} was asked for and is not to be had: ")
    assert "--device cpu" in ended.error
    assert "--allow-cpu-fallback" in ended.error
    allowed = edgeclf("run-stream", model, recording, *options, "--allow-cpu-fallback")
    assert allowed.code == 0
    assert f"Warning: Running on the CPU, as the fallback was allowed: {name} is not to be had: " in allowed.err
    plain = edgeclf("run-stream", model, recording, "--device", "cpu")
    assert without_latency(lines_of(allowed.out)) == without_latency(lines_of(plain.out))


def test_device_and_provider_are_one_choice(edgeclf, write_model, recording):
    ended = edgeclf("run-stream", write_model(), recording, "--device", "cpu", "--provider", "CPUExecutionProvider")
    assert (ended.code, ended.out) == (2, "")
    assert "a device (cpu) were both asked for; give one." in ended.error


def test_provider_by_name(edgeclf, write_model, recording):
    ended = edgeclf("run-stream", write_model(), recording, "--provider", "CPUExecutionProvider", "--threads", 1)
    assert (ended.code, ended.out.count("\n")) == (0, 6)
    assert " on cpu, " in ended.err


def test_nodes_that_fell_to_the_cpu_are_told(edgeclf, write_model, recording, monkeypatch):
    load = Classifier.load

    def partly(*given, **options):
        classifier = load(*given, **options)
        classifier.device = "cuda"
        names = ("CUDAExecutionProvider", "CPUExecutionProvider")
        classifier.placement = Placement(names, dict(zip(names, (12, 3), strict=True)), {"Shape": 2, "Gather": 1})
        return classifier

    monkeypatch.setattr(Classifier, "load", partly)
    ended = edgeclf("run-stream", write_model(), recording)
    assert ended.code == 0
    assert (
        "Warning: Not all of the model runs on cuda: CUDAExecutionProvider (12 nodes), CPUExecutionProvider (3 nodes); "
        "on the CPU: Shape (2), Gather (1).\n"
    ) in ended.err


@pytest.mark.gpu
def test_cuda_says_what_the_cpu_does(edgeclf, write_model, recording, tensors, lines_of):
    try:
        start(CUDA_PROVIDER)
    except Exception as error:  # of no narrower class: ONNX Runtime's own have no public base
        pytest.skip(f"no CUDA provider starts here: {error}")
    model = write_model()
    given = ["run-stream", model, recording, tensors, "--memory", "every:3"]
    plain, found = (lines_of(edgeclf(*given, "--device", device).out) for device in ("cpu", "cuda"))
    assert len(found) == 10
    for one, other in zip(plain, found, strict=True):
        assert other["probabilities"] == pytest.approx(one["probabilities"], abs=1e-4)
        assert (other["stream"], other["frame"], other["reset"]) == (one["stream"], one["frame"], one["reset"])


# The self-test.


def test_self_test_alone(edgeclf, write_model, tmp_path):
    ended = edgeclf(
        "run-stream", write_model(vectors=True), "--self-test", "--device", "cpu", "--json", tmp_path / "a.json"
    )
    assert (ended.code, ended.out) == (0, "")
    lines = ended.err.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [
        "output", "logits", "probabilities", "next_state.acc", "next_state.conv.last", "tolerance",
    ]  # fmt: skip
    assert lines[-1] == "golden vectors: passed, 6 steps, the same class named for 100.00% of the frames"
    document = json.loads((tmp_path / "a.json").read_text())
    assert list(document) == ["device", "self_test"]
    assert (document["device"], document["self_test"]["passed"]) == ("cpu", True)
    assert document["self_test"]["outputs"]["logits"]["max_absolute"] < 1e-5


def test_self_test_alone_on_standard_output(edgeclf, write_model):
    ended = edgeclf("run-stream", write_model(vectors=True), "--self-test", "-q", "--json", "-")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["self_test"]["passed"] is True


def test_self_test_before_streaming(edgeclf, write_model, recording, tmp_path, lines_of, without_latency):
    path = write_model(vectors=True)
    plain = without_latency(lines_of(edgeclf("run-stream", path, recording).out))
    ended = edgeclf("run-stream", path, recording, "--self-test", "--json", tmp_path / "a.json")
    assert ended.code == 0
    assert without_latency(lines_of(ended.out)) == plain
    assert "golden vectors: passed" in ended.err
    summary = json.loads((tmp_path / "a.json").read_text())
    assert (summary["frames"], summary["self_test"]["passed"]) == (6, True)


@pytest.mark.parametrize("streams", [True, False])
def test_self_test_that_fails(edgeclf, write_model, vectors_by_hand, tiny, recording, tmp_path, streams):
    vectors = vectors_by_hand(tiny)
    vectors["logits"] = vectors["logits"] + 0.01
    path = write_model(vectors=vectors)
    given = [recording] if streams else []
    ended = edgeclf("run-stream", path, *given, "--self-test", "--json", tmp_path / "a.json")
    assert (ended.code, ended.out) == (1, "")
    assert f"{path}: on this machine it does not compute what it did where it was exported: logits" in ended.error
    assert "golden vectors: not passed" in ended.err
    assert json.loads((tmp_path / "a.json").read_text())["self_test"]["passed"] is False


def test_self_test_sees_memory_that_does_not_change(edgeclf, write_model):
    # A graph whose state is passed on unchanged.
    path = write_model(vectors=True)
    model = onnx.load(path)
    node = next(node for node in model.graph.node if node.output[0] == "next_state.acc")
    node.output[0] = "computed"
    for other in model.graph.node:
        other.input[:] = ["computed" if name == "next_state.acc" else name for name in other.input]
    model.graph.node.append(onnx.helper.make_node("Identity", ["acc"], ["next_state.acc"]))
    onnx.save(model, path)
    ended = edgeclf("run-stream", path, "--self-test")
    assert ended.code == 1
    assert "next_state.acc differs by" in ended.error


def test_self_test_without_golden_vectors(edgeclf, write_model, recording, tmp_path):
    ended = edgeclf("run-stream", write_model(), recording, "--self-test")
    assert (ended.code, ended.out) == (2, "")
    assert "was exported without golden vectors" in ended.error
    path = write_model(vectors=True)
    (tmp_path / "tiny.golden.npz").unlink()
    ended = edgeclf("run-stream", path, "--self-test")
    assert (ended.code, ended.out) == (2, "")
    assert "tiny.golden.npz: the model's golden vectors cannot be read" in ended.error


def test_self_test_of_a_model_for_a_server(edgeclf, write_model, recording):
    path = write_model(keep_memory=False, vectors=True)
    assert edgeclf("run-stream", path, "--self-test").code == 0
    ended = edgeclf("run-stream", path, recording, "--self-test")
    assert (ended.code, ended.out) == (2, "")
    assert "for programs without edgeclf" in ended.error


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_self_test_needs_no_torch(write_model, device):
    arguments = ["edgeclf", "run-stream", str(write_model(vectors=True)), "--self-test", "--device", device]
    script = (
        "import sys; sys.modules |= dict.fromkeys(['torch', 'onnx', 'lightning', 'matplotlib']); "
        f"sys.argv = {arguments!r}; "
        "from edgeclf.cli import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "golden vectors: passed" in ended.stderr
