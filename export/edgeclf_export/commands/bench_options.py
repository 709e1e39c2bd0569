"""The options of `edgeclf bench`, in groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import click
from click.core import ParameterSource

from edgeclf.data.dataset import Split
from edgeclf_export.benchmark.recommend import TOLERANCE
from edgeclf_export.benchmark.request import RUNTIME, Against
from edgeclf_runtime.benchmark.run import Plan
from edgeclf_runtime.commands.option_groups import option_group
from edgeclf_runtime.errors import UsageError

_NOT_GIVEN = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


class _Share(click.ParamType[float]):
    """A share: `10%` or `0.1`."""

    name = "share"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> float:
        try:
            text = str(value)
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
            if not 0 <= share < float("inf"):
                raise ValueError(value)
        except ValueError:
            self.fail(f"{value!r} is no share, such as 10% or 0.1.", parameter, context)
        return share


Mode = Literal["measure", "recommend", "show", "compare"]

_RESULTS = ("json_path", "markdown")
_HOW_MUCH = ("model", "thread_counts", "frames", "rounds", "processes", "warmup", "source")
_WHERE = ("device", "provider", "provider_options", "allow_cpu_fallback", "tf32", "bfloat16")

_TAKEN: dict[Mode, Sequence[str]] = {
    "measure": (*_RESULTS, *_HOW_MUCH, *_WHERE, "also_on", "against", "checkpoint", "baseline", "streams", "no_limit",
                "paced", "paced_frames", "report"),
    "recommend": (*_RESULTS, *_HOW_MUCH, "recommend", "split", "tolerance", "profile", "device"),
    "show": (*_RESULTS, "show", "report"),
    "compare": (*_RESULTS, "compared", "fail_over"),
}  # fmt: skip
"""The parameters that have a meaning in each mode."""

_CALLED: dict[Mode, str] = {
    "measure": "MODEL alone", "recommend": "--recommend", "show": "--show", "compare": "--compare",
}  # fmt: skip


def mode_of(context: click.Context) -> Mode:
    """Returns what `edgeclf bench` was asked to do.

    Raises:
        UsageError: Where that is not one thing, or something was given that has no meaning there.
    """
    given = {
        parameter.name: parameter.opts[0] if isinstance(parameter, click.Option) else "MODEL"
        for parameter in context.command.params
        if parameter.expose_value
        and context.get_parameter_source(parameter.name or "") not in (None, *_NOT_GIVEN)
        and context.params.get(parameter.name or "") not in ((), None)
    }
    asked = [name for name in ("model", "show", "compared") if name in given]
    if len(asked) != 1:
        raise UsageError(
            "Give exported models to measure, or --show FILE.json, or --compare OLD.json NEW.json"
            + (f"; not {' and '.join(given[name] for name in asked)}." if asked else ".")
        )
    modes: dict[str, Mode] = {"compared": "compare", "show": "show", "model": "measure"}
    mode = "recommend" if asked == ["model"] and "recommend" in given else modes[asked[0]]
    for name, option in given.items():
        if name not in _TAKEN[mode]:
            others = " and ".join(called for other, called in _CALLED.items() if name in _TAKEN[other])
            raise UsageError(f"{option} goes with {others}, and has no meaning with {_CALLED[mode]}; leave it out.")
    if "paced_frames" in given and "paced" not in given:
        raise UsageError("--paced-frames is how long paced bursts are; give --paced, too.")
    return mode


def _plan(frames: int, rounds: int, processes: int, warmup: int, paced: bool, paced_frames: int) -> Plan:
    return Plan(frames, rounds, processes, warmup, paced_frames if paced else None)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Adds options to a command, in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


beside_options = _options(
    click.option("--against", type=click.Choice(get_args(Against)), multiple=True,
                 help="Measure this beside the runtime; may be repeated. ort: bare session.run; openvino; in PyTorch, "
                      "with --checkpoint: eager, torchscript, compile, and metavision, which hides its memory."),
    click.option("--checkpoint", type=click.Path(path_type=Path), metavar="CKPT",
                 help="The checkpoint of the (first) MODEL, for the sides that run in PyTorch."),
    click.option("--baseline", default=RUNTIME, show_default=True, metavar="NAME",
                 help="What the others are compared with: edgeclf, or one of --against."),
)  # fmt: skip

how_much_options = _options(
    click.option("--also-on", multiple=True, metavar="NAME",
                 help="Measure on this device in the same run, too: cpu, cuda, or an execution provider by its name; "
                      "may be repeated."),
    click.option("--threads", "thread_counts", type=click.IntRange(min=1), multiple=True,
                 help="Threads of a step on the CPU, by default one for each core, with --recommend 1, 2, 4 and so on "
                      "up to that; may be repeated."),
    click.option("--streams", type=click.IntRange(min=1), multiple=True, default=(1,), show_default=True,
                 help="Streams that a step runs; may be repeated."),
    option_group(
        "plan",
        _plan,
        click.option("--frames", type=click.IntRange(min=1), default=50, show_default=True, help="Steps of a burst."),
        click.option("--rounds", type=click.IntRange(min=2), default=8, show_default=True,
                     help="Bursts of each process. In a round each process of each candidate has one, in shuffled "
                          "order."),
        click.option("--processes", type=click.IntRange(min=1), default=3, show_default=True,
                     help="Processes of each candidate: now and then a whole process is slow."),
        click.option("--warmup", type=click.IntRange(min=0), default=20, show_default=True,
                     help="Steps before the bursts, besides the first one, which stands by itself."),
        click.option("--paced", is_flag=True,
                     help="Measure bursts with a frame every delta_t, too, between which the cores go to sleep."),
        click.option("--paced-frames", type=click.IntRange(min=1), default=30, show_default=True,
                     help="Steps of such a burst."),
    ),
    click.option("--source", type=click.Path(path_type=Path), metavar="FILE",
                 help="Recording, or tensor file, that the event frames are of; by default the sample recording."),
    click.option("--no-limit", is_flag=True, help="Do not measure the best rate that the machine reaches."),
)  # fmt: skip

recommend_options = _options(
    click.option("--recommend", type=click.Path(path_type=Path), metavar="DATASET",
                 help="Find which MODEL, on which device, with how many threads, is the fastest whose KPIs on this "
                      "data set stay near the fp32 file's; write it as a profile for run-stream. With --device "
                      "that one alone is tried."),
    click.option("--split", type=click.Choice(get_args(Split)), default="test", show_default=True,
                 help="With --recommend: the data set's split."),
    click.option("--tolerance", type=_Share(), default=TOLERANCE, show_default=True, metavar="SHARE",
                 help="With --recommend: by how much a KPI may be below the fp32 file's."),
    click.option("--profile", type=click.Path(path_type=Path), metavar="FILE",
                 help="With --recommend: where the profile goes; by default NAME.profile.json beside the first MODEL."),
)  # fmt: skip

results_options = _options(
    click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE",
                 help="Write the tables as Markdown; - for standard output."),
    click.option("--report", type=click.Path(path_type=Path), metavar="DIR",
                 help="Write bench.html there; needs edgeclf[report]."),
    click.option("--show", type=click.Path(path_type=Path), metavar="FILE.json",
                 help="Measure nothing: show what an earlier run has written with --json."),
    click.option("--compare", "compared", type=click.Path(path_type=Path), nargs=2, metavar="OLD.json NEW.json",
                 help="Measure nothing: say what got slower between two runs, beyond noise."),
    click.option("--fail-over", type=_Share(), metavar="SHARE",
                 help="With --compare: exit code 1 where something got slower beyond noise and by more than this, such "
                      "as 10%."),
)  # fmt: skip
