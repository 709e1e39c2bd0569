"""The errors that edgeclf raises for its users.

Every message is a sentence that says what is wrong, with which file, and what to do about it. Each class carries the
exit code with which the command line ends::

    EdgeclfError                1   a job failed
    ├── CheckFailedError        1   a check (export validation, parity) did not pass
    ├── DamagedInputError       1   an input is damaged; what was whole in it has been processed
    ├── MissingPackageError     1   an optional dependency is not installed
    ├── DeviceError             1   the device that was asked for cannot be used
    └── UsageError              2   wrong usage: a file, an option or a combination that cannot work
        ├── InputFileError      2   a file that is not there, or is not what it should be
        └── ContractError       2   an exported model without a contract that this version knows
"""

from __future__ import annotations


class EdgeclfError(Exception):
    """Base class of all errors that edgeclf raises on purpose; its message is a sentence for the user."""

    exit_code: int = 1


class CheckFailedError(EdgeclfError):
    """A check (export validation, KPI parity) ran and did not pass."""


class DamagedInputError(EdgeclfError):
    """An input is damaged; what was whole in it has been processed."""


class MissingPackageError(EdgeclfError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class DeviceError(EdgeclfError):
    """The device that was asked for cannot be used."""


class UsageError(EdgeclfError):
    """Wrong usage: a file, an option or a combination of them that cannot work."""

    exit_code = 2


class InputFileError(UsageError):
    """A file that does not exist, or is not what it should be."""


class ContractError(UsageError):
    """An exported model that carries no edgeclf contract, or one that this version does not know."""
