"""Something open that two threads know of, and exactly one of them closes."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Held(Generic[Thing]):
    """Holds what is open until somebody takes it, who then closes it: who reads, else who closes without having read.

    Args:
        thing: What is open.
    """

    def __init__(self, thing: Thing) -> None:
        self._thing: Thing | None = thing
        self._lock = threading.Lock()

    def take(self) -> Thing | None:
        """Returns it to the first who asks, then None."""
        with self._lock:
            thing, self._thing = self._thing, None
        return thing
