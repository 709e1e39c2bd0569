"""A batch of events, as four arrays of the same length."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Events in time order, one entry an event.

    Four arrays rather than one structured array: every step of decoding and preprocessing works on one field
    at a time, and NumPy does that several times faster on contiguous memory.

    Attributes:
        t: Time-stamp in µs, in the recording's own time, int64.
        x: Column, uint16, counted from the left.
        y: Row, uint16, counted from the top.
        p: Polarity, uint8: 1 where it got brighter, 0 where it got darker.
    """

    t: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.uint8]

    @classmethod
    def empty(cls) -> Events:
        """Returns a batch of no events."""
        return cls(np.empty(0, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint16), np.empty(0, np.uint8))

    @classmethod
    def concatenate(cls, batches: Iterable[Events]) -> Events:
        """Returns the events of `batches`, one batch after the other."""
        parts = list(batches)
        if not parts:
            return cls.empty()
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([b.t for b in parts]),
            np.concatenate([b.x for b in parts]),
            np.concatenate([b.y for b in parts]),
            np.concatenate([b.p for b in parts]),
        )

    def __len__(self) -> int:
        return self.t.size

    def __getitem__(self, which: slice | NDArray[np.bool_] | NDArray[np.intp]) -> Events:
        """Returns the events that a slice, a mask or an index array selects."""
        return Events(self.t[which], self.x[which], self.y[which], self.p[which])
