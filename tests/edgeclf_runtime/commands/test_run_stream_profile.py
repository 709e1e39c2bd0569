"""`run-stream --profile`: the model and where it runs come from a file."""

from __future__ import annotations

import json

import pytest

from edgeclf_runtime.backends import DeviceOptions
from edgeclf_runtime.commands import run_stream as command
from edgeclf_runtime.profile import write_profile


@pytest.fixture
def profile(write_model, tmp_path):
    """The profile of a model in another folder, with golden vectors beside it."""

    def write(options=DeviceOptions("cpu", threads=1), **model):  # noqa: B008 - frozen
        path = tmp_path / "profile.json"
        write_profile(path, write_model(vectors=True, **model), options, {"p50_us": 5})
        return path

    return write


@pytest.fixture
def opened(monkeypatch):
    """The paths and device options of what the command opens."""
    seen = []

    class Classifier(command.Classifier):
        @classmethod
        def load(cls, path, *rest, options=None, **given):
            seen.append((path, options))
            return super().load(path, *rest, options=DeviceOptions("cpu"), **given)

    monkeypatch.setattr(command, "Classifier", Classifier)
    return seen


def test_runs_as_with_the_model_named(edgeclf, profile, write_model, recording, tensors, lines_of, without_latency):
    ended = edgeclf("run-stream", "--profile", profile(), recording, tensors)
    named = edgeclf("run-stream", write_model(vectors=True), recording, tensors)
    assert (ended.code, named.code) == (0, 0)
    lines = without_latency(lines_of(ended.out))
    assert len(lines) == 10
    assert lines == without_latency(lines_of(named.out))


def test_options_come_from_the_profile(edgeclf, profile, tmp_path, recording, opened):
    options = DeviceOptions(threads=3, provider="X", provider_options={"a": "1"}, bfloat16=True)
    assert edgeclf("run-stream", recording, "--profile", profile(options)).code == 0
    assert opened == [(str(tmp_path / "tiny.onnx"), options)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--threads", "1"], DeviceOptions(threads=1, provider="X", provider_options={"a": "1"})),
        (["--device", "cpu"], DeviceOptions("cpu", threads=3)),
        (["--device", "auto"], DeviceOptions("auto", threads=3)),
        (["--provider", "Y"], DeviceOptions(threads=3, provider="Y")),
        (["--provider-option", "b=2"], DeviceOptions(threads=3, provider="X", provider_options={"a": "1", "b": "2"})),
        (["--provider-option", "a=2"], DeviceOptions(threads=3, provider="X", provider_options={"a": "2"})),
        (["--device", "cuda", "--provider-option", "b=2"], DeviceOptions("cuda", 3, provider_options={"b": "2"})),
        (
            ["--bfloat16", "--tf32", "--allow-cpu-fallback"],
            DeviceOptions(
                threads=3, provider="X", provider_options={"a": "1"}, bfloat16=True, tf32=True, allow_cpu_fallback=True
            ),
        ),
    ],
)
def test_what_is_given_goes_before_the_profile(edgeclf, profile, recording, opened, given, expected):
    before = DeviceOptions(threads=3, provider="X", provider_options={"a": "1"})
    assert edgeclf("run-stream", recording, "--profile", profile(before), *given).code == 0
    assert [options for _, options in opened] == [expected]


def test_provider_takes_the_place_of_the_device(edgeclf, profile, recording, opened):
    assert edgeclf("run-stream", recording, "--profile", profile(), "--provider", "Y").code == 0
    assert [options for _, options in opened] == [DeviceOptions(threads=1, provider="Y")]


def test_self_test_alone(edgeclf, profile):
    ended = edgeclf("run-stream", "--profile", profile(), "--self-test", "--json", "-")
    assert ended.code == 0
    document = json.loads(ended.out)
    assert (document["device"], document["self_test"]["passed"]) == ("cpu", True)


def test_nothing_to_run(edgeclf, profile):
    ended = edgeclf("run-stream", "--profile", profile())
    assert (ended.code, ended.out) == (2, "")
    assert "There is no SOURCE" in ended.error


def test_model_named_besides(edgeclf, profile, tmp_path, recording):
    ended = edgeclf("run-stream", "--profile", profile(), tmp_path / "tiny.onnx", recording)
    assert ended.code == 2
    assert "this is the profile's model already; with --profile give recordings alone" in ended.error


def test_no_model(edgeclf):
    ended = edgeclf("run-stream")
    assert ended.code == 2
    assert "Missing argument 'MODEL'" in ended.error
    assert "[MODEL] [SOURCE]..." in ended.err


def test_profile_of_a_model_that_has_changed(edgeclf, profile, write_model, recording):
    path = profile()
    write_model(delta_t=20_000)
    ended = edgeclf("run-stream", "--profile", path, recording)
    assert (ended.code, ended.out) == (2, "")
    assert ended.error.startswith(f"{path}: its model ")


def test_profile_of_another_processor_runs_and_says_so(edgeclf, profile, recording, lines_of):
    path = profile()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"measured": {"processor": "Z80"}}))
    ended = edgeclf("run-stream", "--profile", path, recording)
    assert (ended.code, len(lines_of(ended.out))) == (0, 6)
    assert f"Warning: {path}: it was measured on another processor (Z80, and this is " in ended.err


def test_results_never_overwrite_the_profile(edgeclf, profile, tmp_path, recording):
    path = profile()
    for target in (path, tmp_path / "tiny.onnx"):
        before = target.read_bytes()
        ended = edgeclf("run-stream", "--profile", path, recording, "--output", target)
        assert ended.code == 2
        assert "this would overwrite what is read" in ended.error
        assert target.read_bytes() == before
