from __future__ import annotations

import re

import pytest

from edgeclf_runtime import errors

TREE = {
    "EdgeclfError": (1, Exception),
    "CheckFailedError": (1, errors.EdgeclfError),
    "DamagedInputError": (1, errors.EdgeclfError),
    "MissingPackageError": (1, errors.EdgeclfError),
    "DeviceError": (1, errors.EdgeclfError),
    "UsageError": (2, errors.EdgeclfError),
    "InputFileError": (2, errors.UsageError),
    "ContractError": (2, errors.UsageError),
}


def test_there_are_these_errors_and_no_others():
    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert classes == set(TREE)


@pytest.mark.parametrize("name", TREE)
def test_exit_code_and_base(name):
    error = getattr(errors, name)
    assert (error.exit_code, error.__base__) == TREE[name]
    assert str(error("What is wrong.")) == "What is wrong."


def test_docstring_shows_the_tree_with_its_exit_codes():
    shown = re.findall(r"(\w+Error) +(\d) ", errors.__doc__)
    assert {name: int(code) for name, code in shown} == {name: code for name, (code, _) in TREE.items()}
