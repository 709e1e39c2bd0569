"""What installed packages announce by entry points: found by name, and imported only when it is asked for.

The group of the entry points is called after what they make: `edgeclf.source` has sources.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from edgeclf_runtime.errors import UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints


def announced_names(group: str) -> list[str]:
    """Returns the names that installed packages announce in a group, sorted; nothing of those packages is imported."""
    return sorted(_entry_points(group).names)


def load_announced(group: str, name: str) -> Callable[..., Any] | None:
    """Imports what an installed package announces by a name in a group, and nothing else; None where none does.

    Raises:
        UsageError: Where two packages announce it, or what is announced cannot be loaded.
    """
    found = list(_entry_points(group).select(name=name))
    if not found:
        return None
    kind = group.rpartition(".")[2]
    if len(found) > 1:
        packages = ", ".join(sorted(map(_package, found)))
        raise UsageError(f"Several installed packages announce a {kind} called {name}: {packages}; keep one.")
    (entry,) = found
    what = f"The {kind} {name}, which the package {_package(entry)} announces as {entry.value},"
    try:
        factory: Callable[..., Any] = entry.load()
    except Exception as error:  # whatever a module that is not ours may raise while it is imported
        raise UsageError(
            f"{what} cannot be loaded ({type(error).__name__}: {error}); mend or uninstall that package."
        ) from error
    if not callable(factory):
        raise UsageError(f"{what} is of type {type(factory).__name__} and makes nothing; mend that package.")
    return factory


def _entry_points(group: str) -> EntryPoints:
    from importlib.metadata import entry_points  # takes longer to import than a recording to open

    return entry_points(group=group)


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else "of unknown name"
