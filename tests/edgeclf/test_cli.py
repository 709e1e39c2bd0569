from __future__ import annotations

import errno
import importlib.metadata
import subprocess
import sys

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from edgeclf import cli as module
from edgeclf.cli import COMMANDS, CommandEntry, cli, main
from edgeclf_runtime.contract import METADATA_KEY, Contract
from edgeclf_runtime.errors import CheckFailedError, ContractError, EdgeclfError

# A process in which these packages are not installed; what is loaded at its end comes after the output.
DEVICE = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NotInstalled())
sys.argv = ["edgeclf", *{arguments!r}]
from edgeclf.cli import main
try:
    main()
finally:
    print("LOADED", *sorted(name for name in sys.modules if "." not in name))
"""
WORKSTATION_ONLY = ["torch", "lightning", "torchmetrics", "matplotlib", "onnx", "onnxscript"]


def on_a_device(*arguments, blocked=WORKSTATION_ONLY):
    script = DEVICE.format(blocked=blocked, arguments=[str(argument) for argument in arguments])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    out, _, loaded = done.stdout.rpartition("LOADED ")
    return done.returncode, out, done.stderr, loaded.split()


@pytest.fixture
def edgeclf(monkeypatch, capsys):
    """Runs the entry point; returns exit code, standard output and standard error."""
    monkeypatch.setattr(module, "start_logging", lambda: None)  # it would stay for the tests that follow

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["edgeclf", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def added(monkeypatch):
    """Adds a command to the command line: `edgeclf added`."""

    def add(command):
        monkeypatch.setattr(module, "_added_by_test", command, raising=False)
        monkeypatch.setitem(COMMANDS, "added", CommandEntry("edgeclf.cli:_added_by_test", "Added.", "train"))

    return add


# Without what only the workstation has.


def test_help_loads_no_command():
    code, out, err, loaded = on_a_device("--help", blocked=[*WORKSTATION_ONLY, "onnxruntime", "h5py", "numpy"])
    assert (code, err) == (0, "")
    assert "edgeclf_export" not in loaded
    for name, entry in COMMANDS.items():
        assert f"  {name} " in out
        assert entry.summary.split()[0] in out


@pytest.mark.parametrize("name", ["run-stream", "inspect", "doctor"])
def test_help_of_the_devices_commands(name):
    code, out, err, loaded = on_a_device(name, "--help")
    assert (code, err) == (0, "")
    assert f"Usage: edgeclf {name}" in out
    assert not set(loaded) & {*WORKSTATION_ONLY, "edgeclf_export"}


def test_run_stream_and_inspect_on_a_device(tmp_path):
    # The model is made in this process, where onnx is.
    from onnx import TensorProto, helper

    from edgeclf_runtime.contract import Contract

    contract = Contract("Tiny", ("background", "a"), 10_000, "histo", {}, None, (2, 4, 4), (), "float32", 17)
    nodes = [
        helper.make_node("ReduceMean", ["frames"], ["logits"], axes=[2, 3], keepdims=0),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
        for name, shape in (("frames", (2, 4, 4)), ("logits", (2,)), ("probabilities", (2,)))
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "step", values[:1], values[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(model, {"edgeclf": contract.to_json()})
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    header = b"% Version 2\n% Width 4\n% Height 4\n\x0c\x08"
    (tmp_path / "a.dat").write_bytes(header + np.array([[5, 0], [10_005, 1]], "<u4").tobytes())

    code, out, err, loaded = on_a_device("run-stream", tmp_path / "a.onnx", tmp_path / "a.dat", "-q")
    assert (code, err) == (0, "")
    assert out.count('{"stream": 0') == 2
    assert not set(loaded) & {*WORKSTATION_ONLY, "edgeclf_export"}
    assert "onnxruntime" in loaded
    code, out, err, _ = on_a_device("inspect", tmp_path / "a.onnx")
    assert (code, err) == (0, "")
    assert "background, a" in out


@pytest.mark.parametrize(("name", "extra"), [("train", "train"), ("test", "train"), ("export", "export")])
@pytest.mark.parametrize("arguments", [["--help"], ["a", "b"], []])
def test_command_of_the_workstation_names_its_extra(name, extra, arguments):
    code, out, err, _ = on_a_device(name, *arguments)
    assert (code, out) == (1, "")
    # Which package is missed first is not what matters.
    package = err.split("needs the package ")[1].split(",")[0]
    assert package in WORKSTATION_ONLY
    assert err == (
        f"Error: `edgeclf {name}` needs the package {package}, which is not installed: "
        f"pip install 'edgeclf[{extra}]'.\n"
    )


def test_device_without_onnx_runtime(tmp_path):
    model = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    contract = Contract(
        "ConvRNNClassifier", ("background", "a"), 10_000, "histo", {}, None, (2, 48, 48), (), "fp32", 18
    )
    onnx.helper.set_model_props(model, {METADATA_KEY: contract.to_json()})
    onnx.save(model, tmp_path / "a.onnx")
    code, out, err, _ = on_a_device("run-stream", tmp_path / "a.onnx", "--self-test", blocked=["onnxruntime"])
    assert (code, out) == (1, "")
    assert err.startswith("Error: ONNX Runtime is not installed: pip install 'edgeclf[cpu]'")
    assert err.count("\n") == 1


# Every command.


def commands():
    """Every command and subcommand by its words."""
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            yield from (([name, sub], command.commands[sub]) for sub in command.commands)
        else:
            yield [name], command


def test_names_that_scripts_rely_on():
    assert {
        "demo",
        "dataset",
        "train",
        "test",
        "export",
        "inspect",
        "run-stream",
        "parity",
        "doctor",
    } <= COMMANDS.keys()
    assert {" ".join(words) for words, _ in commands()} >= {"dataset synth", "dataset nmnist", "dataset events"}


def test_every_command_is_what_it_says():
    for words, command in commands():
        assert command.name == words[-1]
        names = {option for parameter in command.params for option in parameter.opts}
        assert {"-q", "--quiet", "-v", "--verbose"} <= names, words
        result = CliRunner().invoke(cli, [*words, "--help"])
        assert result.exit_code == 0
        assert f"Example: edgeclf {' '.join(words)} " in " ".join(result.stdout.split()), words


def test_extras_are_the_distributions():
    extras = set(importlib.metadata.metadata("edgeclf").get_all("Provides-Extra"))
    assert {entry.extra for entry in COMMANDS.values()} <= extras


def test_summaries_fit_a_line():
    result = CliRunner().invoke(cli, ["--help"], terminal_width=100)
    assert result.exit_code == 0
    for name, entry in COMMANDS.items():
        assert any(line.split() == [name, *entry.summary.split()] for line in result.stdout.splitlines())


# How it ends.


def test_version(edgeclf):
    code, out, _ = edgeclf("--version")
    assert code == 0
    assert importlib.metadata.version("edgeclf") in out


@pytest.mark.parametrize("arguments", [["no-such-command"], ["inspect"], ["inspect", "a", "--no-such-option"]])
def test_wrong_usage(edgeclf, arguments):
    code, out, err = edgeclf(*arguments)
    assert (code, out) == (2, "")
    assert err.count("Error: ") == 1
    assert "Usage: edgeclf" in err


@pytest.mark.parametrize("error", [EdgeclfError, CheckFailedError, ContractError])
def test_error_is_one_sentence_and_its_exit_code(edgeclf, added, error):
    @click.command("added")
    def fails():
        click.echo("until then")
        raise error("a.onnx: this is wrong; do that.")

    added(fails)
    assert edgeclf("added") == (error.exit_code, "until then\n", "Error: a.onnx: this is wrong; do that.\n")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "Full"), "the operating system refused to go on (Full)."),
        (PermissionError(errno.EACCES, "Denied", "a.h5"), "a.h5: the operating system refused to go on (Denied)."),
    ],
)
def test_error_of_the_operating_system(edgeclf, added, error, sentence):
    @click.command("added")
    def fails():
        raise error

    added(fails)
    assert edgeclf("added") == (1, "", f"Error: {sentence}\n")


@pytest.mark.parametrize("error", [ValueError("bug"), OSError("bug"), ModuleNotFoundError("bug", name="torch")])
def test_bug_stays_what_it_is(monkeypatch, added, error):
    @click.command("added")
    def fails():
        raise error

    added(fails)
    monkeypatch.setattr(module, "start_logging", lambda: None)
    monkeypatch.setattr(sys, "argv", ["edgeclf", "added"])
    with pytest.raises(type(error), match="bug"):
        main()


def test_module_of_our_own_that_is_missing_is_a_bug(monkeypatch):
    monkeypatch.setitem(COMMANDS, "broken", CommandEntry("edgeclf.commands.no_such:command", "Broken.", "train"))
    with pytest.raises(ModuleNotFoundError, match="no_such"):
        cli.get_command(click.Context(cli), "broken")
