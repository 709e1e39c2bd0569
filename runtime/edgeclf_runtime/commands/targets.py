"""Where a command writes, checked before its work: neither over what it reads nor two results to one place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeclf_runtime.console import check_can_write
from edgeclf_runtime.errors import UsageError


def check_targets(targets: Sequence[str | Path | None], inputs: Sequence[str | Path]) -> None:
    """Raises where a file cannot be written, is one that is read, or is to be written twice.

    Args:
        targets: What is written; `-` is standard output, None is left out.
        inputs: What is read; `-` is standard input.

    Raises:
        UsageError: Where one of them is in the way.
    """
    given = [target for target in targets if target is not None]
    for k, target in enumerate(given):
        check_can_write(target)
        if any(is_same_file(target, other) for other in given[:k]):
            raise UsageError(f"{target}: two results cannot both be written there; give another place for one.")
        if any(str(path) != "-" and is_same_file(target, path) for path in inputs):
            raise UsageError(f"{target}: this would overwrite what is read; give another place to write to.")


def is_same_file(one: str | Path, other: str | Path) -> bool:
    """Whether two names mean one file, be it there or not."""
    if Path(one).is_file() and Path(other).is_file():
        return Path(one).samefile(other)
    return Path(one).resolve() == Path(other).resolve()
