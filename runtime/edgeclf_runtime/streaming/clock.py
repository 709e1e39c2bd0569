"""The clock by which recordings are held back and latencies are told."""

from __future__ import annotations

import threading
import time


class Clock:
    """The machine's clock."""

    def now(self) -> float:
        """Returns the time in s; only differences mean anything."""
        return time.monotonic()

    def wait_until(self, then: float, unless: threading.Event) -> bool:
        """Waits until a time, or until an event is set, and returns whether it is."""
        return unless.wait(max(0.0, then - self.now()))
