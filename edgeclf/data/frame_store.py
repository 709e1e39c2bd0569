"""Recordings as event frames that can be read at any place, whether from a tensor file or made as they are read."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class FrameStore(Protocol):
    """The frames of an open recording; `edgeclf_runtime.tensor_file.TensorFile` is one."""

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Returns frames `start` to `stop` (not included; cut at the recording's end), `[n, C, H, W]`."""

    def close(self) -> None:
        """Lets go of what is open."""


class FramesInMemory:
    """All frames of a recording; a `FrameStore`.

    Args:
        store: Where they are read from, once; closed afterwards.
        count: How many there are.
    """

    def __init__(self, store: FrameStore, count: int) -> None:
        try:
            self._frames = store.read(0, count)
        finally:
            store.close()

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Returns frames `start` to `stop` (not included; cut at the recording's end), `[n, C, H, W]`."""
        return self._frames[start:stop]

    def close(self) -> None:
        """Does nothing: nothing is open."""


class OpenStores:
    """Keeps the recordings open that were read last, in each process its own.

    It can be handed to another process: there, it has nothing open. HDF5 must not share an open file with a process
    that was forked off.

    Args:
        openers: What opens each recording.
        capacity: How many stay open.
    """

    def __init__(self, openers: list[Callable[[], FrameStore]], capacity: int) -> None:
        self._openers = openers
        self._capacity = capacity
        self._forget()

    def __getitem__(self, recording: int) -> FrameStore:
        """Returns a recording, opened where it is not."""
        if self._process != os.getpid():
            self._forget()
        if recording not in self._open:
            while len(self._open) >= self._capacity:
                self._open.popitem(last=False)[1].close()
            self._open[recording] = self._openers[recording]()
        self._open.move_to_end(recording)
        return self._open[recording]

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_open": OrderedDict()}

    def _forget(self) -> None:
        self._open: OrderedDict[int, FrameStore] = OrderedDict()
        self._process = os.getpid()
