"""Is a written file still the classifier that was trained? Chained steps beside PyTorch, state by state."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from edgeclf.models import Classifier, mask_state
from edgeclf_export.invariants import broken_invariants
from edgeclf_runtime.comparison import Comparer, Comparison
from edgeclf_runtime.contract import EVENTS, KEEP_MEMORY, LOGITS, PROBABILITIES, Contract
from edgeclf_runtime.events.batch import Events
from edgeclf_runtime.golden import Array, ChainedStep, GoldenVectors, Step
from edgeclf_runtime.precision import PRECISIONS
from edgeclf_runtime.preprocessing import create_preprocessing
from edgeclf_runtime.preprocessing.resize import area_resize

STEPS = 60
"""Chained steps at each batch size."""

BATCHES = (1, 3)
_RESET_EVERY = 17
_INVARIANT_STEPS = 4

_GOLDEN_STEPS = 12
_GOLDEN_RESET_EVERY = 7
_GOLDEN_STREAMS = 2

_ACTIVE = (0.05, 0.01, 0.15)
"""Share of a frame's values that are not zero, in frames that no camera made; one stream differs from the next."""


_EMPTY = 0.1
"""Share of slices of events that have none."""

_PADDING = 5


@dataclass(frozen=True)
class Stimulus:
    """What goes into one step.

    Attributes:
        first: The graph's first input: `frames`, or the `events` that they are made of.
        frames: `[B, C, H, W]`, float32.
        keep: `[B]`, 0 where a stream starts anew.
    """

    first: Array
    frames: Array
    keep: Array


def validate(step: Step, contract: Contract, classifier: Classifier, recordings: Sequence[Array] = ()) -> Comparison:
    """Runs a written file beside PyTorch, each fed its own state back.

    Streams are reset now and then, one at a time and each at another step.

    Args:
        step: The loaded file.
        contract: What is inside it.
        classifier: The trained classifier, in evaluation mode; left as it is.
        recordings: Event frames `[T, C, H, W]` of some recordings; where there are none, the frames are sparse, as
            those of an event camera are, but made up.
    """
    comparer = Comparer(PRECISIONS[contract.precision])
    for batch in (contract.batch,) if contract.batch else BATCHES:
        file, reference = ChainedStep(step, contract, batch), _Reference(classifier, contract, batch)
        for stimulus in stimuli(contract, batch, STEPS, _RESET_EVERY, recordings):
            found = file(stimulus.first, stimulus.keep)
            right = reference(stimulus)
            for name, value, expected in zip(contract.output_names, found, right, strict=True):
                comparer.add(name, value, expected)
    few = [s.first for s in stimuli(contract, contract.batch or max(BATCHES), _INVARIANT_STEPS, STEPS, recordings)]
    return comparer.result(STEPS, broken_invariants(step, contract, few))


def golden_vectors(contract: Contract, classifier: Classifier, recordings: Sequence[Array] = ()) -> GoldenVectors:
    """Returns a short sequence of inputs and what PyTorch makes of them; see `edgeclf_runtime.golden`.

    A graph without `keep_memory` is given a sequence without resets.
    """
    batch = contract.batch or _GOLDEN_STREAMS
    every = _GOLDEN_RESET_EVERY if contract.keep_memory else _GOLDEN_STEPS + batch
    reference = _Reference(classifier, contract, batch)
    given, found = [], []
    for stimulus in stimuli(contract, batch, _GOLDEN_STEPS, every, recordings):
        given.append(stimulus)
        found.append([value.astype(np.float32) for value in reference(stimulus)])
    vectors: dict[str, Array] = {contract.takes: np.stack([stimulus.first for stimulus in given])}
    if KEEP_MEMORY in contract.input_names:
        vectors[KEEP_MEMORY] = np.stack([stimulus.keep for stimulus in given])
    vectors |= {name: np.stack([outputs[i] for outputs in found]) for i, name in enumerate((LOGITS, PROBABILITIES))}
    # For clients in other languages, which do not have the table.
    tolerance = PRECISIONS[contract.precision]
    vectors |= {f"tolerance.{name}": np.array(getattr(tolerance, name)) for name in ("max_absolute", "relative")}
    return vectors | dict(zip(contract.output_names[2:], found[-1][2:], strict=True))


def stimuli(
    contract: Contract, batch: int, steps: int, reset_every: int, recordings: Sequence[Array]
) -> Iterator[Stimulus]:
    """Yields what goes into each of some chained steps; the same for the same arguments every time."""
    rng = np.random.default_rng(batch)
    for k in range(steps):
        keep = np.array([float(k > 0 and (k + i) % reset_every != 0) for i in range(batch)], np.float32)
        if contract.takes == EVENTS:
            yield _events(contract, rng, keep)
            continue
        if recordings:
            frames = np.stack([_frame(recordings, i, k) for i in range(batch)])
        else:
            share = np.resize(_ACTIVE, (batch, 1, 1, 1))
            active = rng.random((batch, *contract.frame_shape), np.float32) < share
            frames = np.where(active, rng.random(active.shape, np.float32), np.float32(0))
        yield Stimulus(frames, frames, keep)


class _Reference:
    """The trained classifier in PyTorch, in float64, and the state of its streams.

    A cell state grows by up to 1 a step, and PyTorch's own float32 rounding, which is no fault of the file, came to
    0.8e-4 on a trained ConvRNN whose file was within 0.2e-4.
    """

    def __init__(self, classifier: Classifier, contract: Contract, batch: int) -> None:
        self._classifier = copy.deepcopy(classifier).double()
        self._names = [tensor.name for tensor in contract.state]
        self._state = self._classifier.initial_state(batch, *contract.frame_shape[1:])

    def __call__(self, stimulus: Stimulus) -> list[Array]:
        """Returns logits, probabilities and the next state, in the contract's order."""
        frames, keep = (torch.from_numpy(value).double() for value in (stimulus.frames, stimulus.keep))
        with torch.inference_mode():
            logits, self._state = self._classifier.step(frames, mask_state(self._state, keep))
            return [value.numpy() for value in (logits, logits.softmax(1), *(self._state[n] for n in self._names))]


def _frame(recordings: Sequence[Array], stream: int, k: int) -> Array:
    """Returns the k-th frame of a stream that plays one recording after the other, from another one each stream."""
    i = stream % len(recordings)
    while k >= len(recordings[i]):
        k -= len(recordings[i])
        i = (i + 1) % len(recordings)
    frame: Array = recordings[i][k]
    return frame


def _events(contract: Contract, rng: np.random.Generator, keep: Array) -> Stimulus:
    """Returns random events of one slice and their frame.

    A fifth of them lie on few pixels, so that these saturate; rows that are no events come after them, up to a length
    that is always the same; and some slices have no events at all.
    """
    assert contract.sensor_size is not None
    width, height = contract.sensor_size
    most = max(64, int(_ACTIVE[0] * width * height))
    size = most if rng.random() > _EMPTY else 0
    x, y = rng.integers(0, width, size), rng.integers(0, height, size)
    hot = rng.random(size) < 0.2
    x[hot], y[hot] = width // 2 + x[hot] % 2, height // 2
    polarity, t = rng.integers(0, 2, size), np.sort(rng.integers(0, contract.delta_t, size))
    preprocess = create_preprocessing(
        contract.preprocess, contract.sensor_size, contract.delta_t, **contract.preprocess_kwargs
    )
    events = Events(x=x.astype(np.uint16), y=y.astype(np.uint16), p=polarity.astype(np.uint8), t=t)
    frame = area_resize(preprocess(events, 0), *contract.frame_shape[1:])
    rows = np.full((most + _PADDING, 4), -1, np.int64)
    rows[:size] = np.stack([x, y, polarity, t], axis=1)
    return Stimulus(rows, frame[None], keep)
