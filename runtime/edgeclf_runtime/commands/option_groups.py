"""Options that belong together: a command gets what they make as one object."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar, cast, get_args

import click
from click.core import ParameterSource

from edgeclf_runtime.backends import Device, DeviceOptions
from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.streaming import MemoryPolicy, StreamOptions, WhenLate, memory_policy
from edgeclf_runtime.streaming.memory import MemoryPolicyName

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def option_group(
    name: str, make: Callable[..., object], *options: Callable[[Any], Any]
) -> Callable[[Decorated], Decorated]:
    """Adds options to a command, which gets what `make` makes of them as the argument `name`.

    Args:
        name: The command's argument.
        make: Takes the options' values by the names of its parameters; those without an option keep their defaults.
        options: What `click.option` returns.
    """
    taken = inspect.signature(make).parameters

    def decorate(command: Any) -> Any:
        @functools.wraps(command)
        def wrapped(*arguments: Any, **given: Any) -> Any:
            own = {parameter: given.pop(parameter) for parameter in taken if parameter in given}
            return command(*arguments, **given, **{name: make(**own)})

        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped

    return decorate


class _Number(click.FloatRange):
    """A number in a range; `nan` lies in none."""

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        number = float(super().convert(value, parameter, context))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", parameter, context)
        return number


def _name_and_value(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Reads `NAME=VALUE`, any number of times."""
    found = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE, such as device_id=1.")
        found[name] = value
    return found


_WHERE = (
    click.option("--provider", metavar="NAME",
                 help="Run on this execution provider of ONNX Runtime, e.g. TensorrtExecutionProvider; instead of "
                      "--device."),
    click.option("--provider-option", "provider_options", metavar="NAME=VALUE", multiple=True,
                 callback=_name_and_value,
                 help="Option of the execution provider, as ONNX Runtime calls it, e.g. device_id=1; may be repeated."),
    click.option("--allow-cpu-fallback", is_flag=True,
                 help="Run on the CPU, with a warning, where what was asked for does not start."),
    click.option("--tf32", is_flag=True, help="Let CUDA multiply in TF32: faster, and less exact."),
    click.option("--bfloat16", is_flag=True,
                 help="Let OpenVINO compute in bfloat16 on CPUs that have it: faster, and less exact."),
)  # fmt: skip
_THREADS = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads of one step on the CPU; by default as many as the process may use cores.",
)


def device_options(default: Device = "auto", with_threads: bool = True) -> Callable[[Decorated], Decorated]:
    """Adds the options that say where a model runs to a command, which gets them as the argument `device_options`.

    Args:
        default: Where it runs unless the command line says.
        with_threads: Whether `--threads` is one of them.
    """

    def make(
        device: Device | None,
        provider: str | None,
        provider_options: dict[str, str],
        allow_cpu_fallback: bool,
        tf32: bool,
        bfloat16: bool,
        threads: int | None = None,
    ) -> DeviceOptions:
        # A provider stands in a device's place, so the default gives way to it.
        chosen = device or ("auto" if provider else default)
        return DeviceOptions(
            chosen, threads, provider, provider_options, allow_cpu_fallback, tf32=tf32, bfloat16=bfloat16
        )

    device_option = click.option(
        "--device",
        type=click.Choice(get_args(Device)),
        help=f"Where to run, by default {default}. cuda is an error where it does not start; auto says what it chose.",
    )
    return option_group("device_options", make, device_option, *([_THREADS] if with_threads else []), *_WHERE)


def given_over(before: DeviceOptions, given: DeviceOptions, context: click.Context) -> DeviceOptions:
    """Returns device options of which those that the command line names replace those of a profile.

    A device takes the place of a provider and the other way round; the options of the provider go with what they were
    for, and those of one that stays are added to.

    Args:
        before: The profile's.
        given: The command line's, as `device_options` makes them.
        context: The command's.
    """
    own = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)
    named = {
        option.name: getattr(given, option.name)
        for option in fields(DeviceOptions)
        if context.get_parameter_source(option.name) not in (None, *own)
    }
    if "device" in named or "provider" in named:
        before = replace(before, device="auto", provider=None, provider_options={})
    if "provider_options" in named:
        named["provider_options"] = {**before.provider_options, **given.provider_options}
    return replace(before, **named)


def _memory_policies(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[MemoryPolicy, ...]:
    """Reads `never`, `every:FRAMES`, or `low-activity[:FRAMES[:LEVEL]]`, any number of times."""
    return tuple(map(_memory_policy, values))


def _memory_policy(text: str) -> MemoryPolicy:
    name, *numbers = text.split(":")
    try:
        if name not in get_args(MemoryPolicyName) or len(numbers) > 2:
            raise ValueError(name)
        frames = int(numbers[0]) if numbers else None
        level = float(numbers[1]) if len(numbers) > 1 else None
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is none of never, every:FRAMES and low-activity[:FRAMES[:LEVEL]], such as every:100."
        ) from None
    try:
        return memory_policy(cast("MemoryPolicyName", name), frames, level)
    except UsageError as error:
        raise click.BadParameter(str(error)) from error


def _stream_options(
    threshold: float,
    realtime: bool,
    when_late: WhenLate,
    max_wait_ms: float | None,
    memory: tuple[MemoryPolicy, ...],
    stall_after_s: float,
) -> StreamOptions:
    return StreamOptions(
        threshold=threshold,
        realtime=realtime,
        when_late=when_late,
        max_wait_s=None if max_wait_ms is None else max_wait_ms / 1000,
        memory=memory[0] if len(memory) == 1 else memory,
        stall_after_s=stall_after_s,
    )


stream_options = option_group(
    "stream_options",
    _stream_options,
    click.option("--threshold", type=_Number(0, 1), default=0.0, show_default=True,
                 help="Score that a prediction needs to be accepted."),
    click.option("--realtime", is_flag=True,
                 help="Play recordings at the sensor's speed, not as fast as they can be read."),
    click.option("--when-late", type=click.Choice(get_args(WhenLate)), default="block", show_default=True,
                 help="What to do with live sources, and with --realtime, when the model cannot keep up: let the "
                      "source wait, leave the oldest time slice out, or make one frame of the events of several."),
    click.option("--max-wait-ms", type=_Number(min=0),
                 help="How long a frame waits at most for those of other streams, to be run with them. By default "
                      "recordings go frame by frame together, and all else waits 2 ms."),
    click.option("--memory", metavar="POLICY", multiple=True, default=("never",), show_default=True,
                 callback=_memory_policies,
                 help="When a stream's memory is cleared: never, every:FRAMES, or low-activity[:FRAMES[:LEVEL]], once "
                      "so many frames in a row have had a smaller share than LEVEL of active pixels (default "
                      "low-activity:20:0.01). Give it once for all sources, or once for each."),
    click.option("--stall-after-s", type=_Number(min=0, min_open=True), default=5.0, show_default=True,
                 help="Report a source from which nothing has come for so many seconds."),
)  # fmt: skip
"""The options that say how streams are run, as the argument `stream_options`."""
