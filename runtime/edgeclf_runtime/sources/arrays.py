"""Arrays of events as other packages lay them out, as `Events`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeclf_runtime.errors import UsageError
from edgeclf_runtime.events import Events
from edgeclf_runtime.sources.checked import GivenEvents

POLARITY_FIELDS = ("p", "on", "polarity")
FARTHEST = 0xFFFF  # no sensor reaches so far, so what is put here counts as outside


class IteratorSource(GivenEvents):
    """The events that any Python iterator gives: a camera's own driver, a simulator, a queue.

    Each item is a batch, in one of these forms, its events in time order:

    - `Events`,
    - a structured array with the integer fields `t` (µs), `x`, `y` and one of `p`, `on` and `polarity`,
    - a tuple of the four arrays `t`, `x`, `y`, `p`.

    An event is positive where its polarity is over 0. `close` takes effect once the iterator gives its next batch, so
    one that waits should give an empty batch now and then.

    Args:
        iterable: What gives the batches.
        sensor_size: Width and height of the sensor.
        name: What predictions and errors call it.
        is_live: Whether it gives events as they happen.

    Raises:
        UsageError: While it is read, where a batch has none of these forms.

    Examples:
        >>> batch = (np.array([10, 20]), np.array([3, 4]), np.array([5, 6]), np.array([0, 1]))
        >>> source = IteratorSource([batch], sensor_size=(32, 24))
        >>> [events.t.tolist() for events in source]
        [[10, 20]]
    """

    def __init__(
        self, iterable: Iterable[Any], sensor_size: tuple[int, int], name: str = "python", is_live: bool = False
    ) -> None:
        if min(sensor_size) < 1:
            raise UsageError(f"A sensor of {sensor_size[0]}×{sensor_size[1]} (width × height) has no pixels.")
        super().__init__(name, sensor_size)
        self.is_live = is_live
        self._iterable = iterable

    def _batches(self) -> Iterator[Events]:
        for index, batch in enumerate(self._iterable):
            try:
                yield as_events(batch)
            except ValueError as error:
                raise UsageError(
                    f"Batch {index} of {self.name} holds no events that can be read: {error}; give Events, a "
                    "structured array with the fields t, x, y and p, or a tuple of those four arrays."
                ) from None


def as_events(batch: Any) -> Events:
    """Returns a batch as `Events`; see `IteratorSource` for the forms that it may have.

    Coordinates that do not fit become such as lie outside of every sensor.

    Raises:
        ValueError: Where it has none of these forms; the message says what is wrong.
    """
    if isinstance(batch, Events):
        return batch
    if isinstance(batch, tuple):
        if len(batch) != 4:
            raise ValueError(f"it is a tuple of {len(batch)}, not of 4")
        t, x, y, p = (np.asarray(part) for part in batch)
    else:
        names = getattr(getattr(batch, "dtype", None), "names", None)
        if names is None:
            raise ValueError(f"it is of type {type(batch).__name__} without named fields")
        polarity = next((name for name in POLARITY_FIELDS if name in names), "p")
        if missing := [name for name in ("t", "x", "y", polarity) if name not in names]:
            raise ValueError(f"it has the fields {', '.join(names)}, and lacks {', '.join(missing)}")
        t, x, y, p = (batch[name] for name in ("t", "x", "y", polarity))
    for name, values, kinds in (("t", t, "iu"), ("x", x, "iu"), ("y", y, "iu"), ("p", p, "iub")):
        is_wrong = values.size and values.dtype.kind not in kinds  # of nothing, NumPy makes floats
        if is_wrong or values.shape != t.shape or t.ndim != 1:
            raise ValueError(f"{name} is of type {values.dtype} and shape {values.shape}, t of shape {t.shape}")
    # Copies, since packages fill the same memory again with the next batch.
    return Events(t.astype(np.int64), _coordinates(x), _coordinates(y), (p > 0).astype(np.uint8))


def _coordinates(values: NDArray[Any]) -> NDArray[np.uint16]:
    if values.dtype != np.uint16 and values.size and not 0 <= values.min() <= values.max() <= FARTHEST:
        values = np.where((values < 0) | (values > FARTHEST), FARTHEST, values)
    return values.astype(np.uint16)
