"""The state of streams in ONNX Runtime's memory on the device, which no step copies.

Every state tensor has some buffers with a row for each stream. A step reads its streams' rows in one of them and writes
those in another, which is why it needs two; in which one a stream's state lies after that is remembered here. Streams
beside each other whose state lies in the same buffer go through the graph together, as a range of rows is one address
and a number of rows. The CPU's memory is used as CUDA's is.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeclf_runtime.backends.base import Array, StreamMemory
from edgeclf_runtime.backends.providers import import_onnxruntime
from edgeclf_runtime.contract import FRAMES, KEEP_MEMORY, LOGITS, PROBABILITIES, Contract

if TYPE_CHECKING:
    from edgeclf_runtime.backends.onnx_runtime import OnnxRuntimeBackend

_ZEROS = -1
"""The place of the state of a stream that starts anew: the last of a tensor's buffers, which nothing writes."""

_ALIGNMENT = 256
"""Bytes at a multiple of which TensorRT wants every address; cuDNN is content with 16."""

_MOST_BINDINGS = 16
"""Bindings kept for later steps, of which each holds the frames that it was last used for. Streams in step need 9."""


def rows_are_aligned(contract: Contract) -> bool:
    """Whether every row of every state tensor starts where GPUs want an address, whatever its number."""
    size = np.dtype(contract.state_type).itemsize
    return all(prod(tensor.shape) * size % _ALIGNMENT == 0 for tensor in contract.state)


class _Buffers(StreamMemory):
    """The buffers of all state tensors, and one run of the graph from a place in them to another.

    Args:
        backend: Runs the graph.
        rows: Rows of every buffer.
        count: Number of buffers that are written.
    """

    def __init__(self, backend: OnnxRuntimeBackend, rows: int, count: int) -> None:
        contract = backend.contract
        self._backend = backend
        self._contract = contract
        # Every other provider takes the CPU's memory, and copies it where it wants it when it is bound.
        self._device, self._number = ("cuda", backend.gpu) if backend.device == "cuda" else ("cpu", 0)
        self._edge_type, self._state_type = np.dtype(contract.edge_type).type, np.dtype(contract.state_type).type
        self._ones = self._on_device(np.ones(rows, self._edge_type))
        largest = max((prod(tensor.shape) for tensor in contract.state), default=1)
        zeros = self._on_device(np.zeros(rows * largest, self._state_type))  # of all tensors
        self._values = [
            [*(self._on_device(np.zeros((rows, *tensor.shape), self._state_type)) for _ in range(count)), zeros]
            for tensor in contract.state
        ]
        # The outputs of every step come here, and are copied from here: to bind them anew costs more than K numbers.
        self._outputs = [np.zeros((rows, len(contract.labels)), self._edge_type) for _ in range(2)]
        self._bindings: dict[tuple[int, int, int, int], Any] = {}

    def _on_device(self, value: Array) -> Any:
        return import_onnxruntime().OrtValue.ortvalue_from_numpy(value, self._device, self._number)

    def _run(self, frames: Array, first: int, source: int, target: int) -> None:
        """Runs the streams from `first` on, a frame each, from their state in one buffer to another.

        Args:
            frames: `[n, C, H, W]`, contiguous.
            first: The first of `n` consecutive streams.
            source: The buffer of their state.
            target: The buffer for their next state.
        """
        place = (first, len(frames), source, target)
        binding = self._bindings.get(place)
        if binding is None:
            binding = self._bound(*place)
            if self._backend.device == "cpu":
                # Elsewhere, what a node wants on another device is copied there as it is bound, so that is done anew.
                if len(self._bindings) == _MOST_BINDINGS:
                    self._bindings.clear()
                self._bindings[place] = binding
        binding.bind_cpu_input(FRAMES, frames)
        self._backend.run_bound(binding)

    def _bound(self, first: int, count: int, source: int, target: int) -> Any:
        """Returns a binding of everything but the frames."""
        binding, place = self._backend.session.io_binding(), (self._device, self._number)
        if self._values:
            binding.bind_input(KEEP_MEMORY, *place, self._edge_type, (count,), self._ones.data_ptr())
        for tensor, values in zip(self._contract.state, self._values, strict=True):
            kind, shape = self._state_type, (count, *tensor.shape)
            offset = first * prod(tensor.shape) * np.dtype(kind).itemsize
            binding.bind_input(tensor.input_name, *place, kind, shape, values[source].data_ptr() + offset)
            binding.bind_output(tensor.output_name, *place, kind, shape, values[target].data_ptr() + offset)
        for name, output in zip((LOGITS, PROBABILITIES), self._outputs, strict=True):
            rows = output[first : first + count]
            binding.bind_output(name, "cpu", 0, self._edge_type, rows.shape, rows.ctypes.data)
        return binding


class DeviceMemory(_Buffers):
    """State on the device, for a graph that takes any number of streams.

    Streams need not be in step: one that was left out of a step lies in another buffer than its neighbours, so that the
    next step is two runs. With a third buffer, to which both are written, they are together again after it.

    Args:
        backend: Runs the graph.
        streams: Number of streams.
    """

    def __init__(self, backend: OnnxRuntimeBackend, streams: int) -> None:
        self._count = 2 if streams == 1 else 3
        super().__init__(backend, streams, self._count)
        self._place = [_ZEROS] * streams

    def step(self, frames: Array, streams: Sequence[int], keep: Sequence[bool]) -> tuple[Array, Array]:
        """Runs on one frame of each of some streams; see `StreamMemory.step`."""
        which = list(streams)
        places = [self._place[stream] if kept else _ZEROS for stream, kept in zip(which, keep, strict=True)]
        emptiest = min(range(self._count), key=places.count)
        begin = 0
        for end in range(1, len(places) + 1):
            if end < len(places) and places[end] == places[begin] and which[end] == which[end - 1] + 1:
                continue
            source = places[begin]
            target = emptiest if source != emptiest else (emptiest + 1) % self._count
            self._run(frames[begin:end], which[begin], source, target)
            for stream in which[begin:end]:
                self._place[stream] = target
            begin = end
        logits, probabilities = (output[which] for output in self._outputs)
        return logits, probabilities

    def clear(self, streams: Sequence[int]) -> None:
        """Makes streams start anew; see `StreamMemory.clear`."""
        for stream in streams:
            self._place[stream] = _ZEROS


class FixedBatchMemory(_Buffers):
    """State on the device, for a graph that takes the same number of streams in every step.

    Every step runs all rows. The state of streams without a frame in it is put back after it, through the host, and a
    single stream is cleared there too. Both cost a copy of the whole state.

    Args:
        backend: Runs the graph.
        streams: Number of streams, at most the graph's.
    """

    def __init__(self, backend: OnnxRuntimeBackend, streams: int) -> None:
        assert backend.contract.batch is not None
        self._rows = backend.contract.batch
        super().__init__(backend, self._rows, 2)
        self._streams = streams
        self._place = _ZEROS

    def step(self, frames: Array, streams: Sequence[int], keep: Sequence[bool]) -> tuple[Array, Array]:
        """Runs on one frame of each of some streams; see `StreamMemory.step`."""
        self.clear([stream for stream, kept in zip(streams, keep, strict=True) if not kept])
        which = list(streams)
        whole = np.zeros((self._rows, *self._contract.frame_shape), self._edge_type)
        whole[which] = frames
        source, target = self._place, 1 if self._place == 0 else 0
        self._run(whole, 0, source, target)
        if absent := sorted({*range(self._streams)} - {*which}):
            for values in self._values:
                _overwrite(values[target], absent, 0 if source == _ZEROS else values[source].numpy()[absent])
        self._place = target
        logits, probabilities = (output[which] for output in self._outputs)
        return logits, probabilities

    def clear(self, streams: Sequence[int]) -> None:
        """Makes streams start anew; see `StreamMemory.clear`."""
        if len(set(streams)) == self._streams:
            self._place = _ZEROS
        elif streams and self._place != _ZEROS:
            for values in self._values:
                _overwrite(values[self._place], streams, 0)


def _overwrite(value: Any, rows: Sequence[int], content: Array | int) -> None:
    """Overwrites some rows of an OrtValue, wherever it lies."""
    whole = np.array(value.numpy())
    whole[list(rows)] = content
    value.update_inplace(whole)
