"""The command line `edgeclf`. Each command is loaded when it is asked for, so a device needs no torch."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass

import click

from edgeclf_runtime.console import start_logging
from edgeclf_runtime.errors import EdgeclfError, MissingPackageError


@dataclass(frozen=True)
class CommandEntry:
    """Where a command lives, and what must be installed for it.

    Attributes:
        target: `module:name` of the click command.
        summary: One line for `edgeclf --help`, so that listing the commands loads none of them.
        extra: The extra of the distribution that brings what it imports.
    """

    target: str
    summary: str
    extra: str


COMMANDS: dict[str, CommandEntry] = {
    "demo": CommandEntry(
        "edgeclf_export.commands.demo:demo",
        "The main job on what the project ships, in under a minute.",
        "export",
    ),
    "dataset": CommandEntry(
        "edgeclf.commands.dataset:dataset",
        "Make data sets: synthetic, N-MNIST, or of your recordings.",
        "train",
    ),
    "train": CommandEntry("edgeclf.commands.train:train", "Train a classifier on a data set.", "train"),
    "test": CommandEntry("edgeclf.commands.test:test", "KPIs of a checkpoint on a data set.", "train"),
    "export": CommandEntry(
        "edgeclf_export.commands.export:export",
        "Export a checkpoint to ONNX or TorchScript, validated.",
        "export",
    ),
    "inspect": CommandEntry(
        "edgeclf_runtime.commands.inspect:inspect", "The contract inside an exported model.", "cpu"
    ),
    "run-stream": CommandEntry(
        "edgeclf_runtime.commands.run_stream:run_stream", "Streaming inference on recordings.", "cpu"
    ),
    "bench": CommandEntry(
        "edgeclf_export.commands.bench:bench", "How fast a model is here, beside other ways to run it.", "cpu"
    ),
    "parity": CommandEntry(
        "edgeclf_export.commands.parity:parity", "KPIs of an exported model beside PyTorch's.", "export"
    ),
    "doctor": CommandEntry(
        "edgeclf_runtime.commands.doctor:doctor", "What this machine can run, and how to mend the rest.", "cpu"
    ),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Returns the commands' names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Returns a command, imported now; None where there is none of that name.

        Raises:
            MissingPackageError: Where a package that it needs is not installed.
        """
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, name = entry.target.split(":")
        try:
            command = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0].startswith("edgeclf"):
                raise
            # Neither `train` nor `export` brings ONNX Runtime: which of its builds is right, only the user knows.
            extra = "cpu" if error.name == "onnxruntime" else entry.extra
            raise MissingPackageError(
                f"`edgeclf {cmd_name}` needs the package {error.name}, which is not installed: "
                f"pip install 'edgeclf[{extra}]'."
            ) from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Writes the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="edgeclf")
def cli() -> None:
    """Train event-camera classifiers, export them, run them on a device.

    Example: edgeclf run-stream model.onnx recording.raw --output predictions.jsonl
    """


def main() -> None:
    """Runs the command line; an `EdgeclfError` becomes one sentence and its exit code, and so does a full disk."""
    start_logging()
    try:
        cli.main(prog_name="edgeclf")
    except EdgeclfError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.strerror is None:
            raise  # not the operating system's: one of ours
        where = "" if error.filename is None else f"{error.filename}: "
        click.echo(f"Error: {where}the operating system refused to go on ({error.strerror}).", err=True)
        sys.exit(1)
