from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from edgeclf.commands.dataset.options import FrameOptions, frame_options, raise_problems
from edgeclf_runtime.errors import DamagedInputError, EdgeclfError, InputFileError
from edgeclf_runtime.preprocessing import preprocessing_names


@click.command()
@click.option("--first", default=1)
@frame_options(123)
@click.option("--last", default=2)
def shows(first: int, frames: FrameOptions, last: int) -> None:
    recipe = frames.recipe((3, 4))
    click.echo(f"{first} {last} {recipe.preprocess} {recipe.delta_t} {recipe.preprocess_kwargs} {recipe.frame_size}")


def test_the_command_gets_them_as_one_value_between_its_own() -> None:
    ran = CliRunner().invoke(shows, ["--last", "7"])
    assert ran.stdout == "1 7 histo 123 {'max_incr_per_pixel': 5.0, 'downsampling_factor': 0} (3, 4)\n"


def test_arguments_by_name() -> None:
    given = ["--preprocess", "timesurface", "--preprocess-arg", "normed=false", "--preprocess-arg"]
    ran = CliRunner().invoke(shows, [*given, "downsampling_factor=1"])
    assert ran.stdout == "1 2 timesurface 123 {'downsampling_factor': 1, 'normed': False} (3, 4)\n"


def test_help_names_every_preprocessing() -> None:
    assert len(preprocessing_names()) >= 7
    text = CliRunner().invoke(shows, ["--help"], terminal_width=200).output
    assert all(name in text for name in preprocessing_names())


@pytest.mark.parametrize(
    ("problems", "errors", "made", "exit_code"),
    [
        (["cut off."], [], 1, 1),
        ([], [InputFileError("none.")], 1, 1),
        ([], [InputFileError("none."), InputFileError("none.")], 0, 2),
        ([], [InputFileError("none."), DamagedInputError("damaged.")], 0, 1),
    ],
)
def test_how_a_run_with_problems_ends(
    problems: list[str], errors: list[EdgeclfError], made: int, exit_code: int
) -> None:
    with pytest.raises(EdgeclfError) as ended:
        raise_problems(problems, errors, made)
    assert str(ended.value).splitlines() == [*problems, *map(str, errors)]
    assert ended.value.exit_code == exit_code


def test_a_run_without_problems() -> None:
    raise_problems([], [], 0)
