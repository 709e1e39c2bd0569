"""Checking the arguments of preprocessings; they come out of JSON, HDF5 and checkpoints, as Python's or NumPy's own."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np

from edgeclf_runtime.errors import UsageError

# A bool is a number to Python, but `true` where a file should hold a number is a mistake; and 1 is no flag.


def whole_number(preprocessing: str, argument: str, value: object, lowest: int, highest: int | None = None) -> int:
    """Returns `value` as an int.

    Args:
        preprocessing: Name of the preprocessing, for the error.
        argument: Name of the argument, for the error.
        value: What was given.
        lowest: The lowest value allowed.
        highest: The highest value allowed; None: any.

    Raises:
        UsageError: Where it is none, or out of range.
    """
    if (
        not isinstance(value, Integral)
        or isinstance(value, bool)
        or int(value) < lowest
        or (highest is not None and int(value) > highest)
    ):
        allowed = f"{lowest} or more" if highest is None else f"from {lowest} to {highest}"
        raise UsageError(f"{preprocessing}: {argument} must be a whole number, {allowed}, not {value!r}.")
    return int(value)


def positive_number(preprocessing: str, argument: str, value: object) -> float:
    """Returns `value` as a float.

    Args:
        preprocessing: Name of the preprocessing, for the error.
        argument: Name of the argument, for the error.
        value: What was given.

    Raises:
        UsageError: Where it is no number from 1e-6 to 1e9, which float32 takes with room to spare for a sum of
            contributions.
    """
    if not isinstance(value, Real) or isinstance(value, bool) or not 1e-6 <= float(value) <= 1e9:
        raise UsageError(f"{preprocessing}: {argument} must be a number from 1e-6 to 1e9, not {value!r}; 5 is usual.")
    return float(value)


def flag(preprocessing: str, argument: str, value: object) -> bool:
    """Returns `value` as a bool.

    Args:
        preprocessing: Name of the preprocessing, for the error.
        argument: Name of the argument, for the error.
        value: What was given.

    Raises:
        UsageError: Where it is neither true nor false.
    """
    if not isinstance(value, bool | np.bool_):
        raise UsageError(f"{preprocessing}: {argument} must be true or false, not {value!r}.")
    return bool(value)
