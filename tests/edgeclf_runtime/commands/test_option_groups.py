from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from edgeclf_runtime.backends import DeviceOptions
from edgeclf_runtime.commands.option_groups import device_options, option_group, stream_options
from edgeclf_runtime.streaming import ClearEvery, ClearOnLowActivity, NeverClear, StreamOptions


@pytest.fixture
def given():
    """Runs a command with both groups of options; returns what it was given, or how it complained."""
    seen = []

    @click.command()
    @click.argument("name")
    @device_options()
    @stream_options
    def command(name, device_options, stream_options):
        seen.append((name, device_options, stream_options))

    def run(*arguments):
        seen.clear()
        ended = CliRunner().invoke(command, ["a", *arguments])
        assert ended.exit_code in (0, 2)
        return seen[0][1:] if ended.exit_code == 0 else ended.output

    return run


def test_defaults_are_those_of_the_runtime(given):
    device, stream = given()
    assert device == DeviceOptions()
    assert stream == StreamOptions()


def test_device_options(given):
    device, _ = given(
        "--provider", "TensorrtExecutionProvider", "--provider-option", "device_id=1", "--provider-option", "a=b=c",
        "--threads", "3", "--allow-cpu-fallback", "--tf32", "--bfloat16",
    )  # fmt: skip
    assert device == DeviceOptions(
        threads=3,
        provider="TensorrtExecutionProvider",
        provider_options={"device_id": "1", "a": "b=c"},
        allow_cpu_fallback=True,
        tf32=True,
        bfloat16=True,
    )
    assert given("--device", "cuda")[0] == DeviceOptions("cuda")


def test_stream_options(given):
    _, stream = given(
        "--threshold", "0.5", "--realtime", "--when-late", "merge", "--max-wait-ms", "1.5", "--stall-after-s", "0.2"
    )
    assert stream == StreamOptions(0.5, realtime=True, when_late="merge", max_wait_s=0.0015, stall_after_s=0.2)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("never", NeverClear()),
        ("every:7", ClearEvery(7)),
        ("low-activity", ClearOnLowActivity()),
        ("low-activity:5", ClearOnLowActivity(frames=5)),
        ("low-activity:5:0.25", ClearOnLowActivity(level=0.25, frames=5)),
    ],
)
def test_memory_policies(given, text, policy):
    assert given("--memory", text)[1].memory == policy
    assert given("--memory", "never", "--memory", text)[1].memory == (NeverClear(), policy)


def test_help_states_the_defaults_of_low_activity():
    @click.command()
    @stream_options
    def command(stream_options):
        del stream_options

    default = ClearOnLowActivity()
    (memory,) = (option for option in command.params if option.name == "memory")
    assert f"low-activity:{default.frames}:{default.level:g}" in memory.help


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--memory", "often"], "'often' is none of never, every:FRAMES and low-activity[:FRAMES[:LEVEL]]"),
        (["--memory", ""], "'' is none of never"),
        (["--memory", "every:x"], "'every:x' is none of never"),
        (["--memory", "every:"], "'every:' is none of never"),
        (["--memory", "low-activity:5:0.1:3"], "'low-activity:5:0.1:3' is none of never"),
        (["--memory", "every"], "every wants a number of frames"),
        (["--memory", "every:0"], "counts 1 frame or more, not 0"),
        (["--memory", "every:3:0.1"], "A level of activity is for the memory policy low-activity"),
        (["--memory", "never:3"], "A number of frames is for"),
        (["--memory", "low-activity:3:2"], "over 0 up to 1: 2.0"),
        (["--memory", "low-activity:3:nan"], "over 0 up to 1: nan"),
        (["--provider-option", "device_id"], "'device_id' is not NAME=VALUE"),
        (["--provider-option", "=1"], "'=1' is not NAME=VALUE"),
        (["--threshold", "nan"], "'nan' is not a number"),
        (["--threshold", "1.1"], "1.1 is not in the range 0<=x<=1"),
        (["--max-wait-ms", "nan"], "'nan' is not a number"),
        (["--max-wait-ms", "-1"], "-1.0 is not in the range x>=0"),
        (["--stall-after-s", "0"], "0.0 is not in the range x>0"),
        (["--when-late", "skip"], "'skip' is not one of 'block', 'drop-oldest', 'merge'"),
    ],
)
def test_what_cannot_be_meant(given, arguments, says):
    said = given(*arguments)
    assert f"Invalid value for '{arguments[0]}'" in said
    assert says in " ".join(said.split())


def test_a_group_of_ones_own():
    @click.command()
    @option_group(
        "both", lambda one, two: one + two, click.option("--one", default=1), click.option("--two", default=2)
    )
    @click.option("--three", default=3)
    def command(both, three):
        """What it does."""
        click.echo(f"{both} {three}")

    assert CliRunner().invoke(command, ["--two", "5"]).output == "6 3\n"
    assert [option.name for option in command.params] == ["one", "two", "three"]
    assert command.help == "What it does."
