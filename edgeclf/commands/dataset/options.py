"""What the commands of `edgeclf dataset` share: the options that say how frames are made, and how a run ends."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import click

from edgeclf.data.conversion.frames import FrameRecipe, complete_arguments
from edgeclf_runtime.errors import DamagedInputError, EdgeclfError, UsageError
from edgeclf_runtime.preprocessing import preprocessing_names
from edgeclf_runtime.tensor_file import FrameMode

Command = Callable[..., Any]

workers_option = click.option(
    "--num-workers", type=click.IntRange(min=1), help="Processes; as many as it may use processors unless given."
)


@dataclass(frozen=True)
class FrameOptions:
    """What the options that `frame_options` adds say; None where one was not given.

    Those from `max_incr_per_pixel` on are arguments of preprocessings, by their own names.
    """

    preprocess: str
    delta_t: int
    store_as_uint8: bool
    preprocess_arg: tuple[str, ...]
    max_incr_per_pixel: float | None
    downsampling_factor: int | None
    neg_bit_len_quantized: int | None
    total_bit_len_quantized: int | None
    normalization_quantized: bool | None

    def recipe(
        self, frame_size: tuple[int, int] | None, mode: FrameMode = "delta_t", n_events: int | None = None
    ) -> FrameRecipe:
        """Returns the recipe that they describe.

        Raises:
            UsageError: Where the preprocessing does not take an argument that was given.
        """
        arguments = complete_arguments(self.preprocess, self._given())
        return FrameRecipe(
            self.preprocess, arguments, self.delta_t, frame_size, self.store_as_uint8, mode, n_events or 0
        )

    def _given(self) -> dict[str, Any]:
        named = {name: value for name in _ARGUMENTS if (value := getattr(self, name)) is not None}
        for text in self.preprocess_arg:
            name, equals, value = text.partition("=")
            if not equals or not name.isidentifier():
                raise UsageError(f"--preprocess-arg takes NAME=VALUE, such as num_utbins=4, and not {text!r}.")
            if name in named:
                raise UsageError(f"The argument {name} of the preprocessing is given twice; give it once.")
            named[name] = _plain_value(value)
        return named


_ARGUMENTS = tuple(field.name for field in fields(FrameOptions))[4:]


def frame_options(delta_t: int) -> Callable[[Command], Command]:
    """Adds the options that say how frames are made; the command gets them as one `FrameOptions`, called `frames`."""

    def add(command: Command) -> Command:
        @functools.wraps(command)
        def gathered(*args: Any, **values: Any) -> Any:
            own = {field.name: values.pop(field.name) for field in fields(FrameOptions)}
            return command(*args, frames=FrameOptions(**own), **values)

        wrapped: Command = gathered
        for option in reversed(_frame_options(delta_t)):
            wrapped = option(wrapped)
        return wrapped

    return add


def _frame_options(delta_t: int) -> list[Callable[[Command], Command]]:
    return [
        click.option("--preprocess", type=click.Choice(preprocessing_names()), default="histo", show_default=True,
                     help="How events become a frame."),
        click.option("--delta-t", type=click.IntRange(min=1), default=delta_t, show_default=True,
                     help="Duration of an event frame in µs."),
        click.option("--max-incr-per-pixel", type=click.FloatRange(min=0, min_open=True),
                     help="Events that saturate a pixel, at the sensor's resolution; 5 unless given."),
        click.option("--downsampling-factor", type=click.IntRange(min=0),
                     help="Make frames 2**FACTOR times smaller than the sensor as events are added up."),
        click.option("--neg-bit-len-quantized", type=click.IntRange(min=1),
                     help="Bits of the negative counter (histo_quantized), or of the only one (diff_quantized)."),
        click.option("--total-bit-len-quantized", type=click.IntRange(min=1),
                     help="Bits of both counters of a pixel (histo_quantized)."),
        click.option("--normalization-quantized", is_flag=True, default=None,
                     help="Divide counters by their highest value (histo_quantized, diff_quantized)."),
        click.option("--preprocess-arg", multiple=True, metavar="NAME=VALUE",
                     help="Another argument of the preprocessing, such as num_utbins=4; may be repeated."),
        click.option("--store-as-uint8", is_flag=True, help="Store values 0 to 1 as 0 to 255."),
    ]  # fmt: skip


def _plain_value(text: str) -> bool | int | float | str:
    """Returns what a text says: a number, true or false, in JSON's or Python's spelling, else the text itself."""
    try:
        value = json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text
    return value if isinstance(value, (bool, int, float, str)) else text


def raise_problems(problems: Sequence[str], errors: Sequence[EdgeclfError], made: int) -> None:
    """Ends a run in which something went wrong, after all that could be done was done; does nothing where all was well.

    Args:
        problems: What was wrong with inputs of which files were made all the same.
        errors: Why others were not made.
        made: Number of files that are there.

    Raises:
        UsageError: Where nothing was made, and all of it for wrong usage.
        DamagedInputError: Where anything else went wrong.
    """
    sentences = [*problems, *map(str, errors)]
    if not sentences:
        return
    if not made and all(isinstance(error, UsageError) for error in errors):
        raise UsageError("\n".join(sentences))
    raise DamagedInputError("\n".join(sentences))
